"""Networks whose parameters are still in their files.

Where several processes divide a network (``models.sharding``), none of them needs all of it. A
loader makes the network for the device "meta", where parameters have a shape and no memory; then
each process reads the rows of every parameter that are its own. A safetensors file can be read that
way, a pickled one cannot.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from jumpsteps.models.loaded import check_layout, load_weights, read_pickle

__all__ = [
    "UnreadWeights",
    "opened",
    "parameters_on",
    "read_safetensors",
    "read_weights",
    "settled",
    "unread_weights",
]


@contextmanager
def parameters_on(device: torch.device) -> Iterator[None]:
    """Modules that are made here have parameters without memory, if the device is "meta".

    Their buffers, such as tables of positions, are made as everywhere else.
    """
    if device.type != "meta":
        yield
        return

    def unset(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(cast(Callable[..., None], unset))
    try:
        yield
    finally:
        hook.remove()


def settled(network: nn.Module, device: torch.device) -> None:
    """Move a network to the device, unless that is "meta", for evaluation."""
    network.eval()
    if device.type != "meta":
        network.to(device)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, of which tensors are read that are asked for, on the CPU.

    Raises:
        ValueError: no such file, or not a safetensors file.
    """
    if not path.exists():
        raise ValueError(
            f"there is no file {path}; a checkpoint folder holds config.json and model.safetensors"
        )
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); download or train it again") from None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        ValueError: no such file, or not a safetensors file.
    """
    with opened(path) as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


def read_weights(
    network: nn.Module, path: Path, device: torch.device
) -> Callable[[torch.device], None] | None:
    """Copy the weights of a file into a network of the same layout.

    Args:
        path: a safetensors file, or a pickled one.
        device: "meta" for a network without memory, whose parameters stay in the file.

    Returns:
        None, or a function that reads this process's parts of them; see ``UnreadWeights.read``.

    Raises:
        ValueError: no such file, a damaged one, or one of another layout.
    """
    if device.type != "meta":
        pickled = path.suffix == ".bin"
        load_weights(network, read_pickle(path) if pickled else read_safetensors(path), path)
        return None
    check_layout(network, shapes_in(path), path)
    unread = unread_weights(network, [path])
    assert unread is not None
    return unread.read


def shapes_in(path: Path) -> dict[str, list[int]]:
    """The shapes of the tensors of a safetensors file."""
    with opened(path) as file:
        names = file.keys()
        return {name: file.get_slice(name).get_shape() for name in names}


def unread_weights(network: nn.Module, paths: Sequence[Path]) -> "UnreadWeights | None":
    """The parameters of a network without memory, which stay in safetensors files; its buffers are
    read.

    Returns:
        None where the files do not hold all of them under the network's names, or hold a parameter
        twice that the network has once. Other tensors in the files are left out.

    Raises:
        ValueError: no such file, or a damaged one.
    """
    shapes = {path: shapes_in(path) for path in paths}
    files = {name: path for path, found in shapes.items() for name in found}
    stored: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if name in files:
            same_shape = shapes[files[name]][name] == list(parameter.shape)
            if not same_shape or stored.setdefault(id(parameter), name) != name:
                return None
    own = {name: id(parameter) for name, parameter in network.named_parameters()}
    buffers = dict(network.named_buffers(remove_duplicate=False))
    kept = [name for name in network.state_dict() if name in buffers]
    if not stored.keys() >= set(own.values()) or not files.keys() >= set(kept):
        return None
    for name in kept:
        with opened(files[name]) as file:
            buffers[name].copy_(file.get_tensor(name))
    return UnreadWeights(network, {name: stored[key] for name, key in own.items()}, files)


@dataclass(frozen=True)
class UnreadWeights:
    """Parameters that are still in safetensors files.

    Attributes:
        network: their network.
        names: a name of each parameter -> the name of its tensor.
        files: the name of a tensor -> its file.
    """

    network: nn.Module
    names: Mapping[str, str]
    files: Mapping[str, Path]

    @torch.no_grad()
    def read(self, device: torch.device) -> None:
        """Read this process's part of every parameter, after ``shard_network``, to the device.

        Raises:
            ValueError: a damaged file.
        """
        places: dict[int, list[tuple[nn.Module, str]]] = {}
        for name, parameter in self.network.named_parameters(remove_duplicate=False):
            module, _, own = name.rpartition(".")
            places.setdefault(id(parameter), []).append((self.network.get_submodule(module), own))
        for name, stored in self.names.items():
            parameter = self.network.get_parameter(name)
            # The file is closed each time, so that memory for what was read of it is free again.
            with opened(self.files[stored]) as file:
                part = part_of(parameter, file.get_slice(stored), device)
            for owner, attribute in places[id(parameter)]:
                setattr(owner, attribute, part)


def part_of(parameter: nn.Parameter, stored: Any, device: torch.device) -> nn.Parameter:
    """This process's rows of a divided parameter, read from a tensor of a file.

    Args:
        parameter: a ``DTensor``, of whose rows process r has the r-th part as ``torch.chunk``
            divides them.
        stored: a slice of ``safetensors``.
    """
    # It takes a second to import.
    from torch.distributed.tensor import DTensor

    assert isinstance(parameter, DTensor)
    own, mesh = parameter.to_local(), parameter.device_mesh
    part = torch.empty(own.shape, dtype=own.dtype, device=device)
    if len(own):
        first = mesh.get_local_rank() * -(-parameter.shape[0] // mesh.size())
        part.copy_(stored[first : first + len(own)])
    whole = DTensor.from_local(
        part,
        mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return nn.Parameter(whole, requires_grad=parameter.requires_grad)
