"""Scripts find everything that they import from the library."""

import importlib
import os
import subprocess
import sys

import pytest

from test_layout import ROOT

FOLDERS = [ROOT / "benchmarks", ROOT / "experiments"]
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error, sep=": ")
"""


@pytest.mark.slow
def test_scripts_can_be_imported():
    names = [path.stem for folder in FOLDERS for path in sorted(folder.glob("*.py"))]
    path = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == ""


def test_every_schedule_in_the_curves_of_images_has_its_own_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    figures = importlib.import_module("cifar10_figures")
    looks = [figures.style(name) for name in figures.SCHEDULES]
    for part in ("color", "marker", "label"):
        assert len({look[part] for look in looks}) == len(looks)
