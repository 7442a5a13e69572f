"""Checks of a kernel's rate matrix and stationary distribution, which a user may have written."""

import torch
from torch import Tensor

__all__ = ["check_connected", "check_rates", "check_stationary"]

TOLERANCE = 1e-6
"""Of sums that should be zero, as a share of the largest rate or flow of probability."""


def check_rates(rates: Tensor, states: int, what: str) -> None:
    """Raises ValueError for what is no matrix of rates R_b, float64 [V, V].

    R_b[x, y] is the rate of x -> y: finite, zero or more off the diagonal, and rows sum to zero
    (Campbell et al. 2022).

    Args:
        states: V.
        what: start of the error message, such as "Mine.rate_matrix()".
    """
    check_form(rates, (states, states), what)
    off = off_diagonal(rates)
    if not bool((off >= 0).all()):
        x, y = (off == off.min()).nonzero()[0].tolist()
        raise ValueError(
            f"{what} has the rate {float(off[x, y]):g} of {x} -> {y}; rates off the diagonal must "
            "be zero or more"
        )
    largest = float(off.max())
    if sums_to_zero(rates, -1, largest):
        return
    columns = ", its columns do: transpose it" if sums_to_zero(rates, -2, largest) else ""
    row = int(rates.sum(-1).abs().argmax())
    raise ValueError(
        f"the rows of {what} must sum to zero{columns}; row {row} sums to "
        f"{float(rates[row].sum()):g}; set the diagonal to minus the sum of a row's other rates"
    )


def check_connected(rates: Tensor, what: str) -> None:
    """Raises ValueError for rates that do not lead from every state to every other."""
    off = off_diagonal(rates)
    steps = ((off > 0) | torch.eye(len(off), dtype=torch.bool)).double()
    for _ in range(len(off).bit_length()):
        steps = (steps @ steps).clamp_max(1)
    if not bool((steps > 0).all()):
        raise ValueError(
            f"{what} must lead from every state to every other; for a MASK state use Absorbing"
        )


def check_stationary(probs: Tensor, rates: Tensor, what: str) -> None:
    r"""Raises ValueError unless ``probs`` is the distribution with :math:`\pi R_b = 0`."""
    check_form(probs, (len(rates),), what)
    total = float(probs.sum())
    if not (bool((probs >= 0).all()) and abs(total - 1) <= TOLERANCE):
        raise ValueError(
            f"{what} must be probabilities: its least number is {float(probs.min()):g}, its sum "
            f"{total:g}"
        )
    flow = (probs[:, None] * off_diagonal(rates)).max()
    change = probs @ rates
    if float(change.abs().max()) > TOLERANCE * float(flow):
        state = int(change.abs().argmax())
        raise ValueError(
            f"{what} is not stationary: pi R is {float(change[state]):g} at state {state}, not "
            "zero; RateMatrix(matrix=..., noise=...) computes it for any matrix"
        )


def check_form(tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Raises ValueError for another type or shape, or numbers that are not finite."""
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.float64:
        found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(f"{what} must be a torch.float64 tensor, got {found}")
    if tuple(tensor.shape) != shape:
        wanted = "[V, V]" if len(shape) == 2 else "[V]"
        raise ValueError(
            f"{what} must have the shape {wanted} = {list(shape)}, got {list(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{what} holds NaN or infinity")


def off_diagonal(rates: Tensor) -> Tensor:
    return rates - rates.diagonal().diag()


def sums_to_zero(rates: Tensor, dim: int, largest: float) -> bool:
    return float(rates.sum(dim).abs().max()) <= TOLERANCE * largest
