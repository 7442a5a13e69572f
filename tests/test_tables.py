"""Results as JSON become the tables of the documentation."""

import json
from pathlib import Path

import pytest

import results
import tables

ROOT = Path(__file__).parents[1]
PAGE = "Before.\n\n<!-- table: some/one -->\n| old |\n<!-- end -->\n\nAfter.\n"


def row(nfe: int, schedule: str, mean: float, high: float) -> results.Json:
    return {"nfe": nfe, "schedule": schedule, "metric": {"mean": mean, "high": high}}


def one_table() -> results.Table:
    rows = [
        ["4", [22.316, 0.194], None],
        {"cell": "{:.1f} to {:.1f}", "cells": ["range", [1, 2], 7]},
        ["8", {"values": [3.5, 0.1], "cell": "**{:.2f} ±{:.2f}**"}, "-"],
    ]
    return results.table(["NFE", "uniform", "calls"], rows, columns={"calls": "{} calls"})


def write(folder: Path) -> None:
    results.write_results(folder / "some.json", "here/kernels.py", {"one": one_table()}, samples=8)


def test_a_cell_takes_its_own_format_before_the_row_the_column_and_the_table():
    wide = one_table()
    wide["rows"][1] = {"cell": "{:.1f} to {:.1f}", "cells": ["range", [1, 2], "7"]}
    assert tables.render(wide).splitlines() == [
        "| NFE | uniform | calls |",
        "| --- | --- | --- |",
        "| 4 | 22.32 ±0.19 | |",
        "| range | 1.0 to 2.0 | 7 |",
        "| 8 | **3.50 ±0.10** | - |",
    ]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row has 2 cells, the table 1 columns"):
        tables.render({"head": ["a"], "cell": "{}", "rows": [[1, 2]]})


def test_a_file_of_results_has_a_line_for_each_row_and_reads_back(tmp_path):
    write(tmp_path)
    text = (tmp_path / "some.json").read_text()
    assert '    ["4", [22.316, 0.194], null],\n' in text
    read = json.loads(text)
    assert read["source"] == "written by experiments/kernels.py"
    assert read["provenance"] == {"samples": 8}
    assert read["tables"] == {"one": one_table()}


def test_rows_of_a_comparison_become_tables_both_ways():
    rows = [
        row(4, "uniform", 0.5, 0.75),
        row(4, "jys", 0.25, 0.375),
        row(8, "uniform", 0.125, 0.25),
    ]
    titles = {"uniform": "uniform times", "jys": "JYS"}
    by_nfe = results.by_nfe(rows, titles)
    assert by_nfe["head"] == ["NFE", "uniform times", "JYS"]
    assert by_nfe["rows"] == [["4", [50, 25], [25, 12.5]], ["8", [12.5, 12.5], None]]
    by_schedule = results.by_schedule(rows, titles | {"cosine": "cosine"}, [4, 8])
    assert by_schedule["head"] == ["NFE", "4", "8"]
    assert by_schedule["rows"] == [
        ["uniform times", [50, 25], [12.5, 12.5]],
        ["JYS", [25, 12.5], None],
    ]


def test_what_stands_between_the_markers_is_replaced(tmp_path):
    write(tmp_path)
    wide = one_table()
    wide["rows"] = wide["rows"][:1]
    results.write_results(tmp_path / "some.json", "kernels.py", {"one": wide})
    new = tables.rendered(PAGE, tmp_path)
    assert new.startswith("Before.\n\n<!-- table: some/one -->\n| NFE | uniform | calls |\n")
    assert new.endswith("| 4 | 22.32 ±0.19 | |\n<!-- end -->\n\nAfter.\n")
    assert tables.rendered(new, tmp_path) == new


@pytest.mark.parametrize("name", ["some/two", "other/one"])
def test_a_marker_without_results_is_refused(name, tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=f"table {name}"):
        tables.rendered(PAGE.replace("some/one", name), tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.json")), ids=str)
def test_every_file_of_results_renders_and_says_where_it_is_from(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["source"].startswith(("transcribed from ", "written by experiments/"))
    assert results.dumps(content) == path.read_text(encoding="utf-8"), "not as results.py writes it"
    for table in content["tables"].values():
        assert tables.render(table).count("\n") == 2 + len(table["rows"])
