"""Several processes that train one network, each with a part of every batch.

    torchrun --nproc_per_node 2 -m jumpsteps train RECIPE --data PATH --out DIR

One process per GPU, or per CPU core. Gradients are averaged after every backward pass, so that all
processes have the same weights at all times; the first one writes the files. A process that was not
started by torchrun trains alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "Workers", "workers_of_torchrun"]


@dataclass(frozen=True)
class Workers:
    """What one process knows of the others.

    Attributes:
        rank: its number, 0..count - 1.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

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
            dist.barrier()


ALONE = Workers()


@contextmanager
def workers_of_torchrun(device: torch.device) -> Iterator[tuple[Workers, torch.device]]:
    """The processes that torchrun started, and this one's device: a GPU of its own if it is one."""
    if not dist.is_torchelastic_launched():
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
