"""Several processes that do one piece of work together, on one machine or on several.

    torchrun --nproc-per-node 2 -m jumpsteps sample MODEL ...
    accelerate launch --num_processes 2 -m jumpsteps sample MODEL ...
    srun jumpsteps sample MODEL ...

One process per GPU, or per CPU core. Each launcher tells a process its number by environment
variables; a process that has none works alone. What processes exchange is small: gradients, or a
few numbers for each sequence of a search. Tensors on a GPU go through NCCL, others through gloo.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

__all__ = ["ALONE", "Launch", "Stopped", "Workers", "launch_of", "workers_of_launcher"]

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one of them may write results for hours."""


class Stopped(Exception):
    """This process ends because another one failed, which has said why."""


@dataclass(frozen=True)
class Launch:
    """What a launcher says of this process.

    Attributes:
        rank: its number, 0..count - 1.
        count: number of processes.
        local: its number on this machine.
        url: where the processes meet.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    url: str = "env://"

    def device(self, kind: torch.device) -> torch.device:
        """The device of this process: a GPU of its own, if ``kind`` is a GPU; torch's current one.

        Raises:
            ValueError: more processes than GPUs.
        """
        if self.count == 1 or kind.type != "cuda":
            return kind
        count = torch.cuda.device_count()
        if self.local >= count > 1 or (self.local and count == 1 and self.url == "env://"):
            raise ValueError(
                f"this machine has {count} GPUs, and process {self.local} finds none left; start "
                "one process per GPU, or pass --device cpu"
            )
        device = torch.device("cuda", self.local if self.local < count else 0)
        torch.cuda.set_device(device)
        return device


UNEVEN = 1.125
"""How much larger than the mean the largest part may be, so that all are whole batches."""


@dataclass(frozen=True)
class Workers:
    """What one process knows of the others.

    Attributes:
        rank: its number, 0..count - 1.
        count: number of processes.
        store: a key-value store of all processes; None for a process alone.
        launch: where this process is.
    """

    rank: int = 0
    count: int = 1
    store: "Store | None" = None
    launch: Launch = Launch()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def device(self, kind: torch.device) -> torch.device:
        """The device of this process, as ``Launch.device`` has it: a GPU that no other one has.

        Raises:
            ValueError: more processes than GPUs, or a GPU that another process has. NCCL does not
                connect two processes on one GPU.
        """
        device = self.launch.device(kind)
        if device.type != "cuda" or self.store is None:
            return device
        name = f"GPU {torch.cuda.get_device_properties(device).uuid}"
        owner = int(self.store.compare_set(name, "", str(self.rank)))
        if owner != self.rank:
            raise ValueError(
                f"processes {owner} and {self.rank} have the same GPU; start one process per GPU "
                "(srun --gpus-per-task=1), or pass --device cpu"
            )
        return device

    def share(self, batch: int) -> int:
        """This process's part of a batch.

        Raises:
            ValueError: the batch cannot be divided equally.
        """
        if batch % self.count:
            raise ValueError(
                f"a batch of {batch} cannot be divided among {self.count} processes; "
                f"pass --batch {max(1, batch // self.count) * self.count}"
            )
        return batch // self.count

    def average(self, tensor: Tensor, *, bf16: bool = False) -> None:
        """Replace a tensor by its mean over the processes, rounded to bfloat16 if asked."""
        if self.count == 1:
            return
        sent = tensor / self.count
        if bf16:
            sent = sent.to(torch.bfloat16)
        dist.all_reduce(sent)
        tensor.copy_(sent)

    def of_first(self, number: float, device: torch.device) -> float:
        """The number of the first process, in all of them."""
        if self.count == 1:
            return number
        shared = torch.tensor(number, device=device, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.all_reduce(torch.zeros(1))

    def ranges_of_first(self, find: Callable[[], Sequence[range]]) -> list[range]:
        """What ``find`` returns in the first process, in all of them; it is called there alone."""
        if self.count == 1:
            return list(find())
        number, found = torch.zeros(1, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64)
        if self.is_first:
            found = torch.tensor([(one.start, one.stop) for one in find()]).reshape(-1, 2)
            number[0] = len(found)
        dist.broadcast(number, 0)
        if not self.is_first:
            found = torch.zeros(int(number), 2, dtype=torch.int64)
        dist.broadcast(found, 0)
        return [range(first, stop) for first, stop in found.tolist()]

    def bytes_of_first(self, size: int, make: Callable[[], bytes]) -> bytes:
        """The ``size`` bytes that ``make`` returns in the first process, in all of them; it is
        called there alone.
        """
        if self.count == 1:
            return make()
        content = make() if self.is_first else bytes(size)
        shared = torch.tensor(list(content), dtype=torch.uint8)
        dist.broadcast(shared, 0)
        return bytes(shared.tolist())

    def part_of(self, ranges: Sequence[range], batch: int) -> list[range]:
        """This process's part of the numbers in ``ranges``, which are done ``batch`` at a time.

        Parts are of whole batches, those of one process, unless the largest part would be more
        than ``UNEVEN`` times the mean; else they are equal up to one number.
        """
        total = sum(map(len, ranges))
        pieces = [one[i : i + batch] for one in ranges for i in range(0, len(one), batch)]
        if -(-len(pieces) // self.count) * batch * self.count > UNEVEN * total:
            pieces = [one[i : i + 1] for one in ranges for i in range(len(one))]
        first, stop = (k * len(pieces) // self.count for k in (self.rank, self.rank + 1))
        mine: list[range] = []
        for piece in pieces[first:stop]:
            if mine and mine[-1].stop == piece.start:
                piece = range(mine.pop().start, piece.stop)
            mine.append(piece)
        return mine

    def rows_of(self, n: int) -> Tensor:
        """This process's rows of n: every ``count``-th, int64; never none, see ``gathered``."""
        rows = torch.arange(self.rank, n, self.count)
        return rows if len(rows) else torch.zeros(1, dtype=torch.int64)

    def rows_among(self, first: int, stop: int) -> list[int]:
        """This process's rows from ``first`` to before ``stop``, of rows counted from 0."""
        return list(range(first + (self.rank - first) % self.count, stop, self.count))

    def gathered(self, own: Tensor, owners: Tensor) -> Tensor:
        """The values [K, ...] of all processes, to the bit as they were computed.

        Args:
            own: this process's values [k, ...] in order. A process that owns none passes any.
            owners: the process that owns each of the K values, int64 [K], the same in all.
        """
        if self.count == 1:
            return own
        if not len(owners):
            return own[:0]
        parts = self.parts(own, torch.bincount(owners, minlength=self.count).tolist())
        values = own.new_empty(len(owners), *own.shape[1:])
        values[owners.argsort(stable=True).to(own.device)] = torch.cat(parts)
        return values

    def of_all(self, own: Tensor, n: int) -> Tensor:
        """The values [n, ...] of all processes, each of which has computed its ``rows_of`` n."""
        if self.count == 1 or not n:
            return own[:n]
        values = own.new_empty(n, *own.shape[1:])
        sizes = [len(range(rank, n, self.count)) for rank in range(self.count)]
        for rank, part in enumerate(self.parts(own, sizes)):
            values[rank :: self.count] = part
        return values

    def parts(self, own: Tensor, sizes: list[int]) -> list[Tensor]:
        """The values [size, ...] of each process; more than its size are left out."""
        sent = own[: sizes[self.rank]].contiguous()
        if len(sent) < max(sizes):
            sent = torch.cat([sent, sent.new_zeros(max(sizes) - len(sent), *sent.shape[1:])])
        received = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(received, sent)
        return [each[:size] for each, size in zip(received, sizes, strict=True)]

    def tally(self, name: str) -> Callable[[int], int] | None:
        """A function that adds to what all processes have done, and says how much that is; None
        for a process alone.
        """
        return None if self.store is None else partial(self.store.add, name)


