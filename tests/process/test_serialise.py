import json
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from torch import Tensor

from builders.kernels import one_way_rates
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    LogLinear,
    NoiseSchedule,
    Time,
)
from jumpsteps.process.rate_matrix import RateMatrix
from jumpsteps.process.serialise import (
    forward_from_json,
    forward_to_json,
    noise_from_json,
    noise_from_text,
    noise_to_json,
)
from jumpsteps.process.uniform import Uniform

NOISES = [
    LogLinear(),
    LogLinear(eps=1 / 3),
    Cosine(),
    Constant(3.87),
    Exponential(base=100.0, scale=3.0),
    Geometric(lowest=1e-5),
]
every_noise = pytest.mark.parametrize("noise", NOISES, ids=repr)


@every_noise
def test_a_noise_schedule_survives_json_and_its_text(noise: NoiseSchedule) -> None:
    assert noise_from_json(json.loads(json.dumps(noise_to_json(noise)))) == noise
    assert noise_from_text(repr(noise)) == noise


def test_the_object_of_a_noise_schedule_is_its_type_and_numbers() -> None:
    assert noise_to_json(LogLinear()) == {"type": "LogLinear", "eps": 1e-3}
    assert noise_to_json(LogLinear(1e-3)) != noise_to_json(LogLinear(1.1e-3))


@every_noise
def test_a_forward_process_survives_json(noise: NoiseSchedule) -> None:
    for forward in (
        Absorbing(vocab_size=5, noise=noise),
        Absorbing(vocab_size=5, noise=noise, mask_id=2),
        Uniform(vocab_size=5, noise=noise),
        Gaussian(vocab_size=5, noise=noise, rate_sigma=1.5, q_sigma=2.0),
    ):
        kernel, content = json.loads(json.dumps(forward_to_json(forward)))
        assert forward_from_json(kernel, content) == forward


def test_a_rate_matrix_and_kernels_of_ones_own_have_no_object() -> None:
    class Mine(Uniform):
        pass

    for forward in (
        RateMatrix(matrix=one_way_rates(4), noise=LogLinear()),
        Mine(vocab_size=4, noise=LogLinear()),
    ):
        with pytest.raises(ValueError, match="kernel cannot be written to a config"):
            forward_to_json(forward)


class Steps(NoiseSchedule):
    """A schedule of one's own that is no dataclass."""

    def __init__(self, levels: torch.Tensor) -> None:
        self.levels, self.name = levels, "steps"

    def rate(self, t: Time) -> torch.Tensor:
        raise NotImplementedError

    total = inverse = rate


def test_a_noise_schedule_of_ones_own_can_be_compared() -> None:
    one, same, other = (Steps(torch.tensor([1.0, x])) for x in (2.0, 2.0, 3.0))
    content = json.loads(json.dumps(noise_to_json(one)))
    assert content == noise_to_json(same)
    assert content != noise_to_json(other)
    with pytest.raises(ValueError, match="unknown noise schedule 'Steps'; this jumpsteps knows"):
        noise_from_json(content)


@pytest.mark.parametrize(
    "text",
    ["", "LogLinear", "LogLinear(0.001)", "Steps(eps=1)", "LogLinear(eps=open('x'))", "1 + 1",
     "LogLinear(rate=1)", "LogLinear(eps=2.0)", "__import__('os')"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a noise schedule that this jumpsteps knows"):
        noise_from_text(text)


@dataclass(frozen=True)
class Table(NoiseSchedule):
    """A schedule of one's own with a tensor, and with something that it caches."""

    totals: Tensor
    steps: int = 3

    @cached_property
    def slope(self) -> Tensor:
        return self.totals.diff()

    def rate(self, t: Time) -> Tensor:
        return self.slope[-1] * torch.as_tensor(t)

    total = inverse = rate


def test_noise_schedules_of_ones_own_differ_in_any_number_and_not_in_what_they_cache() -> None:
    """The text of a long tensor leaves out most of its numbers."""
    totals = torch.arange(2000, dtype=torch.float64)
    noise, other = Table(totals), Table(totals.index_fill(0, torch.tensor([1000]), 0.5))
    assert repr(noise.totals) == repr(other.totals)
    assert noise_to_json(noise) != noise_to_json(other)
    before = noise_to_json(noise)
    noise.rate(0.5)
    assert noise_to_json(noise) == before == noise_to_json(Table(totals.clone()))
    assert before["steps"] == 3


def test_unknown_types_are_refused() -> None:
    noise = noise_to_json(LogLinear())
    with pytest.raises(ValueError, match="unknown kernel 'gauss'; this jumpsteps knows absorbing,"):
        forward_from_json({"type": "gauss"}, noise)
    with pytest.raises(ValueError, match="unknown noise schedule 'linear'; this jumpsteps knows"):
        forward_from_json({"type": "uniform", "vocab_size": 4}, {"type": "linear"})
