"""Steps of models that tell of data, by their samples against the step's own distribution."""

import pytest
import torch
from torch import Tensor

from builders.processes import SMALL, all_states
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser import chunks
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant, Time
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.schedule import Step

KERNELS = {"gaussian": SMALL, "uniform": Uniform(vocab_size=6, noise=Constant(2.0))}


class Logits:
    """Log-weights of the data, which depend on the site's own token for a posterior."""

    reads_site_mask = True

    def __init__(self, symbols: int, *, posterior: bool) -> None:
        table = torch.randn(symbols, symbols, generator=seeded(symbols), dtype=torch.float64)
        self.table = table if posterior else table[:1].expand(symbols, -1)

    def __call__(self, x: Tensor, t: Time, where: SiteMask | None = None) -> Tensor:
        return self.table[x if where is None else where.select(x)]


@pytest.mark.parametrize("chunk", [1 << 21, 1 << 16])
@pytest.mark.parametrize("kind", [PosteriorReverse, LeaveOneOutReverse])
@pytest.mark.parametrize("forward", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize(
    "sampler", [Tweedie(), Euler(), TauLeaping(), TauLeaping(ordinal=True)], ids=lambda s: s.name
)
def test_steps_have_their_distribution(
    sampler: Sampler,
    forward: ForwardProcess,
    kind: type[ReverseProcess],
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one chunk of sites and in many."""
    model = Logits(forward.vocab_size, posterior=kind is PosteriorReverse)
    reverse = kind(forward, model)
    step, states = Step(0.4, 0.3), all_states(forward)[:, None]
    expected = sampler.site_distribution(reverse, states, step).reshape(len(states), -1)
    monkeypatch.setitem(chunks.CHUNK_SIZE, "cpu", chunk)
    x = states.repeat(4000, 1)
    y, _, _ = sampler.step(reverse, x, step, None, generator=seeded(1))
    probs = (expected / len(states)).flatten()
    assert chi_square_p((x * len(states) + y)[:, 0], probs / probs.sum()) > LEVEL
