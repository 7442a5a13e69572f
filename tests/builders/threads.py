"""Work that several processes share, done by as many threads, which exchange what they send."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from jumpsteps.core import distributed
from jumpsteps.core.distributed import Workers

T = TypeVar("T")


def in_threads(
    monkeypatch: pytest.MonkeyPatch, count: int, work: Callable[[Workers], T]
) -> list[T]:
    """What each of the processes has done."""
    place, barrier = threading.local(), threading.Barrier(count, timeout=60)
    slots = [torch.empty(0)] * count

    def all_gather(received: list[Tensor], sent: Tensor) -> None:
        slots[place.rank] = sent
        barrier.wait()
        for mine, theirs in zip(received, slots, strict=True):
            mine.copy_(theirs)
        barrier.wait()

    def run(rank: int) -> T:
        place.rank = rank
        return work(Workers(rank, count))

    with monkeypatch.context() as patched, ThreadPoolExecutor(count) as pool:
        patched.setattr(distributed.dist, "all_gather", all_gather)
        return list(pool.map(run, range(count)))
