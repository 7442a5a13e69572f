"""``--template``: designs of antibodies on the command line, with random weights."""

import json
import re

import numpy as np
import pytest

from builders.antiberty import antiberty_folder
from builders.command_line import EXACT, run
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
