"""``jumpsteps optimize``: what it finds, writes and prints, and from which data."""

import json

import numpy as np
import pytest
import torch

from builders.command_line import EXACT, countdowns, run
from jumpsteps import load, optimize_schedule
from jumpsteps.cli.sequence_files import load_tokens
from jumpsteps.schedules.files import load_schedules
from jumpsteps.schedules.orders import Blocks, Golden


def entries(path):
    return json.loads(path.read_text())["schedules"]


def test_schedules_say_where_they_come_from(tmp_path, capsys):
    file = tmp_path / "s.json"
    searched = f"optimize {EXACT} --method shortest-path --nfe 4 6 --sequences 4 -o"
    code, out, _ = run(capsys, searched, file)
    assert code == 0
    assert "32 model calls on 4 sequences" in out
    assert "on the sequences of the search: no certificate" in out
    assert "no certificate: it takes 16 sequences that did not choose the schedules" in out
    known = entries(file)[0]["provenance"]
    assert known["model"] == EXACT
    assert known["data"] == "countdown"


def test_certificates_come_from_held_out_sequences(tmp_path, capsys):
    file = tmp_path / "s.json"
    searched = f"optimize {EXACT} --order spread --sequences 16 --nfe 4 8 64 -o"
    code, out, _ = run(capsys, searched, file)
    assert code == 0
    known = [entry["provenance"] for entry in entries(file)]
    assert [(one["sequences"], one["held_out"]) for one in known] == 2 * [(16, 16)] + [(16, None)]
    assert known[2]["excess_limit"] is None
    for one in known[:2]:
        assert f"at most {one['excess_limit']:.2f} (95%, 16 held-out sequences)" in out
    assert "no certificate at NFE 64: it takes more than 16 model calls" in out
    np.save(tmp_path / "d.npy", countdowns(40))
    data = ["--data", tmp_path / "d.npy", "-o", file]
    assert run(capsys, f"optimize {EXACT} --order spread --nfe 4", *data)[0] == 0
    known = entries(file)[0]["provenance"]
    assert (known["sequences"], known["held_out"]) == (24, 16)


def test_counts_are_optimised_written_and_used(tmp_path, capsys):
    file, samples = tmp_path / "k.json", tmp_path / "x.npz"
    options = "--sampler k-gillespie --method jys --nfe 2 4 --sequences 4 -o"
    code, out, _ = run(capsys, f"optimize {EXACT}", options, file)
    assert code == 0
    counts = entries(file)[1]["counts"]
    assert sum(counts) == 256
    assert f"NFE 4: {' '.join(map(str, counts))} tokens, in random order" in out
    chosen = ["--schedule", file, "--nfe 4 -n 2 -o", samples]
    assert run(capsys, f"sample {EXACT} --sampler k-gillespie", *chosen)[0] == 0
    assert run(capsys, f"sample {EXACT}", *chosen)[0] == 0  # the schedule names its sampler
    code, _, err = run(capsys, f"sample {EXACT} --sampler tweedie", *chosen)
    assert code == 1
    assert "sampler tweedie takes a TimeSchedule, got CountSchedule" in err


def test_the_fewest_steps_and_the_curve(tmp_path, capsys):
    file, curve = tmp_path / "s.json", tmp_path / "c.png"
    options = ["--sequences 4 -o", file, "--curve", curve]
    code, out, _ = run(capsys, f"optimize {EXACT}-uniform --tolerance 5", *options)
    assert code == 0
    (entry,) = entries(file)
    assert entry["provenance"]["predicted_cost"] <= 5
    assert f"NFE {entry['nfe']}: t = 1.0000" in out
    assert curve.read_bytes().startswith(b"\x89PNG")
    curve.unlink()
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 2 --method equal-error", *options)
    assert code == 1
    assert "equal-error does not estimate errors" in err
    assert not curve.exists()


