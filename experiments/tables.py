"""Tables of the documentation, rendered from docs/results/*.json.

    python experiments/tables.py            # rewrite the tables in README.md and docs/*.md
    python experiments/tables.py --check    # only compare; exit code 1 where a table differs

A table stands between two markers, and is replaced as a whole:

    <!-- table: kernels/absorbing-log-linear -->
    | NFE | 4 | 8 |
    ...
    <!-- end -->

with the name of the file of results and of the table in it. `results.py` says what a file holds.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"^(?P<open><!-- table: (?P<name>\S+) -->\n).*?(?=^<!-- end -->)", re.S | re.M)


def text_of(cell: Any, form: str) -> str:
    """A cell as it is shown."""
    if isinstance(cell, dict):
        return text_of(cell["values"], cell["cell"])
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    return form.format(*(cell if isinstance(cell, list) else [cell]))


def line_of(row: Any, table: dict[str, Any]) -> list[str]:
    """The cells of a row as they are shown; raises ValueError if there are too many or too few."""
    cells, own = (row["cells"], row["cell"]) if isinstance(row, dict) else (row, None)
    head, columns = table["head"], table.get("columns", {})
    if len(cells) != len(head):
        raise ValueError(f"a row has {len(cells)} cells, the table {len(head)} columns: {cells}")
    forms = [own or columns.get(title) or table["cell"] for title in head]
    return [text_of(cell, form) for cell, form in zip(cells, forms, strict=True)]


def render(table: dict[str, Any]) -> str:
    """The table in Markdown."""
    lines = [table["head"], ["---"] * len(table["head"])]
    lines += [line_of(row, table) for row in table["rows"]]
    return "".join(("| " + " | ".join(line) + " |").replace("  |", " |") + "\n" for line in lines)


def rendered(page: str, results: Path) -> str:
    """The page with every marked table rendered.

    Raises:
        ValueError: a marker names a file or a table that does not exist.
    """

    def replaced(match: re.Match[str]) -> str:
        file, _, name = match["name"].partition("/")
        path = results / f"{file}.json"
        if not path.exists():
            raise ValueError(f"table {match['name']}: there is no {path}")
        tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
        if name not in tables:
            raise ValueError(f"table {match['name']}: {path} has {', '.join(tables)}")
        return match["open"] + render(tables[name])

    return MARKED.sub(replaced, page)


def run() -> int:
    """Render or check every page; the exit code is 1 if a check finds a difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say which pages differ")
    check = parser.parse_args().check
    differing = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text(encoding="utf-8")
        new = rendered(page, ROOT / "docs" / "results")
        if new == page:
            continue
        differing.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(new, encoding="utf-8")
    if differing:
        print("tables differ from docs/results:" if check else "rendered:", *differing)
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(run())
