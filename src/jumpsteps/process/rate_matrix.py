r"""Kernels that are known by their matrix of rates alone.

``RateMatrix`` serves every irreducible matrix R_b, reversible or not. Its stationary distribution
:math:`\pi` with :math:`\pi R_b = 0` is the prior. Transitions are exponentials of R_b
(``matrix_exponential``). Paths are drawn by uniformisation (Jensen 1953): with :math:`\lambda` the
largest rate of leaving a state, jumps come at the times of a Poisson process of rate
:math:`\lambda`, and each moves a site by the stochastic matrix :math:`I + R_b / \lambda`.

Memory and time are O(V^2) for one time. A tensor of times costs one transition matrix for each
distinct time.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import RowDraws, categorical, poisson, uniform
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.tensors import precise, sent
from jumpsteps.process.exit_rates import MatrixExit
from jumpsteps.process.given_data import DataAtSites, KnownPosterior, draw_products
from jumpsteps.process.kernel import ForwardProcess, stationary_distribution
from jumpsteps.process.matrix_exponential import exponential_of_rates
from jumpsteps.process.noise import Time
from jumpsteps.process.rate_checks import check_connected, check_rates, check_stationary
from jumpsteps.process.rates_hash import hash_of_rates
from jumpsteps.process.time_tables import TimeTables

__all__ = ["MatrixKernel", "RateMatrix", "birth_death"]

SMALLEST = 1e-280
"""A symbol whose likelihood is a smaller share of the largest one of its site counts as impossible:
float64 has no digits for it."""

AHEAD = 2**21
"""Numbers in the matrices that are made ahead on a GPU: 32 matrices of 256 symbols, which take it
little more time than one, and 160 MB for a moment; a CPU gains nothing."""


@kinds_checked()
@dataclass(frozen=True, kw_only=True)
class MatrixKernel(ForwardProcess):
    """A kernel that is known by R_b alone: a subclass writes ``rate_matrix`` and ``stationary``.

    Raises (when first used):
        ValueError: a matrix that is none of rates or does not connect all states, or a distribution
            that is not its stationary one.
    """

    @cached_property
    def checked(self) -> tuple[Tensor, Tensor]:
        """R_b and its stationary distribution, float64 [V, V] and [V], once they are checked."""
        kind = type(self).__name__
        rates, probs = self.rate_matrix(), self.stationary()
        check_rates(rates, self.vocab_size, f"{kind}.rate_matrix()")
        check_connected(rates, f"{kind}.rate_matrix()")
        check_stationary(probs, rates, f"{kind}.stationary()")
        return rates, probs

    @cached_property
    def rates_hash(self) -> str:
        return hash_of_rates(self.checked[0])

    @cached_property
    def rates_between(self) -> Tensor:
        return self.checked[0].clone().fill_diagonal_(0)

    @cached_property
    def max_exit_rate(self) -> float:
        return float(self.rates_between.sum(-1).max())

    @cached_property
    def spectral_gap(self) -> float:
        r"""The spectral gap of the additive reversibilisation of R_b (Fill 1991).

        It is minus the second largest eigenvalue of the symmetric part of
        :math:`\sqrt{\pi_i} R_b(i, j) / \sqrt{\pi_j}`. For a chain that is not reversible
        :math:`e^{-\mathrm{gap}\,\bar\sigma}` bounds the maximal correlation.
        """
        rates, probs = self.checked
        root = probs.sqrt()
        scaled = root[:, None] * rates / root
        return float(-torch.linalg.eigvalsh(0.5 * (scaled + scaled.T))[-2])

    @cached_property
    def exit_rate_bound(self) -> MatrixExit:
        return MatrixExit.of(self.rates_between, float(self.noise.total(1.0)))

    @abstractmethod
    def stationary(self) -> Tensor:
        """The distribution that R_b leaves unchanged, float64 [V]; it is the prior."""

    def prior(self) -> Tensor:
        return self.checked[1].clone()

    def announce(self, times: Sequence[float], device: torch.device) -> None:
        time_tables(self, device).announce(times)

    def exponential(self, elapsed: Tensor) -> Tensor:
        """exp(elapsed R_b), float64 [T, V, V], for elapsed [T]."""
        return exponential_of_rates(self.checked[0].to(elapsed.device), elapsed)

    def transition(self, s: float, t: float) -> Tensor:
        return self.exponential((self.noise.total(t) - self.noise.total(s)).reshape(1))[0]

    def transitions(self, s: Time, t: Time, x: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct transition matrices [T, V, V], and the index of each site's, int64 [...]."""
        elapsed = sent(self.noise.total(t) - self.noise.total(s), x.device)
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

    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        matrices, which = self.transitions(0.0, t, x)
        column = matrices[which, :, x]
        return column.masked_fill(column < SMALLEST * column.amax(-1, keepdim=True), 0)

    def weight_dtype(self, value: Tensor) -> torch.dtype:
        """Float64: likelihoods, which posteriors are divided by, go down to 1e-100 (Gaussian kernel
        with 256 symbols), and float32 would round most of w and of w q_{t|0} to zero.
        """
        return torch.float64

    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        return self.transitions(s, t, x)[0][0].T.to(w)[x] * self.push(w, s)

    def possible(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        if isinstance(t, Tensor) and t.ndim:
            return super().possible(log_posterior, x, t)
        log_posterior = log_posterior.to(precise(log_posterior))
        impossible = time_tables(self, x.device).impossible(float(t))
        if impossible is None:
            return log_posterior
        return log_posterior.masked_fill(impossible[x], -torch.inf)

    def can_become(self, x0: Tensor, x: Tensor, t: Time) -> Tensor:
        if isinstance(t, Tensor) and t.ndim:
            return super().can_become(x0, x, t)
        impossible = time_tables(self, x.device).impossible(float(t))
        return torch.ones_like(x, dtype=torch.bool) if impossible is None else ~impossible[x, x0]

    def possible_table(self, t: float, device: torch.device) -> Tensor:
        tables = time_tables(self, device)
        return marked(torch.ones_like(tables.rates, dtype=torch.float32), tables.impossible(t))

    def leaving_table(self, t: float, device: torch.device) -> Tensor:
        tables = time_tables(self, device)
        leaving = float(self.noise.rate(t)) * tables.jumps(t).exits
        return marked(leaving, tables.impossible(t))

    def sample_bridge(
        self, x0: Tensor, x: Tensor, t: float, s: float, *, generator: Generator
    ) -> Tensor:
        if s == 0:
            return x0
        first, then = time_tables(self, x.device).between((0.0, s), (s, t))
        return draw_products(x0, x, first, then.T, generator=generator)

    def exits(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        leaving = float(self.noise.rate(t)) * time_tables(self, x.device).jumps(t).exits.to(p)
        return leaving[x].mul_(p)

    def sample_jump(self, x0: Tensor, x: Tensor, t: float, *, generator: Generator) -> Tensor:
        tables = time_tables(self, x.device).jumps(t)
        return draw_products(x0, x, tables.q, tables.into, generator=generator)

    def sample_jump_sum(
        self, p: Tensor, x: Tensor, t: float, h: float, *, generator: Generator
    ) -> Tensor:
        return self.sample_jump_sum_of(KnownPosterior(p, x), x, t, h, generator=generator)

    def sample_jump_sum_of(
        self, data: DataAtSites, x: Tensor, t: float, h: float, *, generator: Generator
    ) -> Tensor:
        noise = h * float(self.noise.rate(t))
        return x + time_tables(self, x.device).near(t).sums(data, x, noise, generator=generator)

    def sample_prior(
        self, shape: tuple[int, ...], *, generator: Generator, device: torch.device
    ) -> Tensor:
        return categorical(self.checked[1].to(device).expand(*shape, -1), generator=generator)

    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: Generator) -> Tensor:
        matrices, which = self.transitions(s, t, x)
        return categorical(matrices[which, x], generator=generator)

    def sample_path(self, x0: Tensor, *, generator: Generator) -> Callable[[Time], Tensor]:
        """By uniformisation; memory: some max_exit_rate x total(1) jumps for each site."""
        device = x0.device
        horizon = sent(self.noise.total(1.0), device)
        mean = (self.max_exit_rate * horizon).expand(x0.shape)
        jumps = poisson(mean, generator=generator, now=True)
        most = int(jumps.max()) if jumps.numel() else 0
        clocks = uniform((*x0.shape, most), generator=generator, device=device).mul_(horizon)
        unused = torch.arange(most, device=device) >= jumps[..., None]
        clocks.masked_fill_(unused, torch.inf)
        eye = torch.eye(self.vocab_size, dtype=torch.float64)
        step = RowDraws((eye + self.checked[0] / self.max_exit_rate).clamp_min(0).to(device))
        dtype = torch.uint8 if self.vocab_size <= 256 else torch.int32
        states = torch.empty(most + 1, *x0.shape, dtype=dtype, device=device)
        states[0] = x = x0
        for i in range(most):
            x = step.draw(x, generator=generator)
            states[i + 1] = x

        def at(t: Time) -> Tensor:
            elapsed = sent(self.noise.total(t), device)[..., None]
            passed = (clocks <= elapsed).sum(-1)
            return states.gather(0, passed[None])[0].to(torch.int64)

        return at


def marked(table: Tensor, impossible: Tensor | None) -> Tensor:
    """The table, -1 where x0 cannot have become x."""
    return table if impossible is None else table.masked_fill(impossible, -1)


@lru_cache(maxsize=8)
def time_tables(kernel: MatrixKernel, device: torch.device) -> TimeTables:
    rates = kernel.checked[0].to(device)
    ahead = AHEAD // rates.numel() if device.type == "cuda" else 0
    return TimeTables(rates, kernel.noise.total, SMALLEST, ahead)


@kinds_checked()
@dataclass(frozen=True, kw_only=True, eq=False)
class RateMatrix(MatrixKernel):
    """Any irreducible matrix of rates.

    Attributes:
        matrix: R_b, [V, V]; R_b[x, y] is the rate of x -> y. Rows sum to zero.

    Raises:
        ValueError: not a square matrix of rates, or one that does not connect all states. (For an
            absorbing state there is ``Absorbing``.)
    """

    matrix: Tensor
    vocab_size: int = field(init=False)
    name: ClassVar[str] = "rate-matrix"
    source: ClassVar[str] = "Campbell et al. 2022"

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.matrix, dtype=torch.float64, device="cpu").clone()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(
                f"a rate matrix must be square, [V, V], got shape {list(matrix.shape)}"
            )
        check_rates(matrix, len(matrix), "the rate matrix")
        off = matrix - matrix.diagonal().diag()
        object.__setattr__(self, "matrix", off - off.sum(-1).diag())
        object.__setattr__(self, "vocab_size", len(matrix))
        super().__post_init__()
        check_connected(self.matrix, "the rate matrix")

    def rate_matrix(self) -> Tensor:
        return self.matrix.clone()

    def stationary(self) -> Tensor:
        return stationary_distribution(self.matrix)


def birth_death(up: Tensor, down: Tensor) -> Tensor:
    """The rate matrix [V, V] of a walk to the nearest neighbours.

    With equal rates it is the continuous-time form of D3PM's nearest-neighbour kernel (Austin et
    al. 2021, App. A.2.4), whose stationary distribution is uniform.

    Args:
        up: [V-1], the rates of x -> x + 1.
        down: [V-1], the rates of x + 1 -> x.
    """
    matrix = torch.diag(up.to(torch.float64), 1) + torch.diag(down.to(torch.float64), -1)
    return matrix - matrix.sum(-1).diag()
