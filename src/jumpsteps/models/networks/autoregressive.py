"""An autoregressive transformer, by which samples of another model are judged.

Causal attention with rotary positions, pre-normalisation and an output that shares the table of the
token embedding (Radford et al. 2019; Su et al. 2021).

Shapes: x int64 [B, L]; D is the width; V symbols of data, MASK not among them.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jumpsteps.models.networks.dit import Rotary, rotate

__all__ = ["Autoregressive", "AutoregressiveConfig"]


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Sizes of an autoregressive transformer.

    Attributes:
        vocab_size: V, the symbols of data.
        hidden_size: D, a multiple of 2 x n_heads.
        dropout: rate at the embedding and at both updates of a block.
    """

    vocab_size: int
    hidden_size: int
    n_blocks: int
    n_heads: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.n_heads):
            raise ValueError(
                "hidden_size must be a multiple of 2 x n_heads, "
                f"got hidden_size={self.hidden_size}, n_heads={self.n_heads}"
            )


class CausalBlock(nn.Module):
    """Causal attention and a feed-forward network, each added to its normalised input."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.heads, self.dropout = config.n_heads, config.dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )
        for last in (self.attention_out, self.mlp[2]):
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * config.n_blocks))

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attention_out(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + F.dropout(self.attend(self.norm1(x), cos, sin), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.norm2(x)), self.dropout, self.training)


class Autoregressive(nn.Module):
    """p(x) = prod_l p(x^l | x^1 ... x^{l-1}), the first factor given a start token."""

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        self.start = config.vocab_size
        self.embedding = nn.Embedding(config.vocab_size + 1, config.hidden_size)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.rotary = Rotary(config.hidden_size // config.n_heads)
        self.blocks = nn.ModuleList([CausalBlock(config) for _ in range(config.n_blocks)])
        self.norm = nn.LayerNorm(config.hidden_size, bias=False)

    def features(self, x: Tensor) -> Tensor:
        """Hidden states [B, L, D], the one at site l a function of x^1 ... x^{l-1}."""
        before = torch.cat([torch.full_like(x[:, :1], self.start), x[:, :-1]], 1)
        cos, sin = self.rotary(x.shape[1])
        hidden = F.dropout(self.embedding(before), self.config.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden, cos, sin)
        return self.norm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, L, V] of each token given those before it."""
        return self.logits(self.features(x))

    def logits(self, features: Tensor) -> Tensor:
        """The logits of hidden states [..., D]."""
        return F.linear(features, self.embedding.weight[: self.start])

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x^l | x^1 ... x^{l-1}) in nats, float32 [B, L]; gradients flow.

        Raises:
            ValueError: a token is no symbol of this model, such as MASK.
        """
        return self.nll_and_features(x)[0]

    def nll_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``nll`` and ``features`` by one evaluation.

        Raises:
            ValueError: as ``nll``.
        """
        check_symbols(x, self.start)
        features = self.features(x)
        logits = self.logits(features).float().flatten(0, 1)
        return F.cross_entropy(logits, x.flatten(), reduction="none").view(x.shape), features


def check_symbols(x: Tensor, vocab_size: int) -> None:
    low, high = int(x.min()), int(x.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"the evaluator knows the tokens 0..{vocab_size - 1}, got {low}..{high}; "
            "samples and evaluator must share a tokenizer, and no MASK may be left"
        )
