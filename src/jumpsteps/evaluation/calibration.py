r"""What a model's probabilities are worth on data: whether it is as uncertain as it is wrong.

Data are noised to a few levels, and the posterior p(x_0^l given x_t) is read at sites that can
change. Two comparisons follow. At every noise level, the mean entropy against the mean -log p of
the data, which are equal for a calibrated model. Over all levels, the probability of the likeliest
token against how often that token is right (a reliability diagram, DeGroot & Fienberg 1983).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.information import standard_error
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.search.costs.table import Calibration

__all__ = [
    "CalibrationCurve",
    "ConfidenceBin",
    "calibration_from_json",
    "calibration_to_json",
    "measure_calibration",
]

LEVELS = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Shares of corrupted tokens."""

BINS = 10
ROWS, NUMBERS = 32, 2**22
"""Sequences and probabilities at a time; of more probabilities in a sequence, sites are drawn at
random."""


@dataclass(frozen=True)
class ConfidenceBin:
    """Sites whose likeliest token has a probability between two tenths.

    Attributes:
        confidence: its mean probability.
        accuracy: how often it is the token of the data.
        stderr: standard error of the accuracy over sequences.
        share: of all sites, those in this bin.
    """

    confidence: float
    accuracy: float
    stderr: float
    share: float


@dataclass(frozen=True)
class CalibrationCurve:
    """Both comparisons.

    Attributes:
        levels: one for each noise level; ``masked`` is the share of corrupted tokens.
        bins: of confidence, from the lowest to the highest; those without sites are left out.
        sequences: of data.
    """

    levels: tuple[Calibration, ...]
    bins: tuple[ConfidenceBin, ...]
    sequences: int


@kinds_checked()
@torch.no_grad()
def measure_calibration(
    reverse: ReverseProcess,
    data: Tensor,
    *,
    generator: torch.Generator,
    given_mask: Tensor | None = None,
    levels: Sequence[float] = LEVELS,
) -> CalibrationCurve:
    """At most one model call for each sequence and noise level.

    Args:
        data: int64 [B, L], B >= 2, which did not train the model.
        given_mask: observed sites, bool [L] or [B, L].
        levels: shares of corrupted tokens, between 0 and 1; shares beyond those of the noise
            schedule are left out.

    Raises:
        ValueError: fewer than two sequences.
    """
    if len(data) < 2:
        raise ValueError(f"calibration needs at least two sequences of data, got {len(data)}")
    lowest = float(reverse.forward.noise.alpha(1.0))
    levels = [level for level in levels if 1 - level >= lowest]
    given = torch.zeros_like(data, dtype=torch.bool)
    if given_mask is not None:
        if given_mask.shape not in (data.shape, data.shape[1:]):
            raise ValueError(
                f"given_mask has shape {list(given_mask.shape)}, data {list(data.shape)}; "
                "pass [L], or [B, L] as the data"
            )
        given |= given_mask.to(data.device, torch.bool)
    rows = min(max(NUMBERS // (reverse.forward.vocab_size * data.shape[1]), 1), ROWS)
    parts = list(zip(data.split(rows), given.split(rows), strict=True))
    sites = [
        [one for x0, known in parts for one in read_sites(reverse, x0, known, level, generator)]
        for level in levels
    ]
    found = []
    for level, each in zip(levels, sites, strict=True):
        kept = [part for part in each if part.shape[1]]
        if len(kept) < 2:
            continue
        entropy = torch.stack([part[0].mean() for part in kept])
        gap = torch.stack([(part[1] - part[0]).mean() for part in kept])
        stderr = float(standard_error(gap.numpy()))
        found.append(Calibration(level, float(entropy.mean()), float(gap.mean()), stderr))
    by_sequence = [torch.cat(each, 1)[2:] for each in zip(*sites, strict=True)]
    return CalibrationCurve(tuple(found), reliability(by_sequence), len(data))


def read_sites(
    reverse: ReverseProcess,
    x0: Tensor,
    given: Tensor,
    level: float,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Entropy, -log p of the data, confidence and correctness at K sites of each sequence.

    float64 [4, K] on the CPU; nats.
    """
    forward = reverse.forward
    t = float(forward.noise.time_of_alpha(1 - level))
    x = Given(x0, given).clamp(forward.sample_path(x0, generator=generator)(t))
    free = forward.movable(x) & ~given
    keys = torch.rand(x.shape, generator=generator, device=x.device).masked_fill(~free, 2)
    most = max(NUMBERS // (forward.vocab_size * len(x)), 1)
    where = free & (keys.argsort(-1).argsort(-1) < most)
    if not where.any():
        return (torch.zeros(4, 0, dtype=torch.float64),) * len(x)
    p = reverse.posterior(x, t, where).to(torch.float64)
    truth = x0[where]
    confidence, guess = p.max(-1)
    nll = -p.gather(-1, truth[:, None])[:, 0].log()
    entropy = -torch.xlogy(p, p).sum(-1)
    found = torch.stack([entropy, nll, confidence, (guess == truth).to(p)]).cpu()
    return found.split(where.sum(-1).tolist(), dim=1)


def reliability(rows: Sequence[Tensor]) -> tuple[ConfidenceBin, ...]:
    """Bins of confidence from (confidence, correctness), float64 [2, K] for each sequence."""
    number = [(row[0] * BINS).long().clamp_max(BINS - 1) for row in rows]
    total = sum(row.shape[1] for row in rows)
    bins = []
    for i in range(BINS):
        each = [row[:, n == i] for row, n in zip(rows, number, strict=True)]
        count = torch.tensor([part.shape[1] for part in each], dtype=torch.float64)
        if not count.sum():
            continue
        confidence, right = (torch.stack([part[k].sum() for part in each]) for k in (0, 1))
        accuracy = right.sum() / count.sum()
        # The standard error of a ratio of sums over independent sequences.
        spread = (right - accuracy * count).square().sum() * len(rows) / (len(rows) - 1)
        bins.append(
            ConfidenceBin(
                float(confidence.sum() / count.sum()),
                float(accuracy),
                float(spread.sqrt() / count.sum()),
                float(count.sum()) / total,
            )
        )
    return tuple(bins)


def calibration_to_json(curve: CalibrationCurve) -> dict[str, Any]:
    """The JSON object of a calibration curve."""
    return asdict(curve)


def calibration_from_json(content: Mapping[str, Any]) -> CalibrationCurve:
    """The curve of ``calibration_to_json``.

    Raises:
        KeyError, TypeError: missing or misplaced parts.
    """
    return CalibrationCurve(
        tuple(Calibration(**one) for one in content["levels"]),
        tuple(ConfidenceBin(**one) for one in content["bins"]),
        int(content["sequences"]),
    )
