"""The loop of LLaDA's style: our counts, our order, and the network's distribution."""

from itertools import pairwise

import pytest
import torch

from builders.models import Tabulated
from builders.statistics import LEVEL, chi_square_p, seeded, two_sample_p
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.integrations.generate import generate
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Blocks, Golden, Sequential
from jumpsteps.schedules.schedule import CountSchedule

MASK = 3
NONE = torch.zeros(2, 0, dtype=torch.int64)


class Recorder:
    """A network of fixed logits, [L, V], that keeps the states it is called at."""

    def __init__(self, logits):
        self.logits, self.states = logits, []

    def __call__(self, x):
        self.states.append(x)
        return self.logits.expand(*x.shape, -1)

    def revealed(self, x):
        """How many tokens each call revealed, [B, calls]."""
        masked = [(state == MASK).sum(-1) for state in [*self.states, x]]
        return (torch.stack(masked[:-1]) - torch.stack(masked[1:])).T.tolist()


@pytest.mark.parametrize("by_confidence", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_call_reveals_what_the_schedule_says(by_confidence, temperature):
    network = Recorder(torch.randn(9, 5, generator=seeded(0)))
    schedule = CountSchedule([1, 1, 2, 3], order=Golden())
    prompt = torch.tensor([[0, 1], [1, MASK]])
    settings = {"by_confidence": by_confidence, "temperature": temperature, "mask_id": MASK}
    x = generate(network, prompt, schedule, length=7, generator=seeded(1), **settings)
    assert network.revealed(x) == [[1, 1, 2, 3]] * 2
    assert torch.equal(x[:, :2], prompt)
    assert not (x[:, 2:] == MASK).any()


def test_tokens_come_in_the_order_of_the_schedule():
    network = Recorder(torch.zeros(9, 5))
    schedule = CountSchedule([1, 2, 4], order=Golden())
    prompt = torch.zeros(2, 2, dtype=torch.int64)
    x = generate(network, prompt, schedule, length=7, mask_id=MASK, generator=seeded(1))
    free = (torch.arange(9) >= 2).expand(2, 9)
    ranks = Golden().free_ranks(free, generator=seeded(1))
    for state, done in zip([*network.states, x], (0, 1, 3, 7), strict=True):
        assert torch.equal(state == MASK, free & (ranks >= done))


def test_blocks_come_from_left_to_right():
    network = Recorder(torch.zeros(8, 5))
    order = Blocks(4, Sequential())
    x = generate(
        network,
        NONE,
        CountSchedule([1, 3, 2, 2], order=order),
        length=8,
        mask_id=MASK,
        generator=seeded(0),
    )
    first = [(state != MASK).sum(-1).tolist() for state in network.states]
    assert first == [[0, 0], [1, 1], [4, 4], [6, 6]]
    assert (network.states[2][:, :4] != MASK).all()
    assert not (x == MASK).any()


def test_times_reveal_their_counts():
    network = Recorder(torch.zeros(8, 5))
    x = generate(network, NONE, uniform(3), length=8, mask_id=MASK, generator=seeded(0))
    assert network.revealed(x) == [list(uniform(3).tokens_per_step(8))] * 2


def test_the_most_confident_come_first():
    logits = torch.tensor([[1.0, 0.0], [4.0, 0.0], [0.0, 3.0], [2.0, 0.0]])
    logits = torch.nn.functional.pad(logits, (0, 2), value=-9.0)
    network = Recorder(logits)
    x = generate(
        network,
        NONE,
        CountSchedule([1] * 4),
        length=4,
        mask_id=MASK,
        temperature=0.0,
        by_confidence=True,
        generator=seeded(0),
    )
    assert x.tolist() == [[0, 0, 1, 0]] * 2
    states = [state[0] for state in (*network.states, x)]
    order = [int((after != before).nonzero()) for before, after in pairwise(states)]
    assert order == [1, 2, 3, 0]


@pytest.mark.statistical
@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 1]])
def test_samples_have_the_distribution_of_the_model_in_these_counts(counts):
    """One at a time it is the model's own; in fewer steps it is that of k-Gillespie."""
    table = torch.rand(3, 3, 3, generator=seeded(0), dtype=torch.float64) ** 3
    table = table / table.sum()
    truth = Enumerable(Absorbing(vocab_size=4, noise=LogLinear(), mask_id=MASK), table)
    network = Tabulated(truth, truth)
    schedule = CountSchedule(counts, order=Golden())
    x = generate(
        lambda x: network(x, 0.5),
        NONE[:1].expand(40_000, 0),
        schedule,
        length=3,
        mask_id=MASK,
        generator=seeded(1),
    )
    number = torch.tensor([9, 3, 1])
    index = (x * number).sum(-1)
    assert (chi_square_p(index, table.flatten()) > LEVEL) == (len(counts) == 3)
    own = PosteriorReverse(truth.forward, network)
    run = simulate(own, KGillespie(), schedule, (40_000, 3), generator=seeded(2))
    assert two_sample_p(index, (run.samples * number).sum(-1)) > LEVEL


def test_what_does_not_fit_is_refused():
    schedule, settings = CountSchedule([1]), {"mask_id": MASK, "generator": seeded(0)}
    with pytest.raises(ValueError, match=r"prompt must be int64 \[B, P\], got torch.int64 \[3\]"):
        generate(None, torch.zeros(3).long(), schedule, length=4, **settings)
    with pytest.raises(ValueError, match="temperature must be zero or more, got -1"):
        generate(None, NONE, schedule, length=4, temperature=-1, **settings)
    with pytest.raises(ValueError, match="at least one free site"):
        generate(None, NONE, schedule, length=0, **settings)
