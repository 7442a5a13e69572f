"""Random inputs, and the promise that bad ones are refused in one line.

``JUMPSTEPS_FUZZ`` is the number of inputs of all fuzz tests together: 500 by default, the same in
every run. With the variable set, inputs follow ``--hypothesis-seed``.
"""

import copy
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ASKED = os.environ.get("JUMPSTEPS_FUZZ")
INPUTS = int(ASKED or 500)

ODD: list[Any] = [None, True, False, "", "x", "nan", "1e3", [], {}, [[]], {"type": "x"}]
ODD += [0, -1, 1, 2, 3, 7, 1.5, 1e-300, 1e300, 10**9, 2**63, 10**30]
ODD += [float("nan"), float("inf"), -float("inf")]
"""What takes the place of a value in JSON."""

RAW = ["", "[" * 100_000, "null", "9" * 5000, '"', "{}", "\ufeff{}", '{"a": 1,}']
"""Files that are no JSON, or none of ours."""


def fuzzed(percent: int) -> settings:
    """Settings of a test that takes this share of all inputs."""
    return settings(
        max_examples=max(1, INPUTS * percent // 100),
        derandomize=ASKED is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def refused_in_one_line(call: Callable[[], Any]) -> Any:
    """What the call returns; None where it raises a ValueError of one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except ValueError as error:
            line = str(error)
            assert line.strip(), "an error without a message"
            assert "\n" not in line, line
            return None


def places_in(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in JSON."""
    if at:
        yield at
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        yield from places_in(value, (*at, key))


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """JSON of which one to three values are replaced, removed, renamed or doubled."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(content))
        if not places:
            return content
        *folders, key = draw(st.sampled_from(places))
        inside = content
        for one in folders:
            inside = inside[one]
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if what == "replace":
            odd = draw(st.sampled_from(ODD) | st.floats() | st.integers(-5, 50))
            inside[key] = copy.deepcopy(odd)
        elif what == "remove":
            del inside[key]
        elif isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        else:
            inside[draw(st.text(max_size=5))] = inside[key]
    return content


@st.composite
def json_files(draw: st.DrawFn, contents: list[Any]) -> bytes:
    """Changed JSON, its beginning, or something else."""
    kind = draw(st.sampled_from(["changed"] * 8 + ["cut", "raw", "bytes"]))
    if kind == "raw":
        return draw(st.sampled_from(RAW)).encode()
    text = json.dumps(draw(st.sampled_from(contents).flatmap(changed))).encode()
    return text if kind == "changed" else draw(damaged(text))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which one to four pieces are overwritten, cut out or put in, or the end is lost."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        some = draw(st.binary(max_size=4) | st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f\xff"]))
        kind = draw(st.sampled_from(["overwrite", "overwrite", "insert", "remove", "cut"]))
        rest = {
            "overwrite": some + content[at + len(some) :],
            "insert": some + content[at:],
            "remove": content[at + len(some) :],
            "cut": b"",
        }
        content = content[:at] + rest[kind]
    return content


CACHES = re.compile("__pycache__|torchinductor_|matplotlib")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
watched: list[list[str]] = []


def note_writes(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: the paths that are written to while a list is on top of ``watched``."""
    if not watched:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode) & set("wax+") if mode else (flags or 0) & WRITES
        if writes and isinstance(path, str | bytes | os.PathLike):
            watched[-1].append(os.path.abspath(os.fsdecode(path)))
    elif event in CHANGES:
        watched[-1] += [os.path.abspath(one) for one in arguments if isinstance(one, str)]


sys.addaudithook(note_writes)


def fingerprint(folder: Path, but: Path) -> dict[str, bytes]:
    """The files below a folder and their content, without those in ``but``."""
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and but not in path.parents
    }


@contextmanager
def writing_only_in(out: Path) -> Iterator[None]:
    """Fails if a file is written outside ``out``, or one beside it is changed.

    Caches do not count. Files that other code than Python's opens are only seen in the folder that
    holds ``out``.
    """
    before, paths = fingerprint(out.parent, out), []
    watched.append(paths)
    try:
        yield
    finally:
        watched.pop()
    elsewhere = [
        path
        for path in paths
        if not (Path(path).is_relative_to(out) or path == os.devnull or CACHES.search(path))
    ]
    assert elsewhere == [], f"written outside the output folder: {elsewhere}"
    assert fingerprint(out.parent, out) == before
