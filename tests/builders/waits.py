"""Operations after which the CPU would wait for a GPU."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = (
    "nonzero",
    "_local_scalar_dense",
    "masked_select",
    "equal",
    "unique",
    "repeat_interleave",
)


class Waits(TorchDispatchMode):
    """Notes operations that would wait for a GPU: numbers read, and sites of a mask counted."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indices = args[1] if func.overloadpacket.__name__ in ("index", "index_put_") else ()
        masks = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)
        if masks or func.overloadpacket.__name__ in WAITING:
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
