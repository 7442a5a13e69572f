r"""The coordinate of cost tables: :math:`\rho(t) = \exp(-\mathrm{gap}\, \bar\sigma(t))` in (0, 1].

It is the maximal correlation of a site at t with its value in the data, so tables do not depend on
how the noise runs in time. For the absorbing kernel it is alpha.
"""

import numpy as np
import torch

from jumpsteps.core.information import Floats
from jumpsteps.process.kernel import ForwardProcess

__all__ = ["correlation", "time_of_correlation"]


def correlation(forward: ForwardProcess, times: Floats) -> Floats:
    """rho at times [...]."""
    total = forward.noise.total(torch.from_numpy(np.array(times, dtype=np.float64)))
    return torch.exp(-forward.spectral_gap * total).numpy()


def time_of_correlation(forward: ForwardProcess, rho: Floats) -> Floats:
    """The times at which rho has these values [...]."""
    total = torch.from_numpy(np.array(-np.log(rho) / forward.spectral_gap))
    return forward.noise.inverse(total).numpy()
