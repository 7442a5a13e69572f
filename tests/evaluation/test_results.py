"""Files of results: what is written is read back, older files are read, damaged ones named."""

import json
from dataclasses import replace

import pytest

from builders.results import small_results
from jumpsteps.evaluation.results import load_results, save_results


def saved(path):
    made = small_results()
    save_results(
        path,
        list(made.rows),
        made.about,
        schedules=made.schedules,
        calibration=made.calibration,
    )
    return made


def test_results_survive_their_file(tmp_path):
    made = saved(tmp_path / "r.json")
    read = load_results(tmp_path / "r.json")
    assert (read.rows, read.schedules, read.calibration) == (
        made.rows,
        made.schedules,
        made.calibration,
    )
    assert made.about.items() <= read.about.items()


def test_rows_without_measures_and_examples_do_not_name_them(tmp_path):
    made = small_results()
    rows = [replace(made.rows[0], examples=None), replace(made.rows[1], measures={"mauve": (0.5,)})]
    save_results(tmp_path / "r.json", rows, made.about)
    plain, measured = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert not {"measures", "examples"} & set(plain)
    assert {"measures", "examples"} < set(measured)
    assert load_results(tmp_path / "r.json").rows == tuple(rows)


def test_files_of_version_1_are_read(tmp_path):
    made = saved(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    old = {k: v for k, v in content.items() if k not in ("schedules", "calibration")}
    old["schema_version"] = 1
    for row in old["rows"]:
        del row["examples"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    read = load_results(tmp_path / "old.json")
    assert [row.metric for row in read.rows] == [row.metric for row in made.rows]
    assert (read.schedules, read.calibration) == ({}, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "not a file of results; write one with"),
        ({"schema_version": 9}, "schema version 9"),
        ({"rows": [{}]}, "is damaged: KeyError"),
        ({"rows": 3}, "is damaged: TypeError"),
        ({"schedules": {"x": [{"nfe": 2, "counts": [0]}]}}, "is damaged: ValueError"),
        ({"schedules": 3}, "is damaged: AttributeError"),
    ],
)
def test_other_files_are_refused(tmp_path, change, message):
    saved(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text()) | change
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_results(tmp_path / "r.json")
