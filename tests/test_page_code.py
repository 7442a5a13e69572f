"""Every block of Python and shell on the pages runs as printed, on stand-ins that make it quick.

`builders.page_code` has the marks of blocks that are slow or cannot run here. Commands of other
programs are checked for what they name: scripts and their flags, targets of make, extras.
"""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import jumpsteps
from builders.page_code import (
    CHAIN,
    PAGES,
    ROOT,
    STANDS,
    Block,
    blocks_of,
    commands_of,
    small_countdown,
    write_files,
)
from jumpsteps.cli.flags import parse
from jumpsteps.cli.main import main
from jumpsteps.models.built_in import BUILT_IN
from jumpsteps.schedules import orders

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
OWN_TESTS = {
    "README.md": "tests/test_docs.py",
    "docs/evidence.md": "tests/test_docs.py",
    "docs/models.md": "tests/test_docs.py",
    "docs/samplers.md": "tests/test_docs.py",
    "docs/pipelines.md": "tests/integrations/test_pipelines_page.py",
}
"""Pages whose Python has a test of its own, which says what comes out of it."""

SMALLER = {
    "docs/getting_started.md": [
        ("range(600)", "range(20)"),
        ("(64, 64), ", "(4, 64), "),
        ("sequences(64, generator)", "sequences(16, generator)"),
    ],
    "docs/piano.md": [("--nfe 64", "--nfe 2"), ("--nfe 8 16", "--nfe 2 8")],
    "docs/orders.md": [("--nfe 2 4 8 16 32 64", "--nfe 2 4"), ("[64]", "[16]")],
    "docs/countdown.md": [("--nfe 2 4 8 16 32 64", "--nfe 2 4")],
    "docs/training.md": [("steps=200, batch=16", "steps=4, batch=4")],
    "docs/schedules.md": [("(160, generator)", "(48, generator)"), ("samples=64", "samples=16")],
}
"""Page -> what is replaced by something quicker."""

FIRST = {"docs/getting_started.md": 4}
"""Page -> the block that runs before the others, which use what it defines."""


def smaller(block: Block) -> Block:
    """The block with what makes it quick."""
    text = block.text
    for old, new in SMALLER.get(block.page, []):
        text = text.replace(old, new)
    return replace(block, text=text)


def names_for(page: str) -> dict[str, object]:
    """What the Python of a page takes for granted."""
    if page not in ("docs/corrector.md", "docs/orders.md"):
        return {}
    model = small_countdown()
    generator = torch.Generator().manual_seed(0)
    schedules = {8: jumpsteps.uniform_counts(8, model.length, jumpsteps.Golden())}
    return {
        "jumpsteps": jumpsteps,
        "model": model,
        "generator": generator,
        "data": model.task.sample_data(8, generator),
        "schedules": schedules,
        "shape": (2, model.length),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the files that pages name; small models in place of CountDown's."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    for name, kernel in (
        ("MODEL", "absorbing"),
        ("countdown", "absorbing"),
        ("countdown-exact", "absorbing"),
        ("countdown-exact-uniform", "uniform"),
    ):
        monkeypatch.setitem(BUILT_IN, name, lambda device, kernel=kernel: small_countdown(kernel))
    return tmp_path


def pages_with(language: str, *, slow: bool) -> list[str]:
    return sorted({b.page for b in BLOCKS if b.language == language and b.runs and b.slow == slow})


@pytest.mark.parametrize(
    "page", [p for p in pages_with("python", slow=False) if p not in OWN_TESTS]
)
def test_the_python_of_a_page_runs(page, folder, monkeypatch):
    monkeypatch.setattr(orders, "ORDERS", dict(orders.ORDERS))  # To which a page adds one.
    blocks = [b for b in BLOCKS if b.page == page and b.language == "python"]
    if page in FIRST:
        blocks.insert(0, blocks.pop(FIRST[page]))
    names = names_for(page)
    for block in blocks:
        code = compile("\n" * block.line + smaller(block).text, ROOT / page, "exec")
        if block.runs:
            exec(code, names)


