"""Commands that several processes share: the outcome is that of one process, to the bit."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from builders.command_line import run
from builders.masked_lm import bert_folder
from builders.together import Together

pytestmark = pytest.mark.slow

SAMPLE = ["sample", "toy-absorbing", "--nfe", "4", "--schedule", "uniform", "-n"]
COMPARE = ["compare", "toy-absorbing", "--nfe", "2", "4", "--schedules", "uniform", "jys"]
COMPARE += ["-n", "60", "--sequences", "8"]
OPTIMIZE = ["optimize", "toy-absorbing", "--nfe", "2", "4", "--sequences", "33"]
SEARCHES = [
    OPTIMIZE,
    [*OPTIMIZE, "--method", "jys"],
    [*OPTIMIZE, "--method", "jys", "--sampler", "k-gillespie"],
    [*OPTIMIZE, "--method", "shortest-path"],
    [*OPTIMIZE, "--order", "learned", "--measure", "model"],
    [*OPTIMIZE, "--sampler", "tau-leaping"],
    [OPTIMIZE[0], "toy-uniform", *OPTIMIZE[2:]],
    [OPTIMIZE[0], "toy-uniform", *OPTIMIZE[2:], "--sequences", "2"],
    [OPTIMIZE[0], "toy-uniform", *OPTIMIZE[2:], "--race", "17"],
    [*OPTIMIZE, "--corrector", "auto", "--race", "16"],
]


@pytest.fixture(scope="module")
def together() -> Iterator[Together]:
    with Together() as running:
        yield running


def hash_of(file: Path) -> str:
    content = np.load(file)
    return hashlib.sha256(content["samples"].tobytes() + content["nfe"].tobytes()).hexdigest()


def alone(capsys: pytest.CaptureFixture[str], words: list[str], out: Path) -> str:
    """What one process prints."""
    code, printed, _ = run(capsys, *map(Path, words), "-o", out)
    assert code == 0
    return printed


def test_two_processes_draw_and_compare_as_one(together, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    printed = alone(capsys, [*SAMPLE, "300", "--batch", "100"], one / "x.npz")
    alone(capsys, COMPARE, one / "c.json")
    sampled, compared = together(
        tmp_path / "said",
        2,
        [*SAMPLE, "300", "--batch", "7", "-o", two / "x.npz"],
        [*COMPARE, "-o", two / "c.json"],
    )
    assert hash_of(two / "x.npz") == hash_of(one / "x.npz")
    assert sampled[0][:2] == (0, printed.replace(str(one), str(two)))
    assert sampled[1] == (0, "", "")
    contents = [json.loads((folder / "c.json").read_text()) for folder in (one, two)]
    assert contents[0]["rows"] == contents[1]["rows"]
    assert contents[0]["schedules"] == contents[1]["schedules"]
    assert [code for code, *_ in compared] == [0, 0]
    assert sorted(path.name for path in two.iterdir()) == ["c.html", "c.json", "x.npz"]


def test_three_processes_find_the_schedules_of_one(together, tmp_path, capsys):
    """Also more processes than sequences, and numbers that cannot be divided."""
    files = [(tmp_path / f"one{k}.json", tmp_path / f"two{k}.json") for k in range(len(SEARCHES))]
    for words, (one, _) in zip(SEARCHES, files, strict=True):
        alone(capsys, words, one)
    commands = [[*words, "-o", two] for words, (_, two) in zip(SEARCHES, files, strict=True)]
    for said in together(tmp_path / "said", 3, *commands):
        assert [code for code, *_ in said] == [0, 0, 0], said
    for one, two in files:
        assert one.read_text() == two.read_text()


def test_a_run_of_which_one_process_was_killed_continues(together, tmp_path, capsys):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    alone(capsys, [*SAMPLE, "400"], one)
    words = [*SAMPLE, "400", "--batch", "16", "-o", two]
    killed, again = together(tmp_path / "said", 2, ["KILL", *words], words)
    assert [code for code, *_ in killed] == [1, -9]
    assert killed[0][2].startswith("error: another process ended before this one (")
    assert killed[0][2].count("\n") == 1
    assert [code for code, *_ in again] == [0, 0]
    assert hash_of(two) == hash_of(one)


def test_processes_draw_the_samples_of_one_from_parts_of_a_network(together, tmp_path, capsys):
    """They have different numbers of batches, and by KLASS calls that depend on the samples."""
    bert_folder(tmp_path / "bert")
    words = ["sample", tmp_path / "bert", "--sampler", "klass", "--batch", "10", "-n", "31"]
    capsys.readouterr()
    alone(capsys, words, tmp_path / "one.npz")
    divided = [*words, "--shard-model", "-o", tmp_path / "two.npz"]
    exact = ["sample", "toy-absorbing", "--nfe", "2", "--shard-model"]
    said, refused = together(tmp_path / "said", 2, divided, exact)
    assert [code for code, *_ in said] == [0, 0]
    samples = [np.load(tmp_path / f"{name}.npz")["samples"] for name in ("one", "two")]
    assert np.array_equal(*samples)
    assert [code for code, *_ in refused] == [1, 1]
    assert "toy-absorbing has no network to divide" in refused[0][2] + refused[1][2]


def test_one_process_says_what_is_wrong(together, tmp_path):
    out = ["-o", tmp_path / "x.npz"]
    wrong, failed, lone = together(
        tmp_path / "said",
        2,
        [*SAMPLE, "8", "--sampler", "nonsense", *out],
        ["FAIL", *SAMPLE, "400", "--batch", "16", *out],
        ["explain", "toy-absorbing", "--nfe", "4"],
    )
    for said, message in (
        (wrong, "error: there is no sampler 'nonsense'; choose "),
        (failed, "error: the disk of process 1 is full"),
        (lone, "error: this command runs in one process; start it without a launcher"),
    ):
        assert [code for code, *_ in said] == [1, 1]
        errors = "".join(err for *_, err in said)
        assert errors.startswith(message)
        assert errors.count("\n") == 1


@pytest.mark.parametrize(("model", "n"), [("countdown-exact", "2000"), ("piano-absorbing", "16")])
def test_two_processes_draw_the_samples_of_one_at_size(together, tmp_path, capsys, model, n):
    words = ["sample", model, "--schedule", "uniform", "--nfe", "1", "-n", n, "--seed", "3"]
    alone(capsys, [*words, "--batch", "100"], tmp_path / "one.npz")
    (said,) = together(tmp_path / "said", 2, [*words, "--batch", "16", "-o", tmp_path / "two.npz"])
    assert [code for code, *_ in said] == [0, 0]
    assert hash_of(tmp_path / "two.npz") == hash_of(tmp_path / "one.npz")
