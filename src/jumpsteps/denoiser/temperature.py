r"""Reverse processes at another temperature: their distributions to the power 1 / tau.

.. math:: w_\tau(x_0^l) \propto w(x_0^l)^{1 / \tau}

for the leave-one-out posterior w of each site. Below 1 it makes rare symbols rarer, and with them
some of the errors of steps that draw many sites at once. Samples are less various, and their
distribution is no longer that of the data, with many steps either.

Source: Ackley, Hinton, Sejnowski (1985), for any softmax.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.denoiser.reverse import ReverseProcess, Where
from jumpsteps.process.noise import Time

__all__ = ["TemperedReverse", "check_temperature", "tempered"]


@dataclass(frozen=True)
class TemperedReverse(ReverseProcess):
    """A reverse process whose leave-one-out posteriors have a temperature; see ``tempered``.

    Posteriors, scores and rates follow from them.

    Attributes:
        untempered: reads the model's output.
        temperature: tau > 0.
    """

    untempered: ReverseProcess
    temperature: float

    def leave_one_out_from(self, output: Tensor, x: Tensor, t: Time, where: Where = None) -> Tensor:
        log_w = self.untempered.leave_one_out_from(output, x, t, where).log()
        # The largest is zero, so that no temperature makes all of them infinite.
        log_w.sub_(log_w.amax(-1, keepdim=True))
        return log_w.div_(max(self.temperature, torch.finfo(log_w.dtype).tiny)).softmax(-1)


@kinds_checked()
def tempered(reverse: ReverseProcess, temperature: float) -> ReverseProcess:
    """The reverse process at a temperature; all samplers serve it, and searches.

    Its answers have the shapes of ``reverse``'s.

    Args:
        reverse: at temperature 1.
        temperature: tau; below 1 samples are less various.

    Raises:
        ValueError: a temperature that is not positive and finite.
    """
    check_temperature(temperature)
    if temperature == 1:
        return reverse
    return TemperedReverse(reverse.forward, reverse.model, reverse, temperature)


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless it is positive and finite."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature must be positive and finite, got {temperature}")