ALONE = Workers()


def launch_of(environment: Mapping[str, str]) -> Launch:
    """What torchrun, accelerate or srun says of this process; one process alone without them.

    Raises:
        ValueError: variables of a launcher that are not numbers, or of a job step of srun without
            the names of its nodes.
    """
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environment.keys():
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, count, local = (number(environment, name) for name in names)
        return Launch(rank, count, local) if count > 1 else Launch()
    # A batch script has SLURM_NTASKS as well, and is one process; a step of srun has this one.
    if number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, count, local = (number(environment, name) for name in names)
        host = environment.get("MASTER_ADDR") or first_node(environment)
        job = number(environment, "SLURM_JOB_ID", 0)
        port = number(environment, "MASTER_PORT", 20000 + job % 20000)
        return Launch(rank, count, local, f"tcp://{host}:{port}")
    return Launch()


def number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        found = f"is {text!r}, which is no number" if name in environment else "is not set"
        raise ValueError(
            f"the launcher's variable {name} {found}; start with torchrun, accelerate launch or "
            "srun, or without RANK and WORLD_SIZE"
        )
    return int(text)


def first_node(environment: Mapping[str, str]) -> str:
    """The first of the nodes of a job step, such as n03 of n[03-07,12]."""
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    found = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    if found is None:
        raise ValueError("SLURM_STEP_NODELIST names no node; set MASTER_ADDR to the first one")
    return "".join(part or "" for part in found.groups())


@contextmanager
def workers_of_launcher() -> Iterator[Workers]:
    """The processes that a launcher started; within another such block those of that block.

    Raises:
        ValueError: another process is gone.
        Stopped: another process has failed, and has said why.
    """
    launch = launch_of(os.environ)
    if launch.count == 1:
        yield ALONE
        return
    if dist.is_initialized():
        yield Workers(launch.rank, launch.count, launch=launch)
        return
    # Some builds of torch lack them.
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous(launch.url, launch.rank, launch.count))
    store.set_timeout(PATIENCE)
    own = PrefixStore("jumpsteps", store)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=count,
            timeout=PATIENCE,
        )
        yield Workers(rank, count, own, launch)
    except BaseException as error:
        if isinstance(error, Exception) and not is_first_to_fail(own):
            raise Stopped from None
        if is_lost(error):
            what = " ".join(str(error).split())
            raise ValueError(f"another process ended before this one ({what})") from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_first_to_fail(store: "Store") -> bool:
    """Whether no other process has said before that it failed."""
    try:
        return store.add("failed", 1) == 1
    except dist.DistError:  # The process that keeps the store is gone.
        return True


def is_lost(error: BaseException) -> bool:
    """Whether an exchange failed because another process is gone."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )
