r"""Exact distributions of samplers' steps on enumerable models, from the enumerated time reversal.

Each function gives the matrix [S, S] of one step t -> s, row x_t, from the definition of a sampler:
nothing here calls a sampler, a reverse process or a kernel's ``push``. Tests compare these formulas
with ``Sampler.transition_matrix`` and with samples. The steps of Tweedie and Euler are methods of
``Enumerable``.

With the reverse rates :math:`\hat R_t(x \to y)` of single sites (``site_rates``), h = t - s, r
their sum over y:

* first jump: a site stays with probability :math:`e^{-h r}`, else it jumps to y with :math:`\hat
  R_t(y) / r`;
* tau-leaping: it moves to y if it has exactly one jump, with probability :math:`h \hat R_t(y)\,
  e^{-h r}`;
* theta methods: two stages of first jumps, the second with mixed rates;
* corrector: first jumps with :math:`\hat R_s + R_s`.
"""

import math

import torch
from torch import Tensor

from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing

__all__ = [
    "corrector",
    "remdm",
    "site_rates",
    "tau_leaping",
    "tau_leaping_ordinal",
    "theta_rk2",
    "theta_trapezoidal",
]


def site_rates(truth: Enumerable, t: float) -> Tensor:
    """Reverse rates as [S, L, V]: from every state to every symbol at every site; zero at the
    state's own symbol.
    """
    return by_site(truth, truth.reverse_rates(t))


def by_site(truth: Enumerable, rates: Tensor) -> Tensor:
    """Rates of whole states [S, S] that change one site at a time, as [S, L, V]."""
    there = neighbours(truth)
    out = rates.gather(1, there.flatten(1)).reshape(there.shape)
    return out.scatter(-1, truth.states[..., None], 0.0)


def neighbours(truth: Enumerable) -> Tensor:
    """The number of each state with site l set to y, int64 [S, L, V]."""
    v, length = truth.forward.vocab_size, truth.table.ndim
    stride = v ** torch.arange(length - 1, -1, -1)
    own = truth.index(truth.states)
    return own[:, None, None] + stride[:, None] * (torch.arange(v) - truth.states[..., None])


def own_symbol(truth: Enumerable) -> Tensor:
    """One-hot [S, L, V]."""
    return torch.nn.functional.one_hot(truth.states, truth.forward.vocab_size).to(torch.float64)


def first_jump(rates: Tensor, own: Tensor, h: float) -> Tensor:
    """Site distributions [..., L, V] after the first jump in a duration h; ``own`` is the state,
    one-hot.
    """
    total = rates.sum(-1, keepdim=True)
    stay = torch.exp(-h * total)
    where = rates / total.masked_fill(total == 0, 1)
    return (1 - stay) * where + stay * own


def tau_leaping(truth: Enumerable, t: float, s: float) -> Tensor:
    """Poisson numbers of jumps with the rates at t; a site moves when it has exactly one."""
    if s == 0:
        return truth.tweedie_transition(t, s)
    rates, own = site_rates(truth, t), own_symbol(truth)
    mean = (t - s) * rates
    one = mean * torch.exp(-mean.sum(-1, keepdim=True))
    return truth.product(one + (1 - one.sum(-1, keepdim=True)) * own)


def tau_leaping_ordinal(truth: Enumerable, t: float, s: float) -> Tensor:
    """Poisson numbers of jumps with the rates at t; jumps add up as numbers, and the sum is clamped
    to 0..V-1.
    """
    if s == 0:
        return truth.tweedie_transition(t, s)
    mean, v = (t - s) * site_rates(truth, t), truth.forward.vocab_size
    # Beyond it a Poisson number has a probability below 1e-9.
    most = 40 + math.ceil(2 * float(mean.max()))
    size, length = truth.states.shape
    reach = most * (v - 1)
    shifts = torch.zeros(size, length, 2 * reach + 1, dtype=torch.float64)
    shifts[..., reach] = 1
    counts = torch.arange(most + 1, dtype=torch.float64)
    for y in range(v):
        poisson = torch.exp(
            torch.xlogy(counts, mean[..., y, None]) - mean[..., y, None] - torch.lgamma(counts + 1)
        )
        moved = torch.zeros_like(shifts)
        for x, n in [(x, n) for x in range(v) for n in range(most + 1)]:
            here = truth.states == x
            moved[here] += poisson[here][:, n, None] * torch.roll(shifts[here], n * (y - x), -1)
        shifts = moved
    landed = (truth.states[..., None] + torch.arange(-reach, reach + 1)).clamp(0, v - 1)
    distributions = torch.zeros(size, length, v, dtype=torch.float64).scatter_add(
        -1, landed, shifts
    )
    return truth.product(distributions / distributions.sum(-1, keepdim=True))


