r"""tauLDR's U-Net for images, with its output read as posterior.

A sequence is an image of L = C H W tokens, channel by channel and row by row, so that
``tokens.view(B, C, H, W)`` is the image. A token is an intensity 0..V-1. The network is DDPM's
U-Net (Ho et al. 2020, App. B) with rescaled skips (Song et al. 2021). It gives each site the
location and the scale of a logistic distribution, whose masses in V equal bins of [-1, 1] are the
probabilities of the V intensities (Austin et al. 2021, App. B.4). Architecture and parameter names
are those of the CIFAR-10 model of Campbell et al. (2022), App. H.2, so that its weights load
unchanged.

Shapes: x int64 [B, L]; t a number or [B]; ``where`` bool [B, L] selects K sites.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.models.networks.compiled import CompiledShapes, Layers
from jumpsteps.models.networks.logistic_bins import FLOOR, draw_bins
from jumpsteps.models.networks.time_features import time_features, time_tensor
from jumpsteps.process.noise import Time

__all__ = ["LogisticHead", "UNet", "UNetConfig", "UNetPosterior", "truncated_logistic"]


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net; the defaults are those of tauLDR's CIFAR-10 model (35.7M parameters).

    Attributes:
        vocab_size: V, the number of intensities.
        shape: C, H, W.
        channels: width at full resolution; a multiple of 4, above 128 of 32 (group normalisation).
        multipliers: width at each resolution, in units of ``channels``. Each resolution halves the
            one before.
        n_blocks: residual blocks per resolution.
        attention_at: index of the resolution (0 is full) with self-attention, besides the lowest.
        time_dim: number of sinusoidal features of ``time_scale`` t.
        rescale: divide sums of two branches by sqrt(2).
        symmetric: floor both tails of the output distribution; the published model floors only the
            upper one (see ``truncated_logistic``).
    """

    vocab_size: int = 256
    shape: tuple[int, int, int] = (3, 32, 32)
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    n_blocks: int = 2
    attention_at: int = 1
    time_dim: int = 128
    time_scale: float = 1000.0
    dropout: float = 0.1
    rescale: bool = True
    symmetric: bool = False

    def __post_init__(self) -> None:
        step = 4 if self.channels <= 128 else 32
        if self.channels < 4 or self.channels % step:
            raise ValueError(
                f"channels must be a multiple of 4, and of 32 above 128, got {self.channels}"
            )
        halvings = len(self.multipliers) - 1
        if halvings < 0 or any(side % 2**halvings for side in self.shape[1:]):
            raise ValueError(
                f"{len(self.multipliers)} resolutions need an image whose sides are multiples of "
                f"{2 ** max(halvings, 0)}, got shape {list(self.shape)}"
            )
        if self.time_dim < 4:
            raise ValueError(f"time_dim must be at least 4, got {self.time_dim}")


def joined(x: Tensor, update: Tensor, rescale: bool) -> Tensor:
    """The sum of two branches, divided by sqrt(2) if ``rescale``."""
    return (x + update) / math.sqrt(2) if rescale else x + update


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def unbiased(layer: nn.Linear) -> nn.Linear:
    """The layer, with its bias set to zero."""
    nn.init.zeros_(layer.bias)
    return layer


class ChannelMix(nn.Module):
    """A linear map of the last dimension, with the published parameter names."""

    def __init__(self, channels_in: int, channels_out: int, scale: float = 0.1) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels_in, channels_out))
        self.b = nn.Parameter(torch.zeros(channels_out))
        nn.init.xavier_uniform_(self.W, gain=math.sqrt(scale))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


