import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch

from jumpsteps.core.files import check_replaceable, read_numpy, replacing, write_json
from jumpsteps.evaluation.metrics import mean_interval


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "x.txt"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"

    def fail():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(TypeError):
        write_json(target, {"x": object()})
    assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["x.txt"]


def test_links_are_written_through(tmp_path):
    kept, link = tmp_path / "kept.txt", tmp_path / "link.txt"
    kept.write_text("old")
    link.symlink_to("kept.txt")
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert kept.read_text() == "new"
    link.unlink()
    link.symlink_to(tmp_path / "later" / "x.txt")
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "later" / "x.txt").read_text() == "new"
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(ValueError, match="a link to itself"), replacing(link):
        pass


def test_only_regular_files_are_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(ValueError, match="is no regular file"), replacing(path):
            pass
    assert pipe.is_fifo()
    with pytest.raises(ValueError, match="/dev/null is no regular file"):
        check_replaceable("/dev/null")


KILLED = """
import os, signal, sys
from jumpsteps.core.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_write_removes_what_a_kill_left(tmp_path):
    """Not the temporary file of a program that still writes, nor files of other names."""
    target, other = tmp_path / "x.txt", tmp_path / ".x-backup01.txt"
    other.write_text("mine")
    (tmp_path / "run.py").write_text(KILLED)
    path = os.pathsep.join(part for part in sys.path if part)
    command = [sys.executable, str(tmp_path / "run.py"), str(target)]
    assert subprocess.run(command, env={"PYTHONPATH": path}).returncode == -signal.SIGKILL
    (tmp_path / "run.py").unlink()
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            second.write_text("second")
            assert set(tmp_path.iterdir()) == {first, second, other}
    assert target.read_text() == "first"
    assert set(tmp_path.iterdir()) == {target, other}


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    """The system's limit of the size of a file stands for the full disk."""
    target = tmp_path / "x.json"
    write_json(target, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"x\.json cannot be written \(File too large\); make"):
            write_json(target, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['"old"\n']


def test_intervals_cover_the_mean_as_often_as_they_say():
    """Of 95% intervals of 2,000 sets of 50 normal numbers 93% to 96.5% cover the mean."""
    sets = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    intervals = [mean_interval(values) for values in sets]
    covered = sum(interval.low < 0 < interval.high for interval in intervals) / len(intervals)
    assert 0.93 < covered < 0.965
    assert (intervals[0].level, intervals[0].count) == (0.95, 50)
    with pytest.raises(ValueError, match="at least two values"):
        mean_interval(sets[0, :1])


def test_arrays_are_read_by_name(tmp_path):
    one, two = np.arange(3), np.ones((2, 2))
    np.save(tmp_path / "a.npy", two)
    np.savez_compressed(tmp_path / "a.npz", one=one, two=two)
    assert np.array_equal(read_numpy(tmp_path / "a.npy", "one")[""], two)
    found = read_numpy(tmp_path / "a.npz", "two", "three", "one")
    assert list(found) == ["two", "one"]
    assert np.array_equal(found["one"], one)
    with pytest.raises(FileNotFoundError):
        read_numpy(tmp_path / "none.npz", "one")


def test_damaged_arrays_are_one_line(tmp_path):
    """Bytes changed, and files cut: what numpy, zip and zlib raise is a ValueError."""
    path, tokens = tmp_path / "a.npz", np.arange(60).reshape(5, 12) % 7
    np.savez_compressed(path, tokens=tokens)
    np.save(tmp_path / "a.npy", tokens)
    for whole in (path.read_bytes(), (tmp_path / "a.npy").read_bytes()):
        damaged = [whole[:cut] for cut in range(0, len(whole), 16)]
        damaged += [
            whole[:i] + bytes([whole[i] ^ 0x21]) + whole[i + 1 :] for i in range(0, len(whole), 2)
        ]
        messages = [message for content in damaged if (message := refusal(path, content))]
        assert len(messages) > 40
        start = f"{path} holds no arrays that can be read ("
        assert all(one.startswith(start) and "\n" not in one for one in messages)


def refusal(path, content):
    """What reading says of this content; None if it can be read."""
    path.write_bytes(content)
    try:
        with suppress(MemoryError):  # Of a shape that is damaged.
            read_numpy(path, "tokens")
    except ValueError as error:
        return str(error)
    return None
