r"""Kernels given by a matrix: any rates at all, and the Gaussian ones of tauLDR.

``RateMatrix`` serves every irreducible matrix of rates, reversible or not; ``Gaussian`` is tauLDR's. Transitions are a Taylor
series of a non-negative matrix, squared: no two numbers are ever subtracted, so that a probability of 1e-30 is as precise as one of
0.3. That is needed: a posterior is divided by these numbers. (A symmetric eigendecomposition is faster, and off by any factor where
a probability is below 1e-16; a network's reverse rates then come out up to 1e7 times too large.)

Times that are tensors cost one transition matrix for each distinct time.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.draws import categorical, poisson, uniform
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["MatrixKernel", "RateMatrix", "birth_death", "exponential_of_rates"]

SMALLEST = 1e-30
"""Likelihoods are raised to this share of the largest one of their site, so that dividing a network's posterior by them is safe."""


def exponential_of_rates(rates: Tensor, elapsed: Tensor) -> Tensor:
    """exp(elapsed R) for a matrix of rates R, float64 [T, V, V]; elapsed >= 0, [T].

    With 2^k pieces so short that at most half a jump is expected in one, each piece is a series of non-negative terms, and the
    pieces are put together by k squarings. Rows are normalised after each, which takes out the rounding that squaring would double.
    """
    fastest = (-rates.diagonal()).max()
    least = (
        len(rates) - 1
    ).bit_length()  # as many pieces as jumps may be needed: the series of one piece stops at 18
    pieces = (
        max(least, math.ceil(math.log2(max(float(fastest * elapsed.max()), 1e-300)) + 1))
        if elapsed.numel()
        else 0
    )
    piece = (elapsed / 2**pieces)[:, None, None]
    eye = torch.eye(len(rates), dtype=torch.float64, device=rates.device)
    jump = piece * (rates + fastest * eye).clamp_min(0)
    total = eye.expand_as(jump)
    for order in range(18, 0, -1):
        total = eye + jump @ total / order
    total = total / total.sum(-1, keepdim=True)
    for _ in range(pieces):
        total = total @ total
        total = total / total.sum(-1, keepdim=True)
    return total


