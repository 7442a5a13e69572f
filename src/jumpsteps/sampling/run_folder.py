"""What a run of many samples has drawn so far, in files, so that nothing is drawn twice or lost.

A run folder has a ``manifest.json``, which says what was asked, and parts: files of the samples
first..stop-1, named after these and the start of their SHA-256. A part is written whole or not at
all (``core.files``), and one that was damaged later does not count. A run that is stopped, by
whatever, continues with the samples that no part has. Samples do not depend on their batch
(``core.sample_generators``), so the outcome is that of a run that was not stopped.
"""

import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.files import locked_elsewhere, read_json, replacing, write_json
from jumpsteps.sampling.loop import Simulation

__all__ = ["Parts", "RunFolder", "Samples"]

SAVE_EVERY = 10.0
"""Seconds between two parts of a run, at least."""

SEEN_AFTER = 90.0
"""Seconds in which what one machine has written is seen by all, on a network file system."""

MANIFEST, LOCK, FORMAT = "manifest.json", "lock", "jumpsteps-run"
PART = re.compile(r"samples-(\d+)-(\d+)\.([0-9a-f]{16})\.npz")


@dataclass(frozen=True)
class Samples:
    """Many samples, of one run or of several batches.

    Attributes:
        samples: int64 [n, L].
        nfe: model calls of the costliest batch.
        step_map: int64 [n, L], see ``Simulation``.
    """

    samples: Tensor
    nfe: int
    step_map: Tensor

    @classmethod
    def joined(cls, runs: "Sequence[Simulation | Samples]") -> "Samples":
        """All samples, in the order of the runs."""
        samples = torch.cat([run.samples for run in runs])
        step_map = torch.cat([run.step_map for run in runs])
        return cls(samples, max(run.nfe for run in runs), step_map)

    def to(self, device: torch.device) -> "Samples":
        """The same on this device."""
        return Samples(self.samples.to(device), self.nfe, self.step_map.to(device))


class RunFolder:
    """The folder of an unfinished run, which one program at a time has.

    Args:
        path: of the folder; it is made if it is not there.
        request: what was asked for, as JSON; all of it decides the samples. A dict in it holds
            hashes of contents by their names.
        workers: the processes that share the folder, which the first of them makes and removes.

    Raises:
        ValueError: a folder of something else, of another request, or of a program that runs.
        OSError: nothing can be written there.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, workers: Workers = ALONE) -> None:
        self.path, self.workers = path, workers
        if workers.is_first:
            self.take(request)
        workers.wait()

    def take(self, request: Mapping[str, Any]) -> None:
        """Make the folder, or continue it, and lock it."""
        path, manifest = self.path, self.path / MANIFEST
        if not manifest.exists() and not self.is_empty:
            raise ValueError(f"{path} is there and is no folder of a run; rename it, or remove it")
        path.mkdir(parents=True, exist_ok=True)
        self.lock: BinaryIO = open(path / LOCK, "ab")  # noqa: SIM115 (open as long as the run)
        try:
            if locked_elsewhere(self.lock.fileno()):
                raise ValueError(f"another program writes to {path}; wait until it has finished")
            if self.is_empty:
                write_json(manifest, {"format": FORMAT, "request": dict(request)})
            check_request(path, read_json(manifest), request)
        except BaseException:
            self.lock.close()
            raise

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept, neither samples nor anything else that took time."""
        return {path.name for path in self.path.glob("[!.]*")} <= {MANIFEST, LOCK}

    def kept(self) -> int:
        """How many samples the folder has, in parts of any name."""
        names = (PART.fullmatch(path.name) for path in self.path.rglob("samples-*.npz"))
        return sum(int(name[2]) - int(name[1]) for name in names if name)

    def parts(self, n: int, name: str = "") -> "Parts":
        """The parts of n samples, in the folder or in one of this name within it."""
        return Parts(self.path / name, n)

    def close(self) -> int:
        """Let another program have the folder, and remove it if nothing is kept there, unless other
        processes may still write to it; the number of samples that are.
        """
        kept = self.kept()
        if self.workers.is_first:
            self.lock.close()
            if self.workers.count == 1 and self.is_empty:
                shutil.rmtree(self.path)
        return kept

    def remove(self) -> None:
        """The run is finished, and its samples are elsewhere."""
        if self.workers.is_first:
            self.lock.close()
            shutil.rmtree(self.path)


