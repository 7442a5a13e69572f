"""``--template``: designs of antibodies on the command line, with random weights."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from builders.antiberty import antiberty_folder
from builders.command_line import EXACT, run
from jumpsteps import load
from jumpsteps.cli.designs import is_sequence_file, sized_for_template, write_designs
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.tasks.antibodies import RESIDUES, read_sequences

TEMPLATE = "EVQLVYYC????WGQGT"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return antiberty_folder(tmp_path_factory.mktemp("wheel") / "antiberty")


def fits(sequence, template=TEMPLATE):
    pairs = zip(sequence, template, strict=True)
    return all(letter in RESIDUES if t == "?" else letter == t for letter, t in pairs)


@pytest.mark.slow
def test_designs_go_to_a_fasta_file_with_their_nll(tmp_path, capsys, folder):
    file = tmp_path / "designs.fasta"
    asked = ["sample", folder, "--template", TEMPLATE, "--nfe 2 -n 12 -o", file]
    code, out, err = run(capsys, *asked)
    assert (code, err) == (0, "")
    designs = read_sequences(file)
    assert len(designs) == 12
    assert all(fits(sequence) for _, sequence in designs)
    assert len({sequence for _, sequence in designs}) > 6
    header = (
        r"design-01 nll=\d+\.\d\d nats of 4 residues given the rest "
        r"\(any-order bound, K=16, seed 0\); NFE 2"
    )
    assert re.fullmatch(header, designs[0][0])
    nll = [float(re.search("nll=([0-9.]+)", name)[1]) for name, _ in designs]
    assert len(set(nll)) > 6
    assert out.splitlines()[0] == designs[0][1]
    mean = float(re.search("mean NLL ([0-9.]+) nats", out)[1])
    assert mean == pytest.approx(np.mean(nll), abs=0.02)
    before = file.read_text()
    assert run(capsys, *asked)[0] == 0
    assert file.read_text() == before


def test_a_design_has_the_same_nll_in_every_file(tmp_path, capsys, folder):
    found = {}
    for n, batch in ((3, 1), (6, 4)):
        file = tmp_path / f"{n}.fasta"
        options = f"--nfe 1 -n {40 * n} --batch {batch * 20} -o"
        assert run(capsys, "sample", folder, "--template", "A??", options, file)[0] == 0
        found[n] = {s: name.split("nll=")[1] for name, s in read_sequences(file)}
    both = found[3].keys() & found[6].keys()
    assert len(both) > 5
    assert all(found[3][s] == found[6][s] for s in both)


def test_tokens_without_a_template_and_whole_designs(tmp_path, capsys, folder):
    npz, fasta = tmp_path / "x.npz", tmp_path / "x.fa"
    asked = ["sample", folder, "--template", TEMPLATE, "--nfe 2 -n 3 -o", npz]
    assert run(capsys, *asked)[0] == 0
    samples = np.load(npz)["samples"]
    assert samples.shape == (3, len(TEMPLATE))
    assert samples.min() >= 5
    code, out, _ = run(capsys, "sample", folder, "--length 9 --nfe 2 -n 3 -o", fasta)
    assert code == 0
    assert "3 designs" in out
    designs = read_sequences(fasta)
    assert all(fits(sequence, "?" * 9) for _, sequence in designs)
    assert "nats of 9 residues (any-order bound" in designs[0][0]


def test_a_search_with_a_templates_mask_and_its_schedule(tmp_path, capsys, folder):
    data, schedules = tmp_path / "data.fasta", tmp_path / "s.json"
    letters = np.random.default_rng(0).choice(list(RESIDUES), (12, len(TEMPLATE)))
    data.write_text("\n".join("".join(row) for row in letters))
    observed = [folder, "--template", TEMPLATE]
    search = ["--order spread --nfe 2 --data", data, "-o", schedules]
    assert run(capsys, "optimize", *observed, *search)[0] == 0
    (entry,) = json.loads(schedules.read_text())["schedules"]
    assert sum(entry["counts"]) == 4
    about = entry["provenance"]["data"]
    assert "12 of 12 sequences have 17 residues, 13 of 17 sites given" in about
    file = tmp_path / "x.fasta"
    options = ["--nfe 2 -n 2 --schedule", schedules, "-o", file]
    assert run(capsys, "sample", *observed, *options)[0] == 0
    named = ["--schedules uniform", schedules, "--nfe 2 -n 4 -o", tmp_path / "r.json"]
    code, out, _ = run(capsys, "compare", *observed, *named)
    assert code == 0
    assert "without the hallmarks" in out
    assert json.loads((tmp_path / "r.json").read_text())["template"] == TEMPLATE


def test_templates_from_a_file(tmp_path, capsys, folder):
    given, file = tmp_path / "t.txt", tmp_path / "x.fasta"
    given.write_text("ACD?\n?CDE\n")
    options = ["--length 4 --nfe 1 -n 2 --given", given, "-o", file]
    assert run(capsys, "sample", folder, *options)[0] == 0
    first, second = (sequence for _, sequence in read_sequences(file))
    assert fits(first, "ACD?")
    assert fits(second, "?CDE")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--template AXC?", "the template holds 'X' at residue 2"),
        ("--template ACDE", "the template has no ?"),
        (f"--template {'?' * 129}", "takes sequences of 1..128 residues, got 129"),
        ("--template AC? --length 4", "the template has 3 residues, and --length is 4"),
        ("--template AC? --given x.npz", "--given and --template exclude each other"),
        ("--nfe 2 --data antibodies", "the task antibodies brings no data; pass --data FILE"),
    ],
)
def test_templates_that_cannot_be_are_one_line(tmp_path, capsys, folder, options, message):
    command = "optimize" if "--data" in options else "sample --nfe 1"
    out = tmp_path / ("x.json" if command == "optimize" else "x.fasta")
    code, _, err = run(capsys, command, folder, options, "-o", out)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err
    assert not out.exists()


def test_other_models_have_no_templates(tmp_path, capsys):
    asked = ["--template AC? --nfe 1 -o", tmp_path / "x.fasta"]
    code, _, err = run(capsys, f"sample {EXACT}", *asked)
    assert (code, err.count("\n")) == (1, 1)
    assert "and 'countdown-exact' is a model of neither; observe sites with --given" in err


def test_data_with_special_tokens_are_left_out_of_a_search(tmp_path, capsys, folder):
    data, out = tmp_path / "d.npy", tmp_path / "s.json"
    tokens = np.random.default_rng(0).integers(5, 25, (9, 6))
    tokens[2, 3] = 1
    np.save(data, tokens)
    asked = ["optimize", folder, "--length 6 --nfe 2 --data", data, "-o", out]
    code, _, err = run(capsys, *asked)
    assert code == 0
    assert "note: 1 of 9 sequences hold a special token (0, 1, 2, 3)" in err
    assert json.loads(out.read_text())["schedules"][0]["provenance"]["sequences"] == 8
    np.save(data, tokens * 0)
    code, _, err = run(capsys, *asked)
    assert code == 1
    assert "all sequences hold a special token" in err


def test_a_model_of_one_length_takes_templates_of_that_length():
    model = load("toy-absorbing")
    text = SimpleNamespace(
        encode=lambda words: [1] * len(words.split()), unknown=lambda words: [], tokenizer=None
    )
    model = replace(model, task=None, text=text, resized=None)
    for length in (None, 4):
        assert sized_for_template(model, "a b [MASK 2]", length) is model
    with pytest.raises(
        ValueError, match=r"has 3 tokens, and 'toy-absorbing' is for 4; make gaps l"
    ):
        sized_for_template(model, "a [MASK 2]", None)
    with pytest.raises(ValueError, match="the template has 3 tokens, and --length is 4; pass one"):
        sized_for_template(model, "a [MASK 2]", 4)
    longer = replace(model, resized=lambda sites: replace(model, length=sites))
    assert sized_for_template(longer, "a [MASK 9]", 10).length == 10


def test_designs_without_observed_sites_and_with_those_of_each(tmp_path, capsys):
    written = []
    model = load("toy-absorbing")
    task = replace(
        model.task,
        file_suffixes=(".fa",),
        write_file=lambda path, samples, headers: written.append((path, samples, headers)),
        show=lambda row: f"shown {row.tolist()}",
    )
    designer = replace(model, task=task)
    file = tmp_path / "x.FA"
    assert is_sequence_file(file, designer)
    assert not is_sequence_file(tmp_path / "x.npz", designer)
    assert not is_sequence_file(file, replace(model, task=None))
    samples = torch.tensor([[0, 1, 2, 3]] * 9 + [[3, 2, 1, 0]]) % model.task.symbols
    masks = torch.zeros(10, 4, dtype=torch.bool)
    masks[1, :3] = True
    for given in (None, Given(samples, masks)):
        write_designs(file, designer, samples, 2, given, 16)
    (path, same, free), (_, _, some) = written
    assert (path, len(free)) == (file, 10)
    assert torch.equal(same, samples)
    pattern = (
        r"design-(\d\d) nll=([\d.]+) nats of (\d) residues( given the rest)? \(any-order bound, "
    )
    pattern += r"K=16, seed 0\); NFE 2"
    read = [[re.fullmatch(pattern, header).groups() for header in each] for each in (free, some)]
    assert [one[0] for one in read[0]] == [f"{i:02d}" for i in range(1, 11)]
    assert {one[2:] for one in read[0]} == {("4", None)}
    assert [one[2:] for one in read[1]][:3] == [("4", None), ("1", " given the rest"), ("4", None)]
    for mask, found in ((None, read[0]), (masks, read[1])):
        generator = torch.Generator().manual_seed(0)
        nll = any_order_nll(
            model.reverse,
            samples,
            given_mask=mask,
            evaluations=16,
            common=True,
            generator=generator,
        )
        assert [one[1] for one in found] == [f"{value:.2f}" for value in nll.tolist()]
    out = capsys.readouterr().out.splitlines()
    mean = sum(float(one[1]) for one in read[0]) / 10
    assert out[0] == f"shown {samples[0].tolist()}"
    assert out[1].startswith("10 designs, 2 distinct; mean NLL ")
    assert float(out[1].split()[-2]) == pytest.approx(mean, abs=0.01)
    assert out[2] == f"2 model calls each; written to {file}"
    nothing = replace(model, task=replace(task, write_file=None))
    with pytest.raises(ValueError, match="has no file format of its own; name a"):
        write_designs(file, nothing, samples, 2, None, 16)