QUICK = {"sample": "-n 2", "optimize": "--sequences 8", "explain": "--sequences 8"}
QUICK |= {"compare": "-n 3 --sequences 8", "train": "--steps 2 --batch 2"}
"""Command -> what is appended to it."""


def execute(words: list[str], page: str, folder: Path) -> None:
    """Run a command of jumpsteps, smaller."""
    words = [*words[1:], *QUICK.get(words[1], "").split()]
    if "--race" in words:
        words += ["--race", "16"]
    if "demo" in words or "--help" in words or "--version" in words:
        return
    assert main(words) == 0, f"{page}: jumpsteps {' '.join(words)}"


def run_commands(page: str, folder: Path, *, slow: bool) -> None:
    """The commands of a page; blocks that begin with the name of a file are parts of that file."""
    stands = {word: stand(folder) for word, stand in STANDS.get(page, {}).items()}
    values = {word.removeprefix("$"): text for word, text in stands.items() if word[0] == "$"}
    for block in BLOCKS:
        if block.page == page and (file := re.match(r"# (\w+\.py)\n", block.text)):
            with open(folder / file[1], "a", encoding="utf-8") as written:
                written.write(block.text)
    for block in BLOCKS:
        if block.page == page and block.language == "bash" and block.runs and block.slow == slow:
            block = smaller(block)
            for words in commands_of(block, values | {"T": CHAIN}):
                if words[0] == "jumpsteps":
                    execute([stands.get(word, word) for word in words], page, folder)


@pytest.mark.parametrize("page", pages_with("bash", slow=False))
def test_the_commands_of_a_page_run(page, folder):
    run_commands(page, folder, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("bash", slow=True))
def test_the_slow_commands_of_a_page_run(page, folder):
    run_commands(page, folder, slow=True)


def named(block: Block) -> str:
    return f"{block.page}:{block.line}"


def with_siblings(script: Path) -> str:
    """The code of a script, and of the modules beside it that it imports."""
    code = script.read_text(encoding="utf-8")
    names = re.findall(r"^(?:from|import) (\w+)", code, re.M)
    siblings = [script.with_name(f"{name}.py") for name in names]
    return code + "".join(one.read_text(encoding="utf-8") for one in siblings if one.exists())


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "bash"], ids=named)
def test_what_commands_name_exists(block):
    """Options of every command, run or not; scripts and their flags, targets of make, extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = set(extras["optional-dependencies"])
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for words in commands_of(block, {}):
        text = " ".join(words)
        for extra in re.findall(r"(?:jumpsteps|\.)\[([\w,]+)\]", text):
            assert set(extra.split(",")) <= known, text
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, text
        if words[0] == "torchrun":
            words = words[words.index("jumpsteps") :]
        if words[0] == "jumpsteps":
            parse(words[1:])
        if words[0] == "python" and words[1].endswith(".py"):
            code = with_siblings(ROOT / words[1])
            assert [w for w in words if w.startswith("--") and f'"{w}"' not in code] == [], text


def test_every_block_is_fenced_and_has_a_language():
    """A block of shell that is only indented would not be run."""
    bare = [named(block) for block in BLOCKS if not block.language]
    assert bare == []
    command = re.compile(r"\n\n    (?:#[^\n]*\n    )?(?:jumpsteps|python|pip|make|torchrun) .*")
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        assert command.findall(text) == [], f"{page}: put commands between ```bash and ```"


def test_a_block_that_is_not_run_says_why():
    marks = {block.mark for block in BLOCKS}
    assert [m for m in marks if m not in ("", "slow") and not re.match(r"no, \w+", m)] == []
    for page, file in OWN_TESTS.items():
        assert (ROOT / file).exists()
        assert any(b.page == page and b.language == "python" for b in BLOCKS), page
