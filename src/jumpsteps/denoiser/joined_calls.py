r"""Several runs at once, whose model calls are made together.

Runs that call a model equally often, such as those of one sampler along several schedules, need one
call where they would need one each: their sequences are one batch, in which each has its own time,

    model([x_1, x_2, ...], [t_1, t_2, ...]).

Each run is a function of a model, in a thread of its own, that waits whenever it calls the model.
When all runs wait, the calls are made as one, in the thread that started the runs. Outputs for a
sequence do not depend on the other sequences, so results are those of separate runs, up to
rounding.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import Evaluation, Model, call, evaluate
from jumpsteps.process.noise import Time

__all__ = ["run_together"]

T = TypeVar("T")


def run_together(model: Model, runs: Sequence[Callable[[Model], T]]) -> list[T]:
    """What each run returns, with one call of ``model`` for those that the runs make together.

    Args:
        model: takes a time for each sequence, [B].
        runs: functions of a model.

    Raises:
        Exception: the first that a run or the model raises.
    """
    requests: SimpleQueue[tuple[int, Request | None]] = SimpleQueue()
    threads = [RunThread(i, run, requests) for i, run in enumerate(runs)]
    for thread in threads:
        thread.start()
    running, waiting = set(range(len(runs))), dict[int, Request]()
    while running:
        i, request = requests.get()
        if request is None:
            running.discard(i)
        else:
            waiting[i] = request
        if running and len(waiting) == len(running):
            asked = sorted(waiting)
            for i, answer in zip(asked, answers(model, [waiting[i] for i in asked]), strict=True):
                threads[i].answers.put(answer)
            waiting = {}
    for thread in threads:
        thread.join()
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    return [thread.result for thread in threads]


@dataclass(frozen=True)
class Request:
    """A call that a run waits for; ``kept`` asks for an ``Evaluation``."""

    x: Tensor
    t: Time
    where: SiteMask | None
    kept: bool

    @property
    def rows(self) -> int:
        """How many rows [V] the output has."""
        return self.x.numel() if self.where is None else len(self.where)


class RunThread(threading.Thread, Generic[T]):
    """A run, its result or error, and the answers to its calls."""

    result: T

    def __init__(
        self,
        number: int,
        run: Callable[[Model], T],
        requests: "SimpleQueue[tuple[int, Request | None]]",
    ) -> None:
        super().__init__(daemon=True)
        self.number, self.work, self.requests = number, run, requests
        self.answers: SimpleQueue[Tensor | Evaluation | Exception] = SimpleQueue()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self.work(WaitingModel(self))
        except Exception as error:
            self.error = error
        finally:
            self.requests.put((self.number, None))

    def ask(self, request: Request) -> Any:
        self.requests.put((self.number, request))
        answer = self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


class WaitingModel:
    """The model of one run: a call waits for those of the other runs."""

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, thread: RunThread[Any]) -> None:
        self.thread = thread

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        output: Tensor = self.thread.ask(Request(x, t, SiteMask.of(where), kept=False))
        return output

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        evaluation: Evaluation = self.thread.ask(Request(x, t, SiteMask.of(where), kept=True))
        return evaluation


@torch.no_grad()
def answers(model: Model, requests: list[Request]) -> Sequence[Tensor | Evaluation | Exception]:
    """The answer to each request, by one call; the model's error to all of them."""
    try:
        return joined(model, requests)
    except Exception as error:
        return [error] * len(requests)


def joined(model: Model, requests: list[Request]) -> Sequence[Tensor | Evaluation]:
    x = torch.cat([one.x for one in requests])
    t = joined_times(requests)
    sizes = [one.rows for one in requests]
    if not any(one.kept for one in requests):
        if all(one.where is None for one in requests):
            return call(model, x, t).split([len(one.x) for one in requests])
        rows = call(model, x, t, joined_sites(requests)).split(sizes)
        return [
            part.unflatten(0, one.x.shape) if one.where is None else part
            for part, one in zip(rows, requests, strict=True)
        ]
    evaluation = evaluate(model, x, t, joined_sites(requests))
    found: list[Tensor | Evaluation] = []
    for part, one in zip(evaluation.rows.split(sizes), requests, strict=True):
        where = everywhere(one.x) if one.where is None else one.where
        own = Evaluation(part, where, evaluation.read)
        found.append(own if one.kept else own(one.x, one.t, one.where))
    return found


def joined_times(requests: list[Request]) -> Time:
    """The time that all have, or one for each sequence, [B]."""
    first = requests[0].t
    if not isinstance(first, Tensor) and all(one.t is first or one.t == first for one in requests):
        return first
    device = requests[0].x.device
    return torch.cat(
        [
            torch.as_tensor(one.t, dtype=torch.float64, device=device).expand(len(one.x))
            for one in requests
        ]
    )


def joined_sites(requests: list[Request]) -> SiteMask:
    return SiteMask(
        torch.cat(
            [everywhere(one.x).mask if one.where is None else one.where.mask for one in requests]
        )
    )


def everywhere(x: Tensor) -> SiteMask:
    return SiteMask(torch.ones_like(x, dtype=torch.bool))
