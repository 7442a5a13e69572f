"""A model that remembers its calls."""

import torch
from torch import Tensor

from jumpsteps.denoiser.model import Model


class Asked:
    """A model that keeps the times it is asked about."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.times: list[Tensor] = []

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        self.times.append(torch.as_tensor(t, dtype=torch.float64))
        return self.model(x, t, where)
