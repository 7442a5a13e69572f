"""k-Gillespie, MaskGIT and the entropy-bounded sampler have their exact distributions."""

from dataclasses import replace
from itertools import pairwise, permutations

import pytest
import torch
from torch import Tensor

from builders.asked import Asked
from builders.kernels import kernel
from builders.samplers import (
    conditional,
    data_index,
    distribution_in_groups,
    enumerable,
    posterior_reverse,
    timeless,
    total_variation,
)
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import EntropyBounded, KGillespie, MaskGIT
from jumpsteps.schedules.schedule import CountSchedule


@pytest.mark.parametrize("counts", [(1, 1), (2,), (1, 1, 1), (2, 1), (1, 2), (3,)], ids=str)
def test_k_gillespie_draws_random_groups(counts: tuple[int, ...]) -> None:
    length = sum(counts)
    truth = enumerable("absorbing", length=length)
    run = simulate(
        posterior_reverse(truth),
        KGillespie(),
        CountSchedule(counts),
        (100_000, length),
        generator=seeded(1),
    )
    cuts = [sum(counts[:i]) for i in range(len(counts) + 1)]
    orders = list(permutations(range(length)))
    probs = sum(
        (
            distribution_in_groups(truth.table, [order[a:b] for a, b in pairwise(cuts)])
            / len(orders)
            for order in orders
        ),
        start=torch.zeros_like(truth.table),
    )
    assert chi_square_p(data_index(truth, run.samples), probs.reshape(-1)) > LEVEL
    if max(counts) == 1:
        torch.testing.assert_close(probs, truth.table)
    else:
        assert total_variation(probs, truth.table) > 0.02


def maskgit_first_step(truth: Enumerable, temperature: float) -> Tensor:
    """The distribution [S] after the step that keeps one of three sites: which one Gumbel noise
    makes the most confident is a softmax.
    """
    single = [conditional(truth.table, site, ()) for site in range(3)]
    drawn = single[0] * single[1] * single[2]
    confidence = torch.stack([p.log().expand(3, 3, 3) for p in single], -1)
    most_confident = torch.nn.functional.one_hot(confidence.argmax(-1), 3).double()
    keep = (confidence / (temperature * 2 / 3)).softmax(-1) if temperature else most_confident
    probs = torch.zeros(4, 4, 4, dtype=torch.float64)
    for site in range(3):
        kept = (drawn * keep[..., site]).movedim(site, 0).flatten(1).sum(1)
        probs.movedim(site, 0)[:3, 3, 3] = kept
    return probs.reshape(-1)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 4.0])
def test_maskgit_has_its_exact_distribution(temperature: float) -> None:
    truth = enumerable("absorbing", length=3)
    seen: list[Tensor] = []
    run = simulate(
        posterior_reverse(truth),
        MaskGIT(temperature),
        CountSchedule([1, 2]),
        (100_000, 3),
        generator=seeded(1),
        callback=lambda t, x: seen.append(x),
    )
    kept = maskgit_first_step(truth, temperature)
    assert chi_square_p(truth.index(seen[1]), kept) > LEVEL
    probs = kept @ truth.tweedie_transition(0.5, 0.0)
    assert chi_square_p(truth.index(run.samples), probs) > LEVEL
    assert total_variation(probs, truth.data_distribution()) > 0.01


def test_maskgit_at_temperature_zero_keeps_the_most_confident() -> None:
    table = torch.outer(*torch.tensor([[0.4, 0.32, 0.28], [0.9, 0.06, 0.04]], dtype=torch.float64))
    truth = Enumerable(kernel("absorbing", 3), table / table.sum())
    seen: list[Tensor] = []
    simulate(
        posterior_reverse(truth),
        MaskGIT(0.0),
        CountSchedule([1, 1]),
        (10_000, 2),
        generator=seeded(1),
        callback=lambda t, x: seen.append(x),
    )
    kept_second = seen[1][:, 1] != 3
    assert (seen[1][kept_second, 1] == 0).all()
    assert chi_square_p(kept_second.long(), torch.tensor([0.1, 0.9], dtype=torch.float64)) > LEVEL


def entropy(p: Tensor) -> float:
    return float(-torch.xlogy(p, p).sum())


def entropy_bounded_groups(
    table: Tensor, x: tuple[int, ...], gamma: float
) -> list[tuple[int, ...]]:
    """The sites revealed in each step of a run that ends at x."""
    groups: list[tuple[int, ...]] = []
    known: tuple[int, ...] = ()
    while len(known) < table.ndim:
        there = tuple(
            slice(x[axis], x[axis] + 1) if axis in known else slice(None)
            for axis in range(table.ndim)
        )
        ordered = sorted(
            (entropy(conditional(table[there], site, known).reshape(-1)), site)
            for site in range(table.ndim)
            if site not in known
        )
        error = [sum(h for h, _ in ordered[:k]) for k in range(len(ordered))]
        group = tuple(site for k, (_, site) in enumerate(ordered) if k == 0 or error[k] <= gamma)
        groups.append(group)
        known += group
    return groups


def entropy_bounded_distribution(truth: Enumerable, gamma: float) -> Tensor:
    probs = torch.zeros_like(truth.table)
    for x in truth.table.nonzero().tolist():
        groups = entropy_bounded_groups(truth.table, tuple(x), gamma)
        probs[tuple(x)] = distribution_in_groups(truth.table, groups)[tuple(x)]
    return probs


@pytest.mark.parametrize("gamma", [0.0, 0.8, 1.2, 100.0])
def test_entropy_bounded_has_its_exact_distribution(gamma: float) -> None:
    """Exact when it reveals one site at a time, in whatever order it chooses; all sites at once are
    independent.
    """
    truth = enumerable("absorbing", length=3)
    run = simulate(timeless(truth), EntropyBounded(gamma), None, (100_000, 3), generator=seeded(1))
    probs = entropy_bounded_distribution(truth, gamma)
    assert chi_square_p(data_index(truth, run.samples), probs.reshape(-1)) > LEVEL
    steps = {
        len(entropy_bounded_groups(truth.table, tuple(x), gamma))
        for x in truth.table.nonzero().tolist()
    }
    assert run.nfe == max(steps)
    if gamma == 0:
        torch.testing.assert_close(probs, truth.table)
        assert steps == {3}
    elif gamma == 100:
        torch.testing.assert_close(probs, distribution_in_groups(truth.table, [(0, 1, 2)]))
        assert steps == {1}
    else:
        assert total_variation(probs, truth.table) > 0.01


def test_entropy_bounded_without_error_reveals_the_site_of_lowest_entropy() -> None:
    truth = enumerable("absorbing", length=3)
    reverse = timeless(truth)
    asked = Asked(reverse.model)
    seen: list[Tensor] = []
    run = simulate(
        replace(reverse, model=asked),
        EntropyBounded(0.0),
        None,
        (500, 3),
        generator=seeded(1),
        callback=lambda t, x: seen.append(x),
    )
    assert run.nfe == len(run.moved) == 3
    assert (run.moved == 1).all()
    for end, *states in zip(run.samples.tolist(), *seen, strict=True):
        order = [int((after != before).nonzero()) for before, after in pairwise(states)]
        assert order == [site for (site,) in entropy_bounded_groups(truth.table, tuple(end), 0.0)]
    shares = [float(1 - torch.exp(-truth.forward.noise.total(time[0]))) for time in asked.times]
    assert shares == pytest.approx([1 - 1e-3, 2 / 3, 1 / 3])
