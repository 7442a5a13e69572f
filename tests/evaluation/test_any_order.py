"""The any-order bound against enumerated distributions."""

import itertools

import pytest
import torch

from builders.statistics import seeded
from jumpsteps import load
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.tasks import toy

FORWARD = Absorbing(vocab_size=4, noise=LogLinear())


class Inconsistent:
    """Conditionals of no distribution: a table by the number of masked sites and the site."""

    def __init__(self):
        self.logits = torch.randn(5, 4, 4, generator=seeded(0))

    def __call__(self, x, t, where=None):
        masked = (x == 3).sum(-1)
        out = self.logits[masked][:, : x.shape[1]].clone()
        out[..., 3] = -torch.inf
        out = out.log_softmax(-1)
        return out if where is None else out[where]


def mean_over_orders(model, x, given):
    """The mean over all orders of -log p of one site after the other, by brute force."""
    free = [site for site in range(len(x)) if not given[site]]
    total = []
    for order in itertools.permutations(free):
        state, nll = x.clone(), 0.0
        state[free] = 3
        for site in order:
            nll -= float(model(state[None], 0.5)[0, site, x[site]])
            state[site] = x[site]
        total.append(nll)
    return sum(total) / len(total)


@pytest.mark.parametrize("given", [[False] * 4, [True, False, False, True]])
def test_it_is_the_mean_over_all_orders(given):
    model, x = Inconsistent(), torch.tensor([0, 2, 1, 1])
    expected = mean_over_orders(model, x, given)
    reverse, mask = PosteriorReverse(FORWARD, model), torch.tensor(given)
    options = {"given_mask": mask, "evaluations": 3, "batch": 1000}
    values = any_order_nll(reverse, x.expand(12000, 4), **options, generator=seeded(1))
    stderr = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - expected) < 4.5 * stderr
    assert stderr < 0.02


@pytest.mark.slow
def test_for_the_conditionals_of_a_distribution_it_is_its_nll():
    reverse, table = toy.reverse("absorbing"), toy.table()
    x = load("toy-absorbing").task.sample_data(6, seeded(0))
    exact = -torch.stack([table[tuple(row)] for row in x.tolist()]).log()
    repeated = x.repeat_interleave(2000, 0)
    values = any_order_nll(reverse, repeated, evaluations=4, batch=4000, generator=seeded(1))
    values = values.reshape(6, 2000)
    stderr = values.std(-1) / 2000**0.5
    assert ((values.mean(-1) - exact).abs() < 4.5 * stderr + 1e-9).all()


def test_common_draws_give_a_sequence_one_value_wherever_it_stands():
    reverse = PosteriorReverse(FORWARD, Inconsistent())
    x = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0], [0, 1, 2, 0]])
    options = {"evaluations": 3, "batch": 2}
    common = any_order_nll(reverse, x, common=True, **options, generator=seeded(3))
    alone = any_order_nll(reverse, x[:1], common=True, **options, generator=seeded(3))
    assert common[0] == common[2] == alone[0]
    assert common[0] != common[1]
    own = any_order_nll(reverse, x, **options, generator=seeded(3))
    assert own[0] != own[2]


def test_rows_with_other_observed_sites():
    reverse = PosteriorReverse(FORWARD, Inconsistent())
    x = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
    mask = torch.tensor([[True, True, True, False], [False, True, True, True]])
    values = any_order_nll(reverse, x, given_mask=mask, evaluations=2, generator=seeded(0))
    expected = [mean_over_orders(reverse.model, row, m) for row, m in zip(x, mask, strict=True)]
    torch.testing.assert_close(
        values, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0
    )


def test_what_it_refuses():
    reverse, x = PosteriorReverse(FORWARD, Inconsistent()), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="holds MASK"):
        any_order_nll(reverse, x + 3, generator=seeded(0))
    with pytest.raises(ValueError, match="no free site"):
        any_order_nll(reverse, x, given_mask=x == 0, generator=seeded(0))
    with pytest.raises(ValueError, match="at least one evaluation"):
        any_order_nll(reverse, x, evaluations=0, generator=seeded(0))
    with pytest.raises(ValueError, match="absorbing kernel, the model has the uniform"):
        any_order_nll(toy.reverse("uniform"), x, generator=seeded(0))