class AttentionBlock(nn.Module):
    """Self-attention over all pixels, with one head."""

    def __init__(self, channels: int, rescale: bool) -> None:
        super().__init__()
        self.rescale = rescale
        self.GroupNorm_0 = group_norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2 = (ChannelMix(channels, channels) for _ in range(3))
        self.NIN_3 = ChannelMix(channels, channels, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        # With a dimension of heads: fused attention on a GPU takes no other form.
        mixed = F.scaled_dot_product_attention(
            *(layer(pixels)[:, None] for layer in (self.NIN_0, self.NIN_1, self.NIN_2))
        )[:, 0]
        return joined(x, self.NIN_3(mixed).transpose(1, 2).reshape(x.shape), self.rescale)


class ResidualBlock(nn.Module):
    """Two convolutions; the embedded time shifts the channels between them."""

    def __init__(self, channels_in: int, channels_out: int, config: UNetConfig) -> None:
        super().__init__()
        self.rescale = config.rescale
        self.groupnorm0 = group_norm(channels_in)
        self.conv0 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.dense0 = unbiased(nn.Linear(4 * config.time_dim, channels_out))
        self.groupnorm1 = group_norm(channels_out)
        self.dropout0 = nn.Dropout(config.dropout)
        self.conv1 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_out != channels_in:
            self.nin = ChannelMix(channels_in, channels_out)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        hidden = self.conv0(F.silu(self.groupnorm0(x))) + self.dense0(F.silu(c))[..., None, None]
        hidden = self.conv1(self.dropout0(F.silu(self.groupnorm1(hidden))))
        if hidden.shape[1] != x.shape[1]:
            x = self.nin(x.movedim(1, -1)).movedim(-1, 1)
        return joined(x, hidden, self.rescale)


class Downsample(nn.Module):
    """Halve both sides by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double both sides by repetition, followed by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """Images and times to a location and a log-scale per site."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        colours, dim = config.shape[0], config.time_dim
        widths = [config.channels * m for m in config.multipliers]
        self.temb_modules = nn.ModuleList(
            [unbiased(nn.Linear(dim, 4 * dim)), unbiased(nn.Linear(4 * dim, 4 * dim))]
        )
        self.input_conv = nn.Conv2d(colours, config.channels, 3, padding=1)
        kept = [config.channels]
        self.downsampling_modules = nn.ModuleList(self.down(widths, kept))
        self.middle_modules = nn.ModuleList(
            [
                ResidualBlock(widths[-1], widths[-1], config),
                AttentionBlock(widths[-1], config.rescale),
                ResidualBlock(widths[-1], widths[-1], config),
            ]
        )
        self.upsampling_modules = nn.ModuleList(self.up(widths, kept))
        self.output_modules = nn.ModuleList(
            [group_norm(widths[0]), nn.Conv2d(widths[0], 2 * colours, 3, padding=1)]
        )
        self.shapes: CompiledShapes | None = None
        self.compiled: Layers = self.read

    def compile_trunk(self) -> None:
        """Compile the network, once per shape; see ``CompiledShapes``."""
        self.shapes = CompiledShapes()
        self.compiled = torch.compile(self.read, dynamic=False)

    def down(self, widths: list[int], kept: list[int]) -> Iterator[nn.Module]:
        """Modules of the encoder; appends the width of every skip connection to ``kept``."""
        config, width = self.config, kept[-1]
        for level, wanted in enumerate(widths):
            for _ in range(config.n_blocks):
                yield ResidualBlock(width, wanted, config)
                if level == config.attention_at:
                    yield AttentionBlock(wanted, config.rescale)
                width = wanted
                kept.append(width)
            if level < len(widths) - 1:
                yield Downsample(width)
                kept.append(width)

    def up(self, widths: list[int], kept: list[int]) -> Iterator[nn.Module]:
        """Modules of the decoder; pops the widths of the skip connections from ``kept``."""
        config, width = self.config, widths[-1]
        for level in reversed(range(len(widths))):
            for _ in range(config.n_blocks + 1):
                yield ResidualBlock(width + kept.pop(), widths[level], config)
                width = widths[level]
                if level == config.attention_at:
                    yield AttentionBlock(width, config.rescale)
            if level > 0:
                yield Upsample(width)

    def condition(self, t: Tensor) -> Tensor:
        """The embedded time, [B, 4 time_dim] or [1, 4 time_dim]."""
        first, second = self.temb_modules
        features = time_features(self.config.time_scale * t, self.config.time_dim)
        return second(F.silu(first(features.to(self.input_conv.weight.dtype))))

    def trunk(self, image: Tensor, c: Tensor) -> Tensor:
        """image [B, C, H, W] in [-1, 1] and embedded time c to [B, 2C, H, W]."""
        hidden = self.input_conv(image)
        kept = [hidden]
        for module in self.downsampling_modules:
            if isinstance(module, AttentionBlock):
                hidden = kept[-1] = module(hidden)
            else:
                hidden = module(hidden, c) if isinstance(module, ResidualBlock) else module(hidden)
                kept.append(hidden)
        first, attention, second = self.middle_modules
        hidden = second(attention(first(hidden, c)), c)
        for module in self.upsampling_modules:
            hidden = (
                module(torch.cat([hidden, kept.pop()], 1), c)
                if isinstance(module, ResidualBlock)
                else module(hidden)
            )
        norm, conv = self.output_modules
        return conv(F.silu(norm(hidden)))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Location and log-scale [B, L, 2] of x int64 [B, L] at t [B] or [1].

        Raises:
            ValueError: the length of x is not C H W.
        """
        shape = self.config.shape
        if x.shape[1] != math.prod(shape):
            raise ValueError(
                f"a sequence has {x.shape[1]} tokens, the U-Net reads images of shape "
                f"{list(shape)}; give it {math.prod(shape)}"
            )
        return self.read(x, t) if self.shapes is None else self.shapes.run(self.compiled, x, t)

    def read(self, x: Tensor, t: Tensor) -> Tensor:
        """``forward`` without the check."""
        shape = self.config.shape
        image = (2 * x.reshape(-1, *shape) / (self.config.vocab_size - 1) - 1).to(
            self.input_conv.weight.dtype
        )
        location, log_scale = self.trunk(image, self.condition(t)).chunk(2, 1)
        return torch.stack([torch.tanh(image + location), log_scale], -1).flatten(1, 3)


def truncated_logistic(
    location: Tensor, log_scale: Tensor, size: int, *, symmetric: bool
) -> Tensor:
    r"""Unnormalised log-masses of equal bins of [-1, 1] under a logistic distribution.

    With the logistic function s, and the bin's edges u > l relative to ``location`` in units of
    exp(log_scale - 2), the mass is

    .. math:: s(u) - s(l) + 10^{-6} s(u), \qquad s(u) - s(l) = s(u) \, s(-l) \, (1 - e^{-(u - l)}).

    The right-hand form avoids the difference of nearly equal numbers. The term 1e-6 s(u) is that of
    the published head: it bounds the mass of bins far above the location from below. ``symmetric``
    replaces it by 1e-6 min(s(u), s(-l)), as the published option ``fix_logistic`` does.

    Args:
        location, log_scale: [...].
        size: number of bins.

    Returns:
        [..., size].
    """
    inverse = torch.exp(2 - log_scale)[..., None]
    edges = torch.linspace(-1, 1, size + 1, device=location.device, dtype=location.dtype)
    z = (edges - location[..., None]) * inverse
    below_upper, above_lower = F.logsigmoid(z[..., 1:]), F.logsigmoid(-z[..., :-1])
    mass = below_upper + above_lower + torch.log(-torch.expm1(-2 / size * inverse))
    floor = torch.minimum(below_upper, above_lower) if symmetric else below_upper
    return torch.logaddexp(mass, floor + math.log(FLOOR))


def log_probabilities(rows: Tensor, size: int, symmetric: bool) -> Tensor:
    """Location and log-scale of each site [..., 2] to log-probabilities of intensities, float32
    [..., size].
    """
    location, log_scale = rows.float().unbind(-1)
    return truncated_logistic(location, log_scale, size, symmetric=symmetric).log_softmax(-1)


@dataclass(frozen=True)
class LogisticHead:
    """Reads rows (location, log-scale) of the network's output, and draws from them."""

    model: "UNetPosterior"

    def __call__(self, rows: Tensor, tokens: Tensor) -> Tensor:
        return self.model.read(rows)

    def draw(self, rows: Tensor, *, generator: Generator) -> Tensor:
        """One intensity for each row [K, 2], int64 [K], without a tensor of V numbers per site.

        Raises:
            ValueError: a number that is not finite.
        """
        config = self.model.network.config
        location, log_scale = rows.unbind(-1)
        return draw_bins(
            location,
            log_scale,
            config.vocab_size,
            symmetric=config.symmetric,
            generator=generator,
        )


class UNetPosterior(nn.Module):
    """The network's output as log p(x_0 | x_t): a ``Model`` for ``PosteriorReverse``.

    For kernels without MASK.
    """

    reads_site_mask = True

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.head = log_probabilities

    def compile_trunk(self) -> None:
        """Compile the network, and the head to one pass over its output."""
        self.network.compile_trunk()
        self.head = torch.compile(log_probabilities)

    def forward(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        """Log-probabilities, float32 [B, L, V] or [K, V]."""
        return self.read(selected(self.network(x, time_tensor(t, x.device)), where))

    def evaluate(self, x: Tensor, t: float, where: Tensor | SiteMask) -> Evaluation:
        """Location and log-scale at the selected sites: two numbers per site instead of V."""
        rows = selected(self.network(x, time_tensor(t, x.device)), where)
        return Evaluation(rows, where, LogisticHead(self))

    def read(self, rows: Tensor) -> Tensor:
        """Location and log-scale [..., 2] to log-probabilities [..., V]."""
        config = self.network.config
        return self.head(rows, config.vocab_size, config.symmetric)
