r"""The absorbing kernel: masked diffusion.

:math:`R_b(x, \mathrm{MASK}) = 1` for every other symbol x, and MASK stays. With
:math:`\alpha_t = e^{-\bar\sigma(t)}`,

.. math:: q_{t|0}(\cdot \mid x_0) = \alpha_t \delta_{x_0} + (1 - \alpha_t) \delta_{\mathrm{MASK}},
    \qquad P(x_s \ne \mathrm{MASK} \mid x_t = \mathrm{MASK})
    = \frac{\alpha_s - \alpha_t}{1 - \alpha_t},

and a site that is revealed takes a symbol from w, which equals p(x0 | x_t) there (Austin et al.
2021; Sahoo et al. 2024). A revealed site never changes again, so w has a meaning at masked sites
only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jumpsteps.core.arguments import kinds_checked
from jumpsteps.core.draws import uniform
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.tensors import like, one_hot, precise, sent
from jumpsteps.process.exit_rates import AbsorbingExit
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time

__all__ = ["Absorbing"]


@kinds_checked()
@dataclass(frozen=True, kw_only=True)
class Absorbing(ForwardProcess):
    """Every symbol turns into MASK at rate sigma(t) and stays there.

    Attributes:
        mask_id: the state that is MASK; the last one unless given.

    Raises:
        ValueError: mask_id is not one of the V states.
    """

    mask_id: int = -1
    name: ClassVar[str] = "absorbing"
    source: ClassVar[str] = "Austin et al. 2021; Campbell et al. 2022"
    revisable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.vocab_size - 1)
        if not 0 <= self.mask_id < self.vocab_size:
            counts = "; vocab_size counts MASK" if self.mask_id == self.vocab_size else ""
            raise ValueError(
                f"mask_id must lie in 0..{self.vocab_size - 1}, got {self.mask_id}{counts}"
            )

    def rate_matrix(self) -> Tensor:
        matrix = -torch.eye(self.vocab_size, dtype=torch.float64)
        matrix[:, self.mask_id] += 1
        return matrix

    def transition(self, s: float, t: float) -> Tensor:
        kept = self.survival(s, t)
        matrix = kept * torch.eye(self.vocab_size, dtype=torch.float64)
        matrix[:, self.mask_id] += 1 - kept
        return matrix

    def push(self, w: Tensor, t: Time) -> Tensor:
        alpha = self.noise.alpha(t)
        pushed = like(alpha, w) * w
        pushed[..., self.mask_id] += sent((1 - alpha).to(w.dtype), w.device)
        return pushed

    def likelihood(self, x: Tensor, t: Time) -> Tensor:
        alpha = sent(self.noise.alpha(t), x.device)[..., None]
        masked = (x == self.mask_id)[..., None]
        value = torch.where(masked, 1 - alpha, alpha * one_hot(x, self.vocab_size, torch.float64))
        value[..., self.mask_id] = 0
        return value

    def bridge(self, w: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        return w

    def sample_prior(
        self, shape: tuple[int, ...], *, generator: Generator, device: torch.device
    ) -> Tensor:
        return torch.full(shape, self.mask_id, dtype=torch.int64, device=device)

    def sample_path(self, x0: Tensor, *, generator: Generator) -> Callable[[Time], Tensor]:
        u = uniform(tuple(x0.shape), generator=generator, device=x0.device)

        def at(t: Time) -> Tensor:
            return x0.masked_fill(u >= sent(self.noise.alpha(t), x0.device), self.mask_id)

        return at

    def sample_transition(self, x: Tensor, s: Time, t: Time, *, generator: Generator) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        survive = sent(self.survival(s, t), x.device)
        return x.masked_fill(u >= survive, self.mask_id)

    def movable(self, x: Tensor) -> Tensor:
        return x == self.mask_id

    def reveal_probability(self, t: Time, s: Time) -> Tensor:
        """P(the step reveals a masked site) = (alpha_s - alpha_t) / (1 - alpha_t), float64."""
        alpha = self.noise.alpha(t)
        return (self.noise.alpha(s) - alpha) / (1 - alpha)

    def draw_moving(self, x: Tensor, t: float, s: float, *, generator: Generator) -> Tensor:
        u = uniform(tuple(x.shape), generator=generator, device=x.device)
        return self.movable(x) & (u < float(self.reveal_probability(t, s)))

    def leave_out(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        """A masked site shows only that x0 is not MASK; a revealed one shows x0 itself."""
        dtype = precise(log_posterior)
        own = log_posterior.new_full(x.shape, torch.finfo(dtype).max / 2, dtype=dtype).masked_fill(
            x == self.mask_id, -torch.inf
        )
        return log_posterior.to(dtype).scatter(-1, x[..., None], own[..., None])

    def put_in(self, w: Tensor, x: Tensor, t: Time) -> Tensor:
        return w

    def possible(self, log_posterior: Tensor, x: Tensor, t: Time) -> Tensor:
        return self.leave_out(log_posterior, x, t)

    def sample_bridge(
        self, x0: Tensor, x: Tensor, t: float, s: float, *, generator: Generator
    ) -> Tensor:
        return x0

    def pull(self, log_probs: Tensor, t: Time) -> Tensor:
        log_w = log_probs.clone()
        log_w[..., self.mask_id] = -torch.inf
        return log_w.softmax(-1)

    def rates_into(self, x: Tensor) -> Tensor:
        rates = self.movable(x).to(torch.float64)[..., None].repeat_interleave(self.vocab_size, -1)
        rates[..., self.mask_id] = 0
        return rates

    def rates_from(self, x: Tensor) -> Tensor:
        return (
            one_hot(torch.full_like(x, self.mask_id), self.vocab_size, torch.float64)
            * ~self.movable(x)[..., None]
        )

    def prior(self) -> Tensor:
        return one_hot(torch.tensor(self.mask_id), self.vocab_size, torch.float64)

    @property
    def max_exit_rate(self) -> float:
        return 1.0

    @property
    def spectral_gap(self) -> float:
        return 1.0

    @property
    def exit_rate_bound(self) -> AbsorbingExit:
        return AbsorbingExit()

    def check_data(self, x: Tensor, what: str) -> None:
        super().check_data(x, what)
        if (x == self.mask_id).any():
            states = self.vocab_size
            symbol = (
                f", or, if {self.mask_id} is a symbol of the data, count MASK besides: "
                f"vocab_size={states + 1}, mask_id={states}"
            )
            raise ValueError(
                f"{what} holds MASK (token {self.mask_id}), which is noise and not data; leave it "
                f"out{symbol if self.mask_id == states - 1 else ''}"
            )
