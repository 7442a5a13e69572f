r"""Chunked evaluation for large vocabularies: the head runs on a chunk of sites at a time.

The outputs of all sites are L V numbers per sequence, 200 MB at the size of a small language model.
A network is a trunk and a head, :math:`\mathrm{out}^l = \mathrm{head}(h^l)` with :math:`h =
\mathrm{trunk}(x_t, t)`, and a draw or an entropy depends on the output of one site alone. So the
hidden states h are kept (``model.Evaluation``), and head and draw run chunk by chunk. Results do
not depend on the size of the chunks, but for samples of ordinal tau-leaping from a
``torch.Generator``: a site takes as many random numbers as it has rare jumps.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.sample_generators import Generator, at_sites, in_parts
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.noise import Time

__all__ = [
    "in_chunks",
    "read_in_chunks",
    "rows_in_chunks",
    "site_chunks",
    "site_entropies",
    "site_entropies_and_nll",
    "site_nll",
]

CHUNK_SIZE = {"cpu": 2**21, "cuda": 2**27}
"""Numbers in the largest tensors of a chunk, by type of device."""

Drawn = TypeVar("Drawn", Tensor, tuple[Tensor, Tensor])
"""What is drawn of each site of a chunk: one tensor [k, ...], or two."""


def site_chunks(where: Tensor | SiteMask, numbers: int) -> Iterator[SiteMask]:
    """The selected sites in chunks, in order; ``numbers`` is how many numbers one site takes."""
    where = SiteMask.of(where)
    size = CHUNK_SIZE.get(where.device.type, CHUNK_SIZE["cpu"])
    yield from where.split(max(size // numbers, 1))


def in_chunks(
    reverse: ReverseProcess,
    x: Tensor,
    t: Time,
    where: Tensor | SiteMask,
    draw: Callable[[Tensor, SiteMask, Generator], Drawn],
    *,
    generator: Generator,
) -> Drawn:
    """``draw(output, sites, generator)`` for each chunk of the selected sites, [K, ...]; one model
    call.

    Args:
        draw: the model's output at a chunk [k, V], the chunk's sites and the source of their draws
            -> [k, ...], or two of these.
    """
    where = SiteMask.of(where)
    source = at_sites(generator, where)
    chunks = list(site_chunks(where, reverse.forward.vocab_size))
    if len(chunks) == 1:
        return draw(reverse.call_model(x, t, where), where, source)
    evaluation = reverse.evaluate(x, t, where)
    return read_in_chunks(evaluation, x, t, where, reverse.forward.vocab_size, draw, source)


def read_in_chunks(
    evaluation: Evaluation,
    x: Tensor,
    t: Time,
    where: SiteMask,
    numbers: int,
    draw: Callable[[Tensor, SiteMask, Generator], Drawn],
    source: Generator,
) -> Drawn:
    """``in_chunks`` of an evaluation that was made; ``source`` is that of the selected sites,
    ``numbers`` how many numbers one of them takes.
    """
    chunks = list(site_chunks(where, numbers))
    sources = in_parts(source, [len(chunk) for chunk in chunks])
    parts = [
        draw(evaluation(x, t, chunk), chunk, part)
        for chunk, part in zip(chunks, sources, strict=True)
    ]
    return joined(parts)


def rows_in_chunks(
    evaluation: Evaluation,
    x: Tensor,
    where: SiteMask,
    symbols: int,
    draw: Callable[[Tensor, Tensor, Generator], Drawn],
    source: Generator,
) -> Drawn:
    """``draw(rows, tokens, generator)`` for each chunk of the selected sites, [K, ...]: of a head
    that draws from what is kept of a site. ``source`` is that of the selected sites.
    """
    chunks = list(site_chunks(where, symbols))
    sources = in_parts(source, [len(chunk) for chunk in chunks])
    return joined(
        [
            draw(evaluation.rows_at(chunk), chunk.select(x), part)
            for chunk, part in zip(chunks, sources, strict=True)
        ]
    )


def joined(parts: list[Drawn]) -> Drawn:
    """What was drawn of all chunks, from that of each."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(parts)
    left, right = zip(*parts, strict=True)
    return torch.cat(left), torch.cat(right)


def site_entropies(
    reverse: ReverseProcess,
    x: Tensor,
    t: Time,
    where: Tensor | SiteMask,
    workers: Workers = ALONE,
) -> Tensor:
    """Entropies of p(x0^l | x_t^{-l}) at the selected sites, nats, float64 [K]; one model call.

    Of several processes, which all have x and t, each evaluates a part of the sequences.
    """
    return over_chunks(reverse, x, t, where, lambda w, symbols: entropies(w), workers=workers)


def site_nll(
    reverse: ReverseProcess,
    x: Tensor,
    t: Time,
    where: Tensor | SiteMask,
    data: Tensor,
    workers: Workers = ALONE,
) -> Tensor:
    """-log p(x0^l | x_t^{-l}) of data [B, L] at the selected sites, nats, float64 [K]; one model
    call.

    Infinite where the model excludes the data's symbol.
    """
    return over_chunks(reverse, x, t, where, nll, data, workers)


def site_entropies_and_nll(
    reverse: ReverseProcess,
    x: Tensor,
    t: Time,
    where: Tensor | SiteMask,
    data: Tensor,
    workers: Workers = ALONE,
) -> tuple[Tensor, Tensor]:
    """``site_entropies`` and ``site_nll`` by one model call."""

    def both(w: Tensor, symbols: Tensor) -> Tensor:
        return torch.stack([entropies(w), nll(w, symbols)], 1)

    found = over_chunks(reverse, x, t, where, both, data, workers).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def over_chunks(
    reverse: ReverseProcess,
    x: Tensor,
    t: Time,
    where: Tensor | SiteMask,
    read: Callable[[Tensor, Tensor], Tensor],
    data: Tensor | None = None,
    workers: Workers = ALONE,
) -> Tensor:
    """``read(w, symbols)`` of the leave-one-out posteriors [k, V] and the data [k] of each chunk,
    float64 [K, ...].
    """
    where, data = SiteMask.of(where), x if data is None else data
    if workers.count > 1:
        rows = workers.rows_of(len(x)).to(x.device)
        time = t[rows] if isinstance(t, Tensor) and t.ndim else t
        mine = SiteMask(where.mask[rows])
        own = over_chunks(reverse, x[rows], time, mine, read, data[rows])
        return workers.gathered(own, where.rows % workers.count)
    evaluation = reverse.evaluate(x, t, where)
    parts = [
        read(reverse.leave_one_out_from(evaluation(x, t, chunk), x, t, chunk), chunk.select(data))
        for chunk in site_chunks(where, reverse.forward.vocab_size)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device=x.device)


def entropies(w: Tensor) -> Tensor:
    """Of distributions [K, V], nats, float64 [K]."""
    return -torch.xlogy(w, w).sum(-1, dtype=torch.float64)


def nll(w: Tensor, symbols: Tensor) -> Tensor:
    """-log w(symbol) of distributions [K, V] up to their rounded sums, nats, float64 [K]."""
    own = w.gather(-1, symbols[:, None])[:, 0].to(torch.float64)
    return w.sum(-1, dtype=torch.float64).log() - own.log()