def test_orders_are_searched_written_and_used(tmp_path, capsys):
    file, samples = tmp_path / "s.json", tmp_path / "x.npz"
    options = "--nfe 2 4 --sequences 4"
    assert run(capsys, f"optimize {EXACT} --order spread", options, "-o", file)[0] == 0
    entry = entries(file)[1]
    assert entry["order"] == {"type": "spread", "layout": None}
    assert sum(entry["counts"]) == 256
    assert entry["provenance"]["method"] == "shortest-path-spread"
    assert entry["provenance"]["sampler"] == "k-gillespie"
    assert entry["provenance"]["model_calls"] == 28
    chosen = ["--schedule", file, "--nfe 4 -n 2 -o", samples]
    assert run(capsys, f"sample {EXACT}", *chosen)[0] == 0
    named = ["--schedules uniform shortest-path-golden", file]
    results = tmp_path / "r.json"
    code, out, _ = run(capsys, f"compare {EXACT}", options, *named, "-n 4 -o", results)
    assert code == 0
    assert "shortest-path-golden" in out


def test_an_order_is_learned(tmp_path, capsys):
    learned = tmp_path / "learned.json"
    options = "--nfe 2 --sequences 20 --order learned -o"
    assert run(capsys, f"optimize {EXACT}", options, learned)[0] == 0
    (entry,) = entries(learned)
    assert sorted(entry["order"]["permutation"]) == list(range(256))
    assert entry["provenance"]["method"] == "shortest-path-learned"
    assert entry["provenance"]["model_calls"] == 16 + 28 + 16
    assert (entry["provenance"]["sequences"], entry["provenance"]["held_out"]) == (20, 16)
    chosen = ["--schedule", learned, "--nfe 2 -n 2 -o", tmp_path / "x.npz"]
    assert run(capsys, f"sample {EXACT}", *chosen)[0] == 0


@pytest.mark.slow
def test_the_best_order_is_the_default(tmp_path, capsys):
    """Of masked models whose sampler counts; the next best is named with its difference."""
    files = [tmp_path / f"{name}.json" for name in ("default", "order", "method")]
    searched = f"optimize {EXACT} --nfe 2 4 --sequences 6"
    for file, option in zip(files, ("", "--order auto", "--method auto"), strict=True):
        code, out, _ = run(capsys, searched, option, "-o", file)
        assert code == 0
    known = [entry["provenance"] for entry in entries(files[0])]
    assert [entries(file) for file in files[1:]] == 2 * [entries(files[0])]
    for nfe, one in zip((2, 4), known, strict=True):
        assert (one["method"], one["sampler"]) == ("auto", "k-gillespie")
        assert one["model_calls"] <= 64
        half = f"{one['runner_up_difference']:+.2f} ±{one['runner_up_half_width']:.2f}"
        assert f"order {one['order']}; next best {one['runner_up']}, {half} nats" in out
        assert f"tokens, in {one['order']} order" in out
        assert f"at NFE {nfe}" in out
    for option, method in (
        ("--sampler tweedie", "shortest-path"),
        ("--sampler k-gillespie", "auto"),
        ("--measure model", "shortest-path"),
    ):
        assert run(capsys, searched, option, "-o", files[0])[0] == 0
        assert entries(files[0])[0]["provenance"]["method"] == method
    code, _, err = run(capsys, searched, "--order auto --measure model -o", files[0])
    assert code == 1
    assert "orders are compared by data" in err


def test_data_that_cannot_compare_orders_have_times(tmp_path, capsys):
    given, file = tmp_path / "g.npz", tmp_path / "s.json"
    mask = np.arange(256) < np.array([64, 128])[:, None]
    np.savez(given, tokens=np.zeros_like(mask, dtype=int), mask=mask)
    for option, reason in (
        (["--sequences 3"], "it takes 4 sequences to compare orders, the data have 3"),
        (["--sequences 6 --given", given], "the given sites leave different numbers"),
    ):
        code, _, err = run(capsys, f"optimize {EXACT} --nfe 2 -o", file, *option)
        assert code == 0
        assert f"note: {reason}" in err
        assert len(entries(file)[0]["times"]) == 3
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 2 --order auto --sequences 3 -o", file)
    assert code == 1
    assert "comparing orders needs at least 4 sequences, got 3" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--order spread --method jys", "method jys does not search in spread order"),
        ("--order golden --method shortest-path-spread", "does not search in golden order"),
        ("--order golden --method shortest-path-learned", "does not search in golden order"),
        ("--order spread --sampler tweedie", "tweedie does not reveal tokens in spread order"),
        ("--order learned --sampler tweedie", "tweedie does not reveal tokens in learned order"),
        ("--order spread --sampler maskgit", "maskgit does not reveal tokens in spread order"),
        ("--method shortest-path-spread --sampler tweedie", "for spread order use k-gillespie"),
        ("--method shortest-path-learned --sampler tweedie", "needs k-gillespie"),
        ("--order inwards", "there is no order 'inwards'; choose random or spread"),
    ],
)
def test_orders_that_do_not_fit_are_refused(tmp_path, capsys, arguments, message):
    file = tmp_path / "s.json"
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 4 --sequences 4", arguments, "-o", file)
    assert code == 1
    assert message in err
    assert not file.exists()


