"""tauLDR's transformer for short sequences such as melodies, with its output read as posterior.

A post-norm encoder with fixed sinusoidal positions (Vaswani et al. 2017) is followed by residual
feed-forward layers. The embedded time scales and shifts the channels after every normalisation
(FiLM: Perez et al. 2018). One is added to the logit of a site's own symbol. Architecture and
parameter names are those of the piano model of Campbell et al. (2022), App. H.3, so that its
weights load unchanged. Layers without attention run only on the sites selected by ``where``.

Shapes: x int64 [B, L]; t a number or [B]; D is the width; ``where`` bool [B, L] selects K sites.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jumpsteps.core.site_mask import SiteMask
from jumpsteps.core.tensors import one_hot
from jumpsteps.models.networks.compiled import CompiledShapes
from jumpsteps.models.networks.time_features import time_features, time_tensor
from jumpsteps.process.noise import Time

__all__ = ["Transformer", "TransformerConfig", "TransformerPosterior"]


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer; the defaults are those of tauLDR's piano model.

    Attributes:
        vocab_size: V.
        length: the longest sequence.
        hidden_size: D, a multiple of n_heads, and even (positions are sine-cosine pairs).
        feedforward_size: width inside the feed-forward layers and the time embedding.
        n_layers: layers of attention and feed-forward.
        n_output_layers: feed-forward layers after those.
        time_dim: number of sinusoidal features of ``time_scale`` t.
        ordinal: symbols enter as numbers in [-1, 1) instead of embeddings.
    """

    vocab_size: int = 129
    length: int = 256
    hidden_size: int = 128
    feedforward_size: int = 2048
    n_layers: int = 6
    n_heads: int = 8
    n_output_layers: int = 2
    time_dim: int = 128
    time_scale: float = 1000.0
    ordinal: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.n_heads or self.hidden_size % 2:
            raise ValueError(
                "hidden_size must be even and a multiple of n_heads, "
                f"got hidden_size={self.hidden_size}, n_heads={self.n_heads}"
            )
        if self.time_dim < 4:
            raise ValueError(f"time_dim must be at least 4, got {self.time_dim}")


def modulation(config: TransformerConfig) -> nn.Linear:
    """Embedded time to a scale and a shift per channel, initialised near 1 and 0."""
    layer = nn.Linear(4 * config.time_dim, 2 * config.hidden_size)
    nn.init.zeros_(layer.bias)
    nn.init.ones_(layer.bias[: config.hidden_size])
    return layer


