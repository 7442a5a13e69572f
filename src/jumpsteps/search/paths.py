r"""Forward paths of data, on which schedules are optimised.

A path is :math:`x_t` as a function of t, with :math:`x_t \sim q_{t|0}(\cdot \mid x_0)` and every
pair of times jointly distributed as in the forward process. All randomness is drawn at once, so
every time shares it (common random numbers) and an objective is a smooth function of its times.
Sites that are observed when sampling (a prompt, known bars) are clean at every time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked, said
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.draws import uniform
from jumpsteps.core.tensors import as_tokens
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time
from jumpsteps.schedules.orders import RevealOrder

__all__ = ["Paths"]


@said("paths of data, jumpsteps.Paths.draw(...)")
@dataclass(frozen=True)
class Paths:
    """Forward paths of B sequences, as a function of time; made by ``Paths.draw``.

    Attributes:
        forward: the forward process.
        data: x_0, int64 [B, L].
        free: bool [B, L], the sites that are not observed.
        at: x_t as a function of t, int64 [B, L], every site noised.
        keys: float64 [B, L], the absorbing kernel's random reveal order, smallest first; infinite
            at observed sites.
        workers: the processes that measure the sequences, each a part of them (``own``).
    """

    forward: ForwardProcess
    data: Tensor
    free: Tensor
    at: Callable[[Time], Tensor]
    keys: Tensor
    workers: Workers = ALONE

    @classmethod
    @kinds_checked()
    def draw(
        cls,
        forward: ForwardProcess,
        data: Tensor | NDArray[np.integer],
        *,
        generator: torch.Generator,
        given_mask: Tensor | None = None,
        workers: Workers = ALONE,
    ) -> "Paths":
        """Paths from data, integers [B, L].

        Args:
            given_mask: bool [L] or [B, L], the observed sites; None for none.
            workers: the processes that share the model calls; all have the same data and seed.

        Raises:
            ValueError: no sequences [B, L], tokens that data cannot hold, a mask of another
                shape, or a sequence without a free site.
        """
        data = as_tokens(data, "data", generator.device)
        if data.ndim != 2 or not len(data):
            raise ValueError(f"data must be tokens int64 [B, L], got shape {list(data.shape)}")
        forward.check_data(data, "data")
        known = torch.zeros_like(data, dtype=torch.bool)
        if given_mask is not None:
            given_mask = torch.as_tensor(given_mask)
            if given_mask.shape not in (data.shape, data.shape[1:]):
                raise ValueError(
                    f"given_mask has shape {list(given_mask.shape)}, data {list(data.shape)}; "
                    "pass [L], or [B, L] as the data"
                )
            known = given_mask.to(data.device, torch.bool).expand(data.shape)
        if known.all(-1).any():
            raise ValueError(
                "given_mask leaves a sequence without a free site, so there is nothing to sample"
            )
        at = forward.sample_path(data, generator=generator)
        keys = uniform(tuple(data.shape), generator=generator, device=data.device)
        return cls(forward, data, ~known, at, keys.masked_fill(known, torch.inf), workers)

    def rows(self, rows: Tensor) -> "Paths":
        """The paths of these sequences, int64 [n]."""
        rows, at = rows.to(self.data.device), self.at
        return replace(
            self,
            data=self.data[rows],
            free=self.free[rows],
            at=lambda t: at(t)[rows],
            keys=self.keys[rows],
        )

    @property
    def own(self) -> "Paths":
        """The paths that this process measures by itself; those of one at least."""
        return replace(self.rows(self.own_rows), workers=ALONE)

    @property
    def own_rows(self) -> Tensor:
        """Which sequences ``own`` has, int64 [b]."""
        return self.workers.rows_of(len(self.data)).to(self.data.device)

    def of_all(self, values: Tensor) -> Tensor:
        """What every process has measured of its ``own`` sequences: [b, ...] -> [B, ...]."""
        return self.workers.of_all(values, len(self.data))

    def __call__(self, t: Time) -> Tensor:
        """x_t, int64 [B, L]; observed sites clean."""
        return torch.where(self.free, self.at(t), self.data)

    def movable(self, x: Tensor) -> Tensor:
        """The free sites that the reverse process can change, bool [B, L]."""
        return self.forward.movable(x) & self.free

    @cached_property
    def sites(self) -> int:
        """The number of free sites of each sequence.

        Raises:
            ValueError: it differs from sequence to sequence.
        """
        counts = self.free.sum(-1)
        if (counts != counts[0]).any():
            raise ValueError(
                f"sequences have {int(counts.min())} to {int(counts.max())} free sites, and a "
                "search for counts needs the same number in all; a run rescales what it finds"
            )
        return int(counts[0])

    def with_masked(self, n: int, ranks: Tensor | None = None) -> Tensor:
        """Data with n free sites masked, the last of an order, int64 [B, L] (absorbing kernel).

        Args:
            n: how many free sites are masked.
            ranks: [B, L], ``free_ranks`` of an order; None for the paths' own random order.
        """
        assert isinstance(self.forward, Absorbing)
        ranks = self.keys.argsort(-1).argsort(-1) if ranks is None else ranks
        return self.data.masked_fill((ranks >= self.sites - n) & self.free, self.forward.mask_id)

    def free_ranks(self, order: RevealOrder, *, generator: torch.Generator) -> Tensor:
        """The rank of every free site among the free ones, int64 [B, L]; observed ones last."""
        return order.free_ranks(self.free, generator=generator)
