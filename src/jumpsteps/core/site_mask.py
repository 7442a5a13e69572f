"""Selected sites of a batch: a mask, bool [B, L], together with the indices of its K sites.

Finding the indices of a mask on a GPU makes the CPU wait for it. A ``SiteMask`` does that once,
when it is made; every later selection is a gather that waits for nothing. Functions that select
sites several times make one at their start and hand it on. ``SiteMask.of`` lets them take either
form. Of all sites (``SiteMask.everywhere``) a mask and indices are made only if they are asked for.
"""

from typing import overload

import torch
from torch import Tensor

__all__ = ["SiteMask", "selected"]


class SiteMask:
    """A mask with its indices, in the order of ``x[mask]``.

    Attributes:
        shape: (B, L).
        device: of mask and indices.

    Raises:
        ValueError: the mask is not bool [B, L].
    """

    __slots__ = ("device", "known_mask", "known_sites", "shape")

    def __init__(self, mask: Tensor, sites: Tensor | None = None) -> None:
        if mask.dtype != torch.bool or mask.ndim != 2:
            raise ValueError(
                f"a mask of sites must be bool [B, L], got {mask.dtype} {list(mask.shape)}"
            )
        self.shape, self.device = mask.shape, mask.device
        self.known_mask: Tensor | None = mask
        self.known_sites: Tensor | None = mask.flatten().nonzero()[:, 0] if sites is None else sites

    @overload
    @staticmethod
    def of(where: "Tensor | SiteMask") -> "SiteMask": ...
    @overload
    @staticmethod
    def of(where: None) -> None: ...
    @overload
    @staticmethod
    def of(where: "Tensor | SiteMask | None") -> "SiteMask | None": ...
    @staticmethod
    def of(where: "Tensor | SiteMask | None") -> "SiteMask | None":
        """The mask with its indices; as it is where it has them, or is None (all sites)."""
        return where if where is None or isinstance(where, SiteMask) else SiteMask(where)

    @staticmethod
    def at(sites: Tensor, shape: torch.Size) -> "SiteMask":
        """The mask of these sites [K], indices of a flattened [B, L] in increasing order."""
        empty = torch.zeros(shape.numel(), dtype=torch.bool, device=sites.device)
        return SiteMask(empty.index_fill_(0, sites, True).reshape(shape), sites)

    @staticmethod
    def of_count(mask: Tensor, count: int) -> "SiteMask":
        """A mask of so many sites, whose indices are found without waiting for a GPU."""
        flat = mask.flatten()
        # The n-th site is put at n; all that are not selected at the end, which is cut off.
        places = torch.where(flat, flat.cumsum(0) - 1, count)
        sites = torch.empty(count + 1, dtype=torch.int64, device=mask.device)
        numbers = torch.arange(len(flat), device=mask.device)
        return SiteMask(mask, sites.scatter_(0, places, numbers)[:count])

    @staticmethod
    def everywhere(x: Tensor) -> "SiteMask":
        """All sites of x [B, L], which are known without waiting for a GPU."""
        made = SiteMask.__new__(SiteMask)
        made.shape, made.device = x.shape, x.device
        made.known_mask = made.known_sites = None
        return made

    @property
    def mask(self) -> Tensor:
        """The mask, bool [B, L]; it must not be written to."""
        if self.known_mask is None:
            self.known_mask = torch.ones(self.shape, dtype=torch.bool, device=self.device)
        return self.known_mask

    @property
    def sites(self) -> Tensor:
        """The selected sites of the flattened mask, int64 [K]."""
        if self.known_sites is None:
            self.known_sites = torch.arange(len(self), device=self.device)
        return self.known_sites

    def __len__(self) -> int:
        """K."""
        return self.shape.numel() if self.known_sites is None else len(self.known_sites)

    @property
    def all(self) -> bool:
        """Whether every site is selected."""
        return len(self) == self.shape.numel()

    @property
    def rows(self) -> Tensor:
        """The sequence that each selected site is in, int64 [K]."""
        return self.sites // self.shape[1]

    def select(self, x: Tensor) -> Tensor:
        """x [B, L, ...] at the selected sites, [K, ...]; a view of x where they are all sites."""
        return x.flatten(0, 1) if self.all else x.flatten(0, 1)[self.sites]

    def put(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, L] with y [K], of x's dtype, at the selected sites; a new tensor, or a view of
        y.
        """
        return y.reshape(x.shape) if self.all else x.masked_scatter(self.mask, y)

    def split(self, most: int) -> list["SiteMask"]:
        """The same sites in pieces of at most ``most``, in order; one piece where they are few."""
        if len(self) <= most:
            return [self]
        return [SiteMask.at(piece, self.shape) for piece in self.sites.split(most)]


def selected(x: Tensor, where: Tensor | SiteMask | None) -> Tensor:
    """x [B, L, ...] at the selected sites, [K, ...]; x itself without a mask."""
    return x if where is None else SiteMask.of(where).select(x)