def theta_trapezoidal(truth: Enumerable, t: float, s: float, theta: float) -> Tensor:
    """Two stages, each of first jumps: theta h with the rates at t, then (1 - theta) h with
    extrapolated rates.
    """
    middle = t - theta * (t - s)
    before, own = site_rates(truth, t), own_symbol(truth)
    first = truth.product(first_jump(before, own, t - middle))
    if s == 0:
        return first @ truth.tweedie_transition(middle, s)
    a1 = 1 / (2 * theta * (1 - theta))
    a2 = ((1 - theta) ** 2 + theta**2) / (2 * theta * (1 - theta))
    after, stayed = site_rates(truth, middle), same_symbol(truth)
    extrapolated = (a1 * after[None] - a2 * before[:, None] * stayed[..., None]).clamp_min(0)
    second = truth.product(first_jump(extrapolated, own[None], middle - s))
    return torch.einsum("xm,xmy->xy", first, second)


def theta_rk2(truth: Enumerable, t: float, s: float, theta: float) -> Tensor:
    """A trial stage theta h with the rates at t, then a step of h from the start with mixed
    rates.
    """
    middle = t - theta * (t - s)
    before, own = site_rates(truth, t), own_symbol(truth)
    trial = truth.product(first_jump(before, own, t - middle))
    if s == 0:
        return trial @ truth.tweedie_transition(middle, s)
    after, stayed = site_rates(truth, middle), same_symbol(truth)
    mixed = ((1 - 0.5 / theta) * before[:, None] + 0.5 / theta * after[None]).clamp_min(0)
    rates = torch.where(stayed[..., None], mixed, before[:, None])
    final = truth.product(first_jump(rates, own[:, None], t - s))
    return torch.einsum("xm,xmy->xy", trial, final)


def same_symbol(truth: Enumerable) -> Tensor:
    """Whether two states agree at a site, bool [S, S, L]."""
    return truth.states[:, None] == truth.states[None]


def corrector(truth: Enumerable, s: float, h: float) -> Tensor:
    """First jumps of duration h with the forward and the reverse rates at s together."""
    v, length = truth.forward.vocab_size, truth.table.ndim
    forward = torch.zeros(len(truth.states), length, v, dtype=torch.float64)
    for site in range(length):
        forward[:, site] = truth.forward.rate(s)[truth.states[:, site]]
    rates = site_rates(truth, s) + forward.scatter(-1, truth.states[..., None], 0.0)
    return truth.product(first_jump(rates, own_symbol(truth), h))


def remdm(truth: Enumerable, t: float, s: float, remask: float) -> Tensor:
    """Revealed sites are masked again with probability ``remask``, and masked ones are revealed
    more often.
    """
    forward = truth.forward
    assert isinstance(forward, Absorbing)
    a_t, a_s = float(forward.noise.alpha(t)), float(forward.noise.alpha(s))
    posterior = truth.site_marginals(truth.conditional(t, 0.0))
    mask = torch.zeros(forward.vocab_size, dtype=torch.float64)
    mask[forward.mask_id] = 1
    reveal = (a_s - (1 - remask) * a_t) / (1 - a_t)
    masked = (truth.states == forward.mask_id)[..., None]
    distributions = torch.where(
        masked,
        reveal * posterior + (1 - reveal) * mask,
        (1 - remask) * own_symbol(truth) + remask * mask,
    )
    return truth.product(distributions)