def check_request(path: Path, content: Any, request: Mapping[str, Any]) -> None:
    """Raises ValueError for the manifest of another request."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path / MANIFEST} is no manifest of a run; rename {path}, or remove it")
    asked = content.get("request", {})
    for name in dict.fromkeys([*request, *asked]):
        old, new = asked.get(name), request.get(name)
        if json.dumps(old) == json.dumps(new):  # Lists and tuples are equal, and NaN is NaN.
            continue
        if changed := changed_contents(old, new):
            raise ValueError(
                f"{path} holds an unfinished run, and {' and '.join(changed)} changed since it "
                "began; put the old content back to finish it, or remove the folder"
            )
        short = all(len(str(value)) <= 40 for value in (old, new))
        values = f" ({old}, not {new})" if short else ""
        raise ValueError(
            f"{path} holds an unfinished run with another {name}{values}; finish it with its "
            "own options, or remove the folder"
        )


def changed_contents(old: Any, new: Any) -> list[str]:
    """What both requests name, with hashes that differ: dicts of hashes by name."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return []
    return [name for name in new if name in old and old[name] != new[name]]


class Parts:
    """The samples of a run folder, as far as they are drawn.

    Attributes:
        folder: where the files are.
        n: number of samples of the whole run.
    """

    def __init__(self, folder: Path, n: int) -> None:
        self.folder, self.n = folder, n

    def files(self) -> list[tuple[range, Path]]:
        """The whole parts, in order, with the indices of their samples."""
        found = []
        for path in sorted(self.folder.glob("samples-*.npz")):
            name = PART.fullmatch(path.name)
            if name and digest(path.read_bytes()) == name[3]:
                found.append((range(int(name[1]), int(name[2])), path))
        return sorted(found, key=lambda part: (part[0].start, part[0].stop))

    def missing(self) -> list[range]:
        """The samples that no part has, in order."""
        left, start = [], 0
        for rows, _ in self.files():
            if rows.start > start:
                left.append(range(start, rows.start))
            start = max(start, rows.stop)
        return left if start >= self.n else [*left, range(start, self.n)]

    @property
    def done(self) -> int:
        """How many samples the parts have."""
        return self.n - sum(map(len, self.missing()))

    def keep(self, first: int, runs: Iterable[Simulation]) -> None:
        """Write the samples of these runs, which start at the index ``first``, as they come.

        Raises:
            KeyboardInterrupt: whole runs are kept.
        """
        held: list[Simulation] = []
        since = time.monotonic()
        try:
            for run in runs:
                held.append(run)
                if time.monotonic() - since >= SAVE_EVERY:
                    self.save(first, held)
                    first += sum(len(one.samples) for one in held)
                    held, since = [], time.monotonic()
        except KeyboardInterrupt:
            if held:
                self.save(first, held)
            raise
        if held:
            self.save(first, held)

    def save(self, first: int, runs: Sequence[Simulation]) -> None:
        """Write the samples of these runs, which start at the index ``first``."""
        made, buffer = Samples.joined(runs), io.BytesIO()
        samples, step_map = (x.to(torch.int32).cpu().numpy() for x in (made.samples, made.step_map))
        np.savez_compressed(buffer, samples=samples, step_map=step_map, nfe=np.int64(made.nfe))
        rows = f"{first:09d}-{first + len(samples):09d}"
        content = buffer.getvalue()
        with replacing(self.folder / f"samples-{rows}.{digest(content)}.npz") as temporary:
            temporary.write_bytes(content)

    def check(self) -> None:
        """Raises ValueError if a sample is missing, some time after all were written."""
        last = time.monotonic() + SEEN_AFTER
        while self.missing():
            if time.monotonic() > last:
                raise ValueError(
                    f"{self.folder} lacks samples that another process has written; name an output "
                    "on a file system that all machines share"
                )
            time.sleep(1)

    def read(self) -> Samples:
        """All samples, on the CPU. None may be missing."""
        found, start = [], 0
        for rows, path in self.files():
            if rows.stop > start:
                with np.load(path) as content:
                    arrays = (
                        content[name][start - rows.start :] for name in ("samples", "step_map")
                    )
                    samples, step_map = (torch.from_numpy(array).long() for array in arrays)
                    found.append(Samples(samples, int(content["nfe"]), step_map))
                start = rows.stop
        return Samples.joined(found)


def digest(content: bytes) -> str:
    """The start of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]