class Layer(nn.Module):
    """Attention and feed-forward, each followed by normalisation and the same modulation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.self_attn = nn.MultiheadAttention(
            dim, config.n_heads, dropout=config.dropout, batch_first=True
        )
        self.linear1 = nn.Linear(dim, config.feedforward_size)
        self.dropout = nn.Dropout(config.dropout)
        self.linear2 = nn.Linear(config.feedforward_size, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.film_from_temb = modulation(config)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.film_from_temb(c)[:, None].chunk(2, -1)
        mixed, _ = self.self_attn(x, x, x, need_weights=False)
        x = torch.addcmul(shift, scale, self.norm1(x + self.dropout(mixed)))
        update = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return torch.addcmul(shift, scale, self.norm2(x + self.dropout(update)))


class OutputLayer(nn.Module):
    """A residual feed-forward layer, normalised and modulated; sites do not interact."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.hidden_size, config.feedforward_size)
        self.linear2 = nn.Linear(config.feedforward_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.film_from_temb = modulation(config)

    def forward(self, rows: Tensor, c: Tensor) -> Tensor:
        """rows [..., D] and the embedded time c [..., 4 time_dim], which broadcast."""
        scale, shift = self.film_from_temb(c).chunk(2, -1)
        return torch.addcmul(
            shift, scale, self.norm(rows + self.linear2(F.relu(self.linear1(rows))))
        )


def positions(length: int, dim: int) -> Tensor:
    """Sinusoidal positions [L, D]: sines in the even channels, cosines in the odd ones."""
    frequency = torch.exp(-math.log(10_000) * torch.arange(0, dim, 2) / dim)
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class Transformer(nn.Module):
    """Tokens and times to V logits per site."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim, wide = config.hidden_size, config.feedforward_size
        self.register_buffer("positions", positions(config.length, dim), persistent=False)
        self.encoder_layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.output_resid_layers = nn.ModuleList(
            OutputLayer(config) for _ in range(config.n_output_layers)
        )
        self.output_linear = nn.Linear(dim, config.vocab_size)
        self.input_embedding = nn.Linear(1 if config.ordinal else config.vocab_size, dim)
        self.shapes: CompiledShapes | None = None
        self.temb_net = nn.Sequential(
            nn.Linear(config.time_dim, wide), nn.ReLU(), nn.Linear(wide, 4 * config.time_dim)
        )

    def condition(self, t: Tensor) -> Tensor:
        """The embedded time, [B, 4 time_dim] or [1, 4 time_dim]."""
        features = time_features(self.config.time_scale * t, self.config.time_dim)
        return self.temb_net(features.to(self.output_linear.weight.dtype))

    def embed(self, x: Tensor) -> Tensor:
        """Embedded symbols [B, L, D]; embeddings are rows of the transposed weight."""
        layer = self.input_embedding
        if self.config.ordinal:
            return layer((2 * x[..., None] / self.config.vocab_size - 1).to(layer.weight.dtype))
        return F.embedding(x, layer.weight.T) + layer.bias

    def compile_trunk(self) -> None:
        """Compile the encoder layers, once per shape; see ``CompiledShapes``."""
        self.shapes = CompiledShapes()
        for layer in self.encoder_layers:
            layer.compile(dynamic=False)

    def trunk(self, x: Tensor, t: Tensor) -> Tensor:
        """Hidden states [B, L, D] of the encoder."""
        return self.layers(x, t) if self.shapes is None else self.shapes.run(self.layers, x, t)

    def layers(self, x: Tensor, t: Tensor) -> Tensor:
        c, hidden = self.condition(t), self.embed(x)
        hidden = F.dropout(
            hidden + self.get_buffer("positions")[: x.shape[1]].to(hidden),
            self.config.dropout,
            self.training,
        )
        for layer in self.encoder_layers:
            hidden = layer(hidden, c)
        return hidden

    def head(self, rows: Tensor, tokens: Tensor, c: Tensor) -> Tensor:
        """Hidden states [..., D], tokens [...] and embedded time [..., 4 time_dim] to logits."""
        for layer in self.output_resid_layers:
            rows = layer(rows, c)
        logits = self.output_linear(rows)
        return logits + one_hot(tokens, self.config.vocab_size, logits.dtype)

    def forward(self, x: Tensor, t: Tensor, where: Tensor | SiteMask | None = None) -> Tensor:
        """Logits [B, L, V], or [K, V] with ``where``, of x int64 [B, L] at t [B] or [1].

        Raises:
            ValueError: x is longer than ``length`` of the config.
        """
        if x.shape[1] > self.config.length:
            raise ValueError(
                f"a sequence has {x.shape[1]} tokens, the transformer was built for "
                f"{self.config.length}; shorten it"
            )
        if where is None:
            return self.head(self.trunk(x, t), x, self.condition(t)[:, None])
        sites = SiteMask.of(where)  # Before the trunk: its indices make the CPU wait for a GPU.
        hidden, c = sites.select(self.trunk(x, t)), self.condition(t)
        return self.head(hidden, sites.select(x), c if len(c) == 1 else c[sites.rows])


class TransformerPosterior(nn.Module):
    """The network's output as log p(x_0 | x_t): a ``Model`` for ``PosteriorReverse``.

    Args:
        time_conditioned: whether the network is conditioned on t; otherwise its time input is 0.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, network: Transformer, *, time_conditioned: bool = True) -> None:
        super().__init__()
        self.network, self.time_conditioned = network, time_conditioned

    def compile_trunk(self) -> None:
        self.network.compile_trunk()

    def forward(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        """Log-probabilities, float32 [B, L, V] or [K, V]."""
        time = time_tensor(t if self.time_conditioned else 0.0, x.device)
        return self.network(x, time, where).float().log_softmax(-1)
