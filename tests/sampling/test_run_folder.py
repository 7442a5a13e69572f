"""Samples that are kept while a run goes on: whole or not at all, and none twice."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from jumpsteps import KGillespie, SampleGenerators, uniform_counts
from jumpsteps.sampling import run_folder
from jumpsteps.sampling.batches import batches, draw_samples
from jumpsteps.sampling.loop import Simulation, simulate
from jumpsteps.sampling.run_folder import Parts, RunFolder, Samples
from jumpsteps.tasks import toy

N, LENGTH = 23, 4
REQUEST = {"seed": 1, "schedule": [1, 3]}


def drawn(parts: Parts | None = None, batch: int = 4) -> Samples:
    return draw_samples(
        toy.reverse("absorbing"),
        KGillespie(),
        uniform_counts(2, LENGTH),
        (N, LENGTH),
        generator=SampleGenerators(1, range(N)),
        batch=batch,
        parts=parts,
    )


def runs_until(stop: int, error: BaseException | None = None) -> Iterator[Simulation]:
    """Runs of 4 samples, of the first ``stop`` samples."""
    yield from batches(
        toy.reverse("absorbing"),
        KGillespie(),
        uniform_counts(2, LENGTH),
        (stop, LENGTH),
        generator=SampleGenerators(1, range(stop)),
        batch=4,
    )
    if error is not None:
        raise error


def same(a: Samples, b: Samples) -> bool:
    parts = ((a.samples, b.samples), (a.step_map, b.step_map))
    return a.nfe == b.nfe and all(torch.equal(x, y) for x, y in parts)


def test_parts_join_to_the_samples_of_an_unbroken_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "SAVE_EVERY", 0.0)
    parts = Parts(tmp_path, N)
    assert parts.missing() == [range(N)]
    assert same(drawn(parts), drawn())
    names = sorted(path.name.split(".")[0] for path in parts.folder.glob("samples-*"))
    assert names[0] == "samples-000000000-000000004"
    assert names[-1] == "samples-000000020-000000023"
    assert (len(names), parts.missing(), parts.done) == (6, [], N)


@pytest.mark.parametrize("batch", [1, 5, 23])
def test_only_what_is_missing_is_drawn(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path, N)
    runs = list(runs_until(20))
    parts.save(0, runs[:1])
    parts.save(8, runs[2:4])
    assert parts.missing() == [range(4, 8), range(16, N)]
    asked: list[int] = []
    monkeypatch.setattr(
        "jumpsteps.sampling.batches.simulate",
        lambda *args, **options: asked.append(args[3][0]) or simulate(*args, **options),
    )
    assert same(drawn(parts, batch), drawn())
    assert sum(asked) == 4 + (N - 16) + N


def test_damaged_parts_are_drawn_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path, N)
    for i, run in enumerate(runs_until(12)):
        parts.save(4 * i, [run])
    first, second, third = sorted(tmp_path.glob("samples-*"))
    first.write_bytes(first.read_bytes()[:-1])
    second.rename(second.with_name("samples-000000004-000000008.npz"))
    assert parts.missing() == [range(8), range(12, N)]
    assert same(drawn(parts), drawn())
    assert third.exists()


def test_overlapping_parts_count_once(tmp_path: Path) -> None:
    parts, runs = Parts(tmp_path, N), list(runs_until(20))
    parts.save(0, runs[:3])
    parts.save(4, runs[1:2])
    parts.save(8, runs[2:5])
    assert parts.missing() == [range(20, N)]
    assert same(drawn(parts), drawn())


def test_parts_that_another_process_wrote_must_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: Parts(tmp_path, N).save(0, later.pop()))
    parts, later = Parts(tmp_path, N), [list(runs_until(N))]
    parts.check()
    assert not later
    monkeypatch.setattr(run_folder, "SEEN_AFTER", -1.0)
    with pytest.raises(ValueError, match="lacks samples that another process has written; name"):
        Parts(tmp_path / "elsewhere", N).check()


def test_an_interrupted_run_keeps_whole_batches(tmp_path: Path) -> None:
    parts = Parts(tmp_path, N)
    with pytest.raises(KeyboardInterrupt):
        parts.keep(0, runs_until(12, KeyboardInterrupt()))
    assert parts.missing() == [range(12, N)]


def test_parts_are_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    parts = Parts(tmp_path, N)
    parts.keep(0, runs_until(20))
    rows = [part for part, _ in parts.files()]
    assert rows == [range(12), range(12, 20)]


def test_another_request_is_refused_and_the_same_continues(tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    folder = RunFolder(path, REQUEST | {"nan": float("nan"), "pair": (1, 2)})
    folder.parts(N).save(0, list(runs_until(4)))
    assert folder.close() == 4
    RunFolder(path, REQUEST | {"nan": float("nan"), "pair": [1, 2]}).close()
    with pytest.raises(ValueError, match=r"another seed \(1, not 2\); .* or remove the folder"):
        RunFolder(path, {"seed": 2})
    with pytest.raises(ValueError, match="unfinished run with another schedule"):
        RunFolder(path, REQUEST | {"schedule": list(range(50))})


def test_what_a_name_stands_for_is_part_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    folder = RunFolder(path, {"set of files": {"a": "1", "b": "2", "c": "3"}})
    folder.parts(N).save(0, list(runs_until(4)))
    folder.close()
    with pytest.raises(ValueError, match="run, and a and c changed since it began; put the old"):
        RunFolder(path, {"set of files": {"a": "9", "b": "2", "c": "9"}})
    with pytest.raises(ValueError, match="another set of files"):
        RunFolder(path, {"set of files": {"a": "1", "d": "2"}})


def test_a_folder_without_samples_serves_any_request(tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    RunFolder(path, REQUEST).lock.close()  # As a program leaves it that is killed.
    folder = RunFolder(path, {"seed": 2})
    assert folder.close() == 0
    assert not path.exists()


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.parts"
    path.mkdir()
    (path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no folder of a run; rename it"):
        RunFolder(path, REQUEST)
    (path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="is no manifest of a run"):
        RunFolder(path, REQUEST)
    assert (path / "mine.txt").read_text() == "mine"


def test_one_program_at_a_time_has_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x.parts", REQUEST)
    with pytest.raises(ValueError, match="another program writes to"):
        RunFolder(tmp_path / "x.parts", REQUEST)
    folder.remove()
    assert list(tmp_path.iterdir()) == []
