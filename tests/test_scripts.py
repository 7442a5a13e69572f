"""Scripts find everything that they import from the library."""

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