def test_a_method_may_be_named_with_its_own_order(tmp_path, capsys):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, order in zip(files, ("--order spread", ""), strict=True):
        named = f"--method shortest-path-spread {order} --nfe 4 --sequences 2 -o"
        assert run(capsys, f"optimize {EXACT}", named, file)[0] == 0
    assert entries(files[0]) == entries(files[1])


def test_orders_are_of_the_absorbing_kernel(capsys):
    code, _, err = run(capsys, f"optimize {EXACT}-uniform --order spread --nfe 4")
    assert code == 1
    assert "serves the absorbing kernel" in err


def test_data_from_files(tmp_path, capsys):
    tokens, out = countdowns(6), tmp_path / "s.json"
    np.savez(tmp_path / "d.npz", samples=tokens)
    np.save(tmp_path / "d.npy", tokens)
    for name in ("d.npz", "d.npy"):
        data = ["--data", tmp_path / name]
        assert run(capsys, f"optimize {EXACT} --nfe 2", *data, "-o", out)[0] == 0
        known = entries(out)[0]["provenance"]
        assert known["data"].startswith(f"{name} sha256:")
        assert known["sequences"] == 6


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(256, dtype=np.int64), "tokens are integers"),
        (np.zeros((2, 256)), "tokens are integers"),
        (np.zeros((0, 256), dtype=np.int64), "tokens are integers"),
        (np.full((2, 256), 32), "data holds MASK (token 32)"),
        (np.full((2, 256), 77), "data holds tokens 77..77, the vocabulary is 0..32"),
        (np.full((2, 100), 7), "sequences of 100 tokens, and 'countdown-exact' has 256"),
    ],
)
def test_bad_token_files_are_refused(tmp_path, capsys, array, message):
    np.savez(tmp_path / "d.npz", samples=array)
    files = ["--data", tmp_path / "d.npz", "-o", tmp_path / "s.json"]
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 2", *files)
    assert code == 1
    assert message in err
    assert not (tmp_path / "s.json").exists()


def test_files_without_tokens_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"nonsense")
    (tmp_path / "c.npy").write_bytes(b"")
    for name in ("a.npz", "b.npz", "c.npy"):
        files = ["--data", tmp_path / name, "-o", tmp_path / "s.json"]
        code, _, err = run(capsys, f"optimize {EXACT} --nfe 2", *files)
        assert code == 1
        assert "holds no tokens" in err