@dataclass(frozen=True, kw_only=True)
class MatrixKernel(ForwardProcess):
    """A kernel that is known by its rates R_b alone."""

    @cached_property
    def rates_between(self) -> Tensor:
        """R_b off the diagonal, zero on it, float64 [V, V]."""
        return self.rate_matrix().fill_diagonal_(0)

    @cached_property
    def fastest(self) -> float:
        """The largest rate of leaving a state, in units of sigma."""
        return float(self.rates_between.sum(-1).max())

    @cached_property
    def gap(self) -> float:
        """Of the symmetric part of R_b in the stationary distribution: minus its largest eigenvalue but for zero (Fill 1991)."""
        root = self.stationary().sqrt()
        scaled = root[:, None] * self.rate_matrix() / root
        return float(-torch.linalg.eigvalsh(0.5 * (scaled + scaled.T))[-2])

    @abstractmethod
    def stationary(self) -> Tensor:
        """The distribution that R_b leaves unchanged, float64 [V]; noise is drawn from it."""

    def exponential(self, elapsed: Tensor) -> Tensor:
        """exp(elapsed R_b), float64 [T, V, V], for elapsed [T]."""
        return exponential_of_rates(self.rate_matrix().to(elapsed.device), elapsed)

    def transition(self, s: float, t: float) -> Tensor:
        return self.exponential((self.noise.total(t) - self.noise.total(s)).reshape(1))[0]

    def transitions(self, s: Time, t: Time, x: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct transition matrices [T, V, V] that the sites need, and which one is each site's, int64 of x's shape."""
        elapsed = (self.noise.total(t) - self.noise.total(s)).to(x.device)
        distinct, which = elapsed.unique(return_inverse=True)
        return self.exponential(distinct), which.expand(x.shape)

    def push(self, w: Tensor, t: Time) -> Tensor:
        matrices, which = self.transitions(0.0, t, w[..., 0])
        matrices = matrices.to(w)
        if len(matrices) == 1:
            return w @ matrices[0]
        if 4 * len(matrices) > which.numel():
            return (w[..., None, :] @ matrices[which]).squeeze(-2)
        probs = torch.empty_like(w)
        for i, matrix in enumerate(matrices):
            probs[which == i] = w[which == i] @ matrix
        return probs

    def pull(self, probs: Tensor, t: Time) -> Tensor:
        raise ValueError(
            f"a log-score cannot be turned into a posterior for the {self.name} kernel: the noise cannot be undone stably; "
            "use a model that gives p(x0 | x_t), with PosteriorReverse"
        )

    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        matrices, which = self.transitions(0.0, t, x)
        column = matrices[which, :, x]
        return column.clamp_min(SMALLEST * column.amax(-1, keepdim=True))

    def movable(self, x: Tensor) -> Tensor:
        return torch.ones_like(x, dtype=torch.bool)

    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: torch.Generator) -> Tensor:
        return self.movable(x)

    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        return self.transitions(s, t, x)[0][0].T.to(w)[x] * self.push(w, s)

    def rates_into(self, x: Tensor) -> Tensor:
        return self.rates_between.T.to(x.device)[x]

    def rates_from(self, x: Tensor) -> Tensor:
        return self.rates_between.to(x.device)[x]

    @cached_property
    def exit_excess(self) -> float:
        """The least c for which c/total + fastest bounds the rate of leaving, on 280 noise levels; raised by 2% for those between.

        sum_y R_b(y, x) q(x0, y) / q(x0, x) is c/total at small noise, c the number of jumps from x0 to x, and tends to a constant.
        Ten levels of the lowest octave are computed, and each is squared to the next octave.
        """
        level = float(self.noise.total(1.0)) * 2.0 ** (
            -28 + torch.arange(1, 11, dtype=torch.float64) / 10
        )
        q, worst = self.exponential(level), 0.0
        for _ in range(28):
            leaving = torch.where(q > 1e-280, q @ self.rates_between / q, 0.0).amax((1, 2))
            worst = max(worst, float((level * (leaving - self.fastest)).max()))
            level, q = 2 * level, q @ q
            q = q / q.sum(-1, keepdim=True)
        return 1.02 * worst

    def exit_bound(self, total: Tensor) -> Tensor:
        return self.exit_excess / total + self.fastest

    def exit_bound_integral(self, total: Tensor) -> Tensor:
        return self.exit_excess * total.log() + self.fastest * total

    def exit_bound_time(self, value: Tensor) -> Tensor:
        """By Newton's method in z = log(total): c z + fastest e^z is convex and increasing, so that it converges from any start."""
        z = (value / self.exit_excess).clamp_max(math.log(float(self.noise.total(1.0))))
        for _ in range(60):
            noise = self.fastest * z.exp()
            z = z - (self.exit_excess * z + noise - value) / (self.exit_excess + noise)
        return torch.where(value == -torch.inf, 0.0, z.exp())

    def sample_prior(
        self, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device
    ) -> Tensor:
        return categorical(self.stationary().to(device).expand(*shape, -1), generator=generator)

    def sample_transition(
        self, x: Tensor, s: Time, t: Time, *, generator: torch.Generator
    ) -> Tensor:
        matrices, which = self.transitions(s, t, x)
        return categorical(matrices[which, x], generator=generator)

    def sample_path(self, x0: Tensor, *, generator: torch.Generator) -> Callable[[Time], Tensor]:
        """Jumps at the times of a Poisson process of the fastest rate, some of them to the same state (uniformisation).

        Memory: fastest x total(1) jumps for each site.
        """
        device = x0.device
        horizon = self.noise.total(1.0).to(device)
        jumps = poisson((self.fastest * horizon).expand(x0.shape), generator=generator)
        most = int(jumps.max()) if jumps.numel() else 0
        clocks = horizon * uniform((*x0.shape, most), generator=generator, device=device)
        unused = torch.arange(most, device=device) >= jumps[..., None]
        clocks = clocks.masked_fill(unused, torch.inf)
        step = (
            (torch.eye(self.vocab_size, dtype=torch.float64) + self.rate_matrix() / self.fastest)
            .clamp_min(0)
            .to(device)
        )
        states = torch.empty(*x0.shape, most + 1, dtype=torch.int32, device=device)
        states[..., 0] = x = x0
        for i in range(most):
            x = categorical(step[x], generator=generator)
            states[..., i + 1] = x

        def at(t: Time) -> Tensor:
            elapsed = self.noise.total(t).to(device)[..., None]
            return (
                states.gather(-1, (clocks <= elapsed).sum(-1, keepdim=True))
                .squeeze(-1)
                .to(torch.int64)
            )

        return at


@dataclass(frozen=True, kw_only=True, eq=False)
class RateMatrix(MatrixKernel):
    """Any irreducible matrix of rates.

    Attributes:
        matrix: R_b, [V, V]; R_b[x, y] is the rate of x -> y. Rows sum to zero.

    Raises:
        ValueError: not a square matrix of rates, or one that does not connect all states. (For an absorbing state there is
        ``Absorbing``.)
    """

    matrix: Tensor
    vocab_size: int = field(init=False)
    name: ClassVar[str] = "rate-matrix"

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.matrix, dtype=torch.float64, device="cpu").clone()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(
                f"a rate matrix must be square, [V, V], got shape {list(matrix.shape)}"
            )
        off = matrix - matrix.diagonal().diag()
        if not (
            torch.isfinite(matrix).all()
            and (off >= 0).all()
            and (matrix.sum(-1).abs() <= 1e-6 * off.max()).all()
        ):
            raise ValueError(
                "a rate matrix needs finite rates >= 0 off the diagonal, and rows that sum to zero"
            )
        object.__setattr__(self, "matrix", off - off.sum(-1).diag())
        object.__setattr__(self, "vocab_size", len(matrix))
        super().__post_init__()
        steps = ((off > 0) | torch.eye(len(off), dtype=torch.bool)).double()
        for _ in range(len(off).bit_length()):
            steps = (steps @ steps).clamp_max(1)
        if not (steps > 0).all():
            raise ValueError(
                "a rate matrix must lead from every state to every other; for a MASK state use Absorbing"
            )

    def rate_matrix(self) -> Tensor:
        return self.matrix.clone()

    def stationary(self) -> Tensor:
        last = self.matrix.clone().T
        last[-1] = 1
        right = torch.zeros(len(last), dtype=torch.float64)
        right[-1] = 1
        probs = torch.linalg.solve(last, right).clamp_min(0)
        return probs / probs.sum()


def birth_death(up: Tensor, down: Tensor) -> Tensor:
    """The rate matrix of a walk to the nearest neighbours, [V, V]: x -> x + 1 at rate up[x], x + 1 -> x at rate down[x]; both
    [V-1].

    With equal rates, the continuous-time form of D3PM's nearest-neighbour kernel (Austin et al. 2021, App. A.2.4), whose stationary
    distribution is uniform.
    """
    matrix = torch.diag(up.to(torch.float64), 1) + torch.diag(down.to(torch.float64), -1)
    return matrix - matrix.sum(-1).diag()
