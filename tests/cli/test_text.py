"""Text on the command line: prompts, suffixes, templates of any length, colours of steps."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.command_line import EXACT
from builders.text import save_words
from jumpsteps.cli.colouring import in_terminal, on_page
from jumpsteps.cli.main import main
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

LENGTH = 12
WORDS = ["[UNK]", *(f"v{i}" for i in range(19))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights for 20 words, without absolute positions."""
    torch.manual_seed(0)
    path, forward = tmp_path_factory.mktemp("text"), Absorbing(vocab_size=21, noise=LogLinear())
    network, _ = build(DiTConfig(21, 16, 1, 2, cond_dim=8), forward, "posterior")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_native(path, network, forward, output="posterior", task="text", length=LENGTH)
    save_words(path, WORDS)
    return path


def sampled(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["sample", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def tokens_in(path: Path) -> list[list[int]]:
    with np.load(path) as file:
        return file["samples"].tolist()


def test_a_prompt_and_a_suffix_stay(tmp_path, capsys, folder):
    out = tmp_path / "x.npz"
    asked = ["--prompt", "v3 v5", "--suffix", "v7", "--nfe", 3, "-n", 4, "-o", out]
    code, _, err = sampled(capsys, folder, *asked)
    assert (code, err) == (0, "")
    samples = tokens_in(out)
    assert all(row[:2] == [4, 6] and row[-1] == 8 for row in samples)
    assert len({tuple(row) for row in samples}) == 4


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("v3 [MASK] v5 [MASK 3]", [4, None, 6, None, None, None]),
        ("[MASK 20]", [None] * 20),
        ("v1 v2 [MASK]v3", [2, 3, None, 4]),
    ],
)
def test_a_template_of_any_length(tmp_path, capsys, folder, template, expected):
    out = tmp_path / "x.npz"
    code, _, err = sampled(
        capsys, folder, "--template", template, "--nfe", 1, "-n", 3, "--order", "golden", "-o", out
    )
    assert (code, err) == (0, "")
    for row in tokens_in(out):
        assert len(row) == len(expected)
        assert all(want in (None, got) for want, got in zip(expected, row, strict=True))
        assert 20 not in row


@pytest.mark.parametrize(
    ("options", "alike"),
    [
        (["--prompt", "v3 v5", "--suffix", "v7", "--nfe", 3], False),
        (["--template", "v3 [MASK 20]", "--nfe", 5, "--order", "golden"], False),
        (["--template", "v3 [MASK] v5", "--nfe", 1], True),
        (["--prompt", "v3", "--nfe", 1], True),
    ],
)
def test_a_multistep_sampler_takes_prompts_and_templates(tmp_path, capsys, folder, options, alike):
    """One step is that of k-gillespie. The batch does not matter."""
    file = tmp_path / "x.npz"

    def tokens(*more: object) -> list[list[int]]:
        file.unlink(missing_ok=True)
        asked = [folder, *options, "-n", 4, "-o", file, *more]
        assert sampled(capsys, *asked)[::2] == (0, "")
        return tokens_in(file)

    rows = tokens("--sampler", "k-gillespie-multistep")
    assert all(row[0] == 4 and 20 not in row for row in rows)
    assert tokens("--sampler", "k-gillespie-multistep", "--batch", 1) == rows
    assert (tokens("--sampler", "k-gillespie") == rows) == alike


def test_unknown_words_of_a_prompt_are_named(tmp_path, capsys, folder):
    asked = ["--prompt", "v3 cat v5 dog cat", "--nfe", 1, "-o", tmp_path / "x.npz"]
    code, _, err = sampled(capsys, folder, *asked)
    assert (code, err) == (0, "note: the tokenizer reads 'cat', 'dog' as [UNK]\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--template", "v3 v4"], "the template has no [MASK]; put one where a token is to be"),
        (["--template", "v3 [MASK 0]"], "the template holds '[MASK 0]', a gap of no token"),
        (["--template", "[MASK]", "--suffix", "v1"], "--suffix and --template exclude each other"),
        (["--suffix", " ".join(["v1"] * 12)], "the suffix has 12 tokens; with 12 sites there must"),
        (["--prompt", "v1", "--suffix", ""], None),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, folder, options, message):
    asked = [*options, "--nfe", 1, "-n", 2, "-o", tmp_path / "x.npz"]
    code, _, err = sampled(capsys, folder, *asked)
    if message is None:
        assert (code, err) == (0, "")
        return
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def test_text_in_the_colours_of_its_steps(tmp_path, capsys, folder):
    out = tmp_path / "x.npz"
    asked = ["--prompt", "v3 v5", "--nfe", 5, "-n", 2, "--order", "sequential", "--colour"]
    code, printed, _ = sampled(capsys, folder, *asked, "-o", out)
    assert code == 0
    assert "\x1b[0;1mv3\x1b[0;1m v5\x1b[0;38;5;27m " in printed
    assert "\x1b[0;38;5;196m " in printed
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    steps = [int(step) for step in re.findall(r'title="step (\d)"', page)]
    assert steps == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5] * 2
    assert page.count('<span class="given">') == 4
    assert "<h2>Sample 2</h2>" in page
    shown = re.sub(r"\x1b\[[\d;]*m", "", printed).splitlines()
    first = " ".join(WORDS[token] for token in tokens_in(out)[0])
    assert shown.count(first) == 2  # In colours, and as text.
    assert re.sub("<.*?>", "", page).split("Sample 1\n")[1].startswith(first)


def test_colours_of_a_model_without_text_are_refused(tmp_path, capsys):
    code, _, err = sampled(capsys, EXACT, "--nfe", 1, "--colour", "-o", tmp_path / "x.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert "--colour is for text, and 'countdown-exact' has no tokenizer" in err
    assert not any(tmp_path.iterdir())


def test_first_and_last_step_have_the_ends_of_the_ramp():
    assert in_terminal(["a", "b"], [1, 3], [False, False], 3) == (
        "\x1b[0;38;5;27ma\x1b[0;38;5;196mb\x1b[0m"
    )
    assert on_page(["<"], [1], [False], 1) == (
        '<span title="step 1" style="background:hsl(240 90% 85%)">&lt;</span>'
    )
