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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jumpsteps.core.draws import categorical, check_sums, uniform
from jumpsteps.core.sample_generators import Generator
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.models.networks.compiled import CompiledShapes, Layers
from jumpsteps.models.networks.logistic_bins import draw_bins, log_probabilities
from jumpsteps.models.networks.logistic_draws import weighted_draw, weighted_masses
from jumpsteps.models.networks.time_features import time_features, time_tensor
from jumpsteps.process.noise import Time

__all__ = [
    "CompiledHead",
    "LogisticHead",
    "UNet",
    "UNetConfig",
    "UNetPosterior",
]

MANY = 2**12
"""The number of sites from which on a draw is compiled: the number of sites must not change."""


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
            upper one (see ``logistic_bins.truncated_logistic``).
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


@dataclass(frozen=True)
class CompiledHead(LogisticHead):
    """A ``LogisticHead`` that draws by a compiled pass over symbols (``logistic_draws``)."""

    draws: Callable[..., tuple[Tensor, ...]]
    masses: Callable[..., tuple[Tensor, ...]]

    def draw_weighted(
        self, rows: Tensor, tokens: Tensor, table: Tensor, *, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See ``DrawsWeighted``."""
        if len(rows) < MANY:
            weight = table[tokens]
            # Not the compiled head, which would be compiled for every number of rows.
            config = self.model.network.config
            log_p = log_probabilities(rows, config.vocab_size, config.symmetric)
            p = log_p.masked_fill(weight < 0, -torch.inf).softmax(-1)
            weights = p * weight.clamp_min(0)
            return categorical(weights, generator=generator), weights.sum(-1, dtype=torch.float64)
        u = uniform((len(rows),), generator=generator, device=rows.device)
        symbols, means, *sums = self.draws(rows, tokens, table, u)
        check_sums(*sums)
        return symbols, means

    def weighted(
        self, rows: Tensor, tokens: Tensor, table: Tensor, rates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See ``DrawsWeighted``."""
        weights, mean, total = self.masses(rows, tokens, table, rates)
        check_sums(total)
        return weights, mean


class UNetPosterior(nn.Module):
    """The network's output as log p(x_0 | x_t): a ``Model`` for ``PosteriorReverse``.

    For kernels without MASK.
    """

    reads_site_mask = True

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.head = log_probabilities
        self.reader = LogisticHead(self)

    def compile_trunk(self) -> None:
        """Compile the network, and the head to one pass over its output."""
        self.network.compile_trunk()
        self.head = torch.compile(log_probabilities)
        if self.network.config.symmetric:
            passes = (torch.compile(each) for each in (weighted_draw, weighted_masses))
            self.reader = CompiledHead(self, *passes)

    def forward(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        """Log-probabilities, float32 [B, L, V] or [K, V]."""
        return self.read(selected(self.network(x, time_tensor(t, x.device)), where))

    def evaluate(self, x: Tensor, t: float, where: Tensor | SiteMask) -> Evaluation:
        """Location and log-scale at the selected sites: two numbers per site instead of V."""
        rows = selected(self.network(x, time_tensor(t, x.device)), where)
        return Evaluation(rows, where, self.reader)

    def read(self, rows: Tensor) -> Tensor:
        """Location and log-scale [..., 2] to log-probabilities [..., V]."""
        config = self.network.config
        return self.head(rows, config.vocab_size, config.symmetric)
