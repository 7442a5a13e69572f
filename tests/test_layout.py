"""Sizes and words: what a reader meets in the code and on the pages."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    p for d in ("src", "tests", "experiments", "benchmarks") for p in ROOT.glob(f"{d}/**/*.py")
)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoints/*/README.md")])
WIDTH, MODULE, FUNCTION = 100, 400, 60
WORDS = re.compile(r"healing|streams|surest|told the|evenest|looks at the law|heals\b|dearer", re.I)
"""Words that this project alone understood. CHANGELOG.md names them beside what they became."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def wide_lines(path: Path) -> list[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [i for i, line in enumerate(lines, 1) if len(line) > WIDTH]


def long_functions(tree: ast.Module) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, functions) and (node.end_lineno or 0) - node.lineno >= FUNCTION
    ]


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_lines_of_pages_fit_but_for_tables_and_links(path):
    """A table's row and a link cannot be broken."""
    lines = path.read_text(encoding="utf-8").splitlines()
    loose = ("|", "![", "http", "- http")
    assert [i for i in wide_lines(path) if not lines[i - 1].startswith(loose)] == []


@pytest.mark.parametrize("path", [p for p in CODE if p.is_relative_to(ROOT / "src")], ids=named)
def test_modules_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert wide_lines(path) == []
    assert text.count("\n") <= MODULE
    assert long_functions(ast.parse(text)) == []


def test_private_words_are_gone():
    paths = [p for p in [*CODE, *PAGES] if p.name not in ("test_layout.py", "CHANGELOG.md")]
    found = [
        f"{named(path)}:{i}: {match[0]}"
        for path in paths
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := WORDS.search(line))
    ]
    assert found == []


def old_names() -> set[str]:
    """Names of the changelog's left columns that no column on the right has."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("### Modules")[0]
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    old, new = (set(re.findall(r"\w+", " ".join(row[i] for row in rows))) for i in (1, 2))
    kept = {"ClosedForm", "information_profile"}  # whose arguments changed
    return {name for name in old - new - kept if re.search(r"[a-z][A-Z_]|[A-Z]_", name)}


def test_names_that_changed_are_used_nowhere():
    old = old_names()
    assert {"JumpSchedule", "calls_per_leap", "NO_HEALING"} <= old
    known = re.compile(rf"\b({'|'.join(sorted(old))})\b")
    paths = [p for p in [*CODE, *PAGES] if p.name not in ("test_layout.py", "CHANGELOG.md")]
    found = {
        f"{named(path)}: {name}"
        for path in paths
        for name in known.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set()