def test_a_search_with_given_sites_is_that_of_the_library(tmp_path, capsys):
    data, given, file = tmp_path / "d.npy", tmp_path / "g.npz", tmp_path / "s.json"
    np.save(data, countdowns(4))
    mask = np.arange(256) < np.array([64, 128, 160])[:, None]
    np.savez(given, tokens=np.zeros_like(mask, dtype=int), mask=mask)
    found = []
    for option in ([], ["--given", given]):
        asked = ["--method shortest-path --data", data, *option, "-o", file]
        assert run(capsys, f"optimize {EXACT} --nfe 4", *asked)[0] == 0
        found += entries(file)
    assert found[1]["provenance"]["data"].endswith(", 104 of 256 sites given")  # rows 0, 1, 2, 0
    reverse, generator = load(EXACT).reverse, torch.Generator().manual_seed(0)
    tokens, _ = load_tokens(data, 64, generator)
    rows = torch.from_numpy(mask[[0, 1, 2, 0]])
    expected = optimize_schedule(reverse, tokens, [4], generator=generator, given_mask=rows)[4]
    assert tuple(found[1]["times"]) == expected.times
    assert found[0]["times"] != found[1]["times"]
    counted = "--sampler k-gillespie --nfe 4"
    files = ["--data", data, "--given", given, "-o", tmp_path / "k.json"]
    code, _, err = run(capsys, f"optimize {EXACT}", counted, *files)
    assert code == 1
    assert "sequences have 96 to 192 free sites" in err


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_on_a_terminal_only(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    file = tmp_path / "s.json"
    code, _, err = run(capsys, f"optimize {EXACT} --nfe 2 --sequences 2 -o", file)
    assert code == 0
    assert ("model calls" in err) == terminal


def test_costs_are_measured_by_data_or_by_the_model(tmp_path, capsys):
    file = tmp_path / "s.json"
    searched = f"optimize {EXACT} --sampler tweedie --nfe 4 --sequences 8"
    fields = {}
    for option in ("", "--measure data", "--measure model"):
        assert run(capsys, searched, option, "-o", file)[0] == 0
        fields[option] = entries(file)[0]
    assert fields[""] == fields["--measure data"]
    assert fields[""]["provenance"]["few_step_nll"] is not None
    assert fields["--measure model"]["provenance"].get("few_step_nll") is None
    assert fields["--measure model"]["times"] != fields[""]["times"]
    code, _, err = run(capsys, searched, "--method jys --measure model -o", file)
    assert code == 1
    assert "method jys has no costs to measure" in err
    revised = {}
    for option in ("", "--measure data", "--measure model"):
        assert run(capsys, "optimize toy-uniform --nfe 4", option, "-o", file)[0] == 0
        revised[option] = entries(file)[0]
    assert revised[""] == revised["--measure model"]
    assert revised[""]["provenance"].get("few_step_nll") is None
    assert revised["--measure data"]["provenance"]["few_step_nll"] is not None


@pytest.mark.slow
def test_a_race_divides_the_calls_between_steps_and_corrections(tmp_path, capsys, recwarn):
    file, out = tmp_path / "s.json", tmp_path / "x.npz"
    asked = f"optimize {EXACT} --nfe 4 --corrector auto --race 16 --sequences 8 -o"
    code, said, _ = run(capsys, asked, file)
    assert code == 0
    assert "steps alone" in said
    assert "1/2 of the calls correct 1/4 of the sites, golden" in said
    (schedule,) = load_schedules(file).values()
    assert schedule.steps + sum(redraw.calls for redraw in schedule.redraws) == 4
    assert ("corrections of" in said) == bool(schedule.redraws)
    code, _, err = run(capsys, f"sample {EXACT} --nfe 4 -n 2 --schedule", file, "-o", out)
    assert (code, err) == (0, "")
    assert np.load(out)["nfe"] == 4
    for options, message in (
        ("--nfe 4 --method jys", "--corrector and --method exclude each other"),
        ("--nfe 4 --sequences 7", "24 sequences of data or more, got 21"),
    ):
        code, _, err = run(capsys, f"optimize {EXACT} --corrector auto {options} -o", file)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err
    kernel = "countdown-exact-uniform --corrector auto --nfe 4 -o"
    code, _, err = run(capsys, f"optimize {kernel}", file)
    assert (code, "for the absorbing kernel, this model has the uniform" in err) == (1, True)


def test_blocks_are_decoded_one_after_the_other(tmp_path, capsys):
    file = tmp_path / "s.json"
    asked = f"optimize {EXACT} --sequences 4 --block-size 64 --nfe 12 -o"
    for order in ("", "--order golden"):
        code, said, _ = run(capsys, asked, file, order)
        assert code == 0
        assert "tokens, in blocks order" in said
        (schedule,) = load_schedules(file).values()
        assert [sum(block) for block in schedule.blocks] == [64] * 4
        assert schedule.steps == 12
    assert schedule.order == Blocks(64, Golden())
    for options, message in (
        ("--nfe 3", "4 blocks take 4 steps at least, got [3]; raise"),
        ("--nfe 8 --method jys", "method jys knows no blocks; leave out --block-size"),
        ("--nfe 8 --order learned", "there is no order within blocks 'learned'"),
    ):
        code, _, err = run(capsys, f"optimize {EXACT} --block-size 64 {options} -o", file)
        assert code == 1
        assert message in err
