"""Networks that do not fit one device: each of several processes holds a part of every layer.

The parts are gathered when a layer runs, and given up after it (FSDP2,
``torch.distributed.fsdp.fully_shard``). So a device holds its part of the network and one or two
whole layers. Every process draws its own samples, but the network runs in all of them at once, or
in none: a process that has nothing more to draw goes on to help the others (``InStep``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jumpsteps.core.distributed import Workers
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import call
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.process.noise import Time

__all__ = ["HelpingWorkers", "InStep", "shard_model", "shard_network"]


class InStep:
    """A network that is called in all processes at once, with other sequences in each.

    Args:
        network: a model whose parts the processes hold.
        length: L, of the sequence with which a process helps that has none of its own.
        device: of that sequence.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, network: nn.Module, length: int, device: torch.device) -> None:
        self.network, self.length, self.device = network, length, device

    def __call__(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        self.is_called(True)
        return call(self.network, x, t, where)

    @torch.no_grad()
    def help(self) -> None:
        """Take part in the others' calls until all processes are here."""
        x = torch.zeros(1, self.length, dtype=torch.int64, device=self.device)
        first = torch.zeros_like(x, dtype=torch.bool)
        first[0, 0] = True
        while self.is_called(False):
            call(self.network, x, 1.0, first)

    def is_called(self, here: bool) -> bool:
        """Whether the network is called now, by this process or another one."""
        calls = torch.tensor([float(here)])
        dist.all_reduce(calls)
        return float(calls) > 0


@dataclass(frozen=True)
class HelpingWorkers(Workers):
    """Processes that share a network, and help each other where they would wait."""

    help: Callable[[], None] = lambda: None

    def wait(self) -> None:
        self.help()


def shard_network(network: nn.Module, device: torch.device, processes: int) -> None:
    """Leave this process its part of a network, in place; the part is moved to the device.

    Args:
        network: the same in all processes, in memory of the CPU or without any (``meta``). It is
            only for evaluation afterwards.
    """
    # They take a second to import.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    network.requires_grad_(False)
    for layer in layers_of(network):
        fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def layers_of(network: nn.Module) -> Iterator[nn.Module]:
    """The modules of the outermost lists of modules."""
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from (layer for layer in child if next(layer.parameters(), None) is not None)
        else:
            yield from layers_of(child)


def shard_model(
    model: LoadedModel, device: torch.device, workers: Workers
) -> tuple[LoadedModel, Workers]:
    """The model with this process's part of the network on the device, and the processes that
    share it.

    Args:
        model: the same in all processes, loaded to the CPU, or to "meta" so that each reads its
            part alone.

    Raises:
        ValueError: one process alone, an exact model, which has no network, or a damaged file.
    """
    network = model.reverse.model
    if workers.count == 1:
        raise ValueError(
            "a network is divided among several processes; start them with torchrun, or leave out "
            "--shard-model"
        )
    if not isinstance(network, nn.Module):
        raise ValueError(f"{model.name} has no network to divide; leave out --shard-model")
    shard_network(network, device, workers.count)
    if model.read_parts is not None:
        model.read_parts(device)
    shared = InStep(network, model.length, device)
    helping = HelpingWorkers(
        workers.rank, workers.count, workers.store, workers.launch, help=shared.help
    )
    reverse = replace(model.reverse, model=shared)
    return replace(model, reverse=reverse, read_parts=None), helping
