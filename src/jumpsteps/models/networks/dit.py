r"""The diffusion transformer (DiT) of SEDD, with its output read as posterior or as log-score.

Attention is bidirectional with rotary positions, and the noise level modulates every block (adaLN).
Architecture and parameter names are those of the published SEDD checkpoints (Lou, Meng, Ermon 2024,
App. C.2; block design of Peebles & Xie 2023), so that their weights load unchanged. The head is
separate from the trunk, and runs only on the sites selected by ``where``.

Shapes: x int64 [B, L]; sigma [B], or [1] for all sequences; D is the width; ``where`` bool [B, L]
selects K sites.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.core.tensors import sent
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.models.networks.compiled import CompiledShapes
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import NoiseSchedule, Time

__all__ = ["DiT", "DiTConfig", "LogScoreNetwork", "PosteriorNetwork"]


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a DiT.

    Attributes:
        vocab_size: V, MASK included.
        hidden_size: D, a multiple of 2 x n_heads.
        cond_dim: width of the noise-level embedding.
        length: number of sites with an absolute position embedding, which is added to the token
            embedding; 0 for none. Rotary positions alone encode relative positions only.
        level_scale: factor of the noise level before its sinusoidal features, whose highest
            frequency is 1.

    Raises:
        ValueError: a size or a factor out of range.
    """

    vocab_size: int
    hidden_size: int
    n_blocks: int
    n_heads: int
    cond_dim: int = 128
    dropout: float = 0.0
    length: int = 0
    level_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "n_blocks", "n_heads", "cond_dim"):
            if type(size := getattr(self, name)) is not int or size < 1:
                raise ValueError(f"{name} must be a positive whole number, got {size!r}")
        if type(self.length) is not int or self.length < 0:
            raise ValueError(f"length must be a whole number, 0 or more, got {self.length!r}")
        if not (0 <= self.dropout < 1 and 0 < self.level_scale < math.inf):
            raise ValueError(
                "dropout must lie in [0, 1) and level_scale be positive, "
                f"got {self.dropout} and {self.level_scale}"
            )
        if self.hidden_size % (2 * self.n_heads):
            raise ValueError(
                "hidden_size must be a multiple of 2 x n_heads, "
                f"got hidden_size={self.hidden_size}, n_heads={self.n_heads}"
            )


class LayerNorm(nn.Module):
    """Layer normalisation in float32 without bias, then the modulation x (1 + scale) + shift."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        weight = self.weight.float()
        if shift.numel() == weight.numel():
            # One noise level for all sequences: the modulation is fused into the normalisation.
            weight = weight * (1 + scale.float()).flatten()
            return F.layer_norm(x.float(), weight.shape, weight, shift.float().flatten()).to(
                x.dtype
            )
        return torch.addcmul(
            shift, F.layer_norm(x.float(), weight.shape, weight).to(x.dtype), 1 + scale
        )


class Embedding(nn.Module):
    """A table of vectors [V, D], with the published parameter name."""

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, dim))
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding[x]


class NoiseEmbedding(nn.Module):
    """Sinusoidal features of sigma (periods 2 pi to 2 pi x 10,000), then a two-layer network."""

    features = 256

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.features, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, sigma: Tensor) -> Tensor:
        half = self.features // 2
        frequency = torch.exp(
            -math.log(10_000) * torch.arange(half, device=sigma.device, dtype=torch.float32) / half
        )
        angle = sigma.float()[:, None] * frequency
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1).to(next(self.parameters()).dtype))


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021); channel i is paired with channel i + dim/2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1 / 10_000 ** (torch.arange(0, dim, 2).float() / dim))

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin, float32 [L, head dim / 2]."""
        frequency: Tensor = self.get_buffer("inv_freq").float()
        angle = (
            torch.arange(length, device=frequency.device, dtype=torch.float32)[:, None] * frequency
        )
        return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs of x [..., L, dim] by the angles of their positions."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


class Block(nn.Module):
    """Attention and a feed-forward network, each modulated and gated by the noise level."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.heads, self.dropout = config.n_heads, config.dropout
        self.norm1 = LayerNorm(dim)
        self.attn_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attn_out = nn.Linear(dim, dim, bias=False)
        self.norm2 = LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )
        self.adaLN_modulation = nn.Linear(config.cond_dim, 6 * dim)
        nn.init.zeros_(self.adaLN_modulation.weight)
        nn.init.zeros_(self.adaLN_modulation.bias)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.attn_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.attn_out(mixed.transpose(1, 2).flatten(2))

    def feed_forward(self, x: Tensor) -> Tensor:
        """``mlp`` of x [B, L, D].

        On a GPU without gradients, the activation is fused into the first matrix product, which
        saves a pass over the widest tensor. Autocast does not know the fused product.
        """
        if not x.is_cuda or torch.is_grad_enabled() or torch.is_autocast_enabled("cuda"):
            return self.mlp(x)
        first, last = self.mlp[0], self.mlp[2]
        assert isinstance(first, nn.Linear)
        wide = torch._addmm_activation(first.bias, x.flatten(0, 1), first.weight.T, use_gelu=True)
        return last(wide).unflatten(0, x.shape[:2])

    def forward(self, x: Tensor, c: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None].chunk(
            6, -1
        )
        update = self.attend(self.norm1(x, shift1, scale1), cos, sin)
        x = torch.addcmul(x, gate1, F.dropout(update, self.dropout, self.training))
        update = self.feed_forward(self.norm2(x, shift2, scale2))
        return torch.addcmul(x, gate2, F.dropout(update, self.dropout, self.training))


class Head(nn.Module):
    """Hidden states to V numbers per site."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm_final = LayerNorm(config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, config.vocab_size)
        self.adaLN_modulation = nn.Linear(config.cond_dim, 2 * config.hidden_size)
        for layer in (self.linear, self.adaLN_modulation):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, c: Tensor) -> Tensor:
        """hidden [..., D] and the embedded noise level c [..., cond_dim], which broadcast."""
        shift, scale = self.adaLN_modulation(c).chunk(2, -1)
        return self.linear(self.norm_final(hidden, shift, scale))


class DiT(nn.Module):
    """Tokens and a noise level to V numbers per site."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_embed = Embedding(config.vocab_size, config.hidden_size)
        self.site_embed = Embedding(config.length, config.hidden_size) if config.length else None
        if self.site_embed is not None:
            nn.init.zeros_(self.site_embed.embedding)
        self.sigma_map = NoiseEmbedding(config.cond_dim)
        self.rotary_emb = Rotary(config.hidden_size // config.n_heads)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_blocks))
        self.output_layer = Head(config)
        self.shapes: CompiledShapes | None = None

    def compile_trunk(self) -> None:
        """Compile the blocks, once per shape and shared by all blocks; see ``CompiledShapes``."""
        self.shapes = CompiledShapes()
        for block in self.blocks:
            block.compile(dynamic=False)

    def trunk(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Hidden states [B, L, D]."""
        if self.shapes is None:
            return self.layers(x, sigma)
        return self.shapes.run(self.layers, x, sigma)

    def layers(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Hidden states [B, L, D].

        Raises:
            ValueError: x is longer than the table of position embeddings.
        """
        c = self.condition(sigma)
        cos, sin = self.rotary_emb(x.shape[1])
        hidden = self.vocab_embed(x)
        if self.site_embed is not None:
            if x.shape[1] > self.config.length:
                raise ValueError(
                    f"a sequence has {x.shape[1]} tokens, the DiT was built for "
                    f"{self.config.length}; shorten it"
                )
            hidden = hidden + self.site_embed.embedding[: x.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, c, cos, sin)
        return hidden

    def condition(self, sigma: Tensor) -> Tensor:
        """The embedded noise level, [B, cond_dim] or [1, cond_dim]."""
        return F.silu(self.sigma_map(self.config.level_scale * sigma))

    def forward(self, x: Tensor, sigma: Tensor, where: Tensor | SiteMask | None = None) -> Tensor:
        """[B, L, V], or [K, V] with ``where``."""
        if where is None:
            return self.output_layer(self.trunk(x, sigma), self.condition(sigma)[:, None])
        sites = SiteMask.of(where)  # Before the trunk is launched: later it would wait for the GPU.
        hidden, c = sites.select(self.trunk(x, sigma)), self.condition(sigma)
        return self.output_layer(hidden, c if len(c) == 1 else c[sites.rows])


def noise_level(noise: NoiseSchedule, x: Tensor, t: Time) -> Tensor:
    """sigma-bar(t), float32: [B] for times [B], [1] for one time."""
    return sent(noise.total(t), x.device).to(torch.float32).reshape(-1)


def one_for_each(t: Time) -> bool:
    """Whether these are the times of the sequences, [B]."""
    return isinstance(t, Tensor) and t.ndim > 0


def kept_states(
    network: DiT,
    x: Tensor,
    sigma: Tensor,
    where: Tensor | SiteMask,
    read: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    each: bool,
) -> Evaluation:
    """The trunk's hidden states at the selected sites, with their noise level if it is one for each
    sequence; ``read(output, tokens, sigma)`` turns outputs [K, V] into the model's.
    """
    where = SiteMask.of(where)
    hidden, c = selected(network.trunk(x, sigma), where), network.condition(sigma)
    if not each:
        return Evaluation(
            hidden, where, lambda rows, tokens: read(network.output_layer(rows, c), tokens, sigma)
        )
    parts = (hidden, c[where.rows], sigma[where.rows, None])
    sizes, dtype = [part.shape[-1] for part in parts], hidden.dtype

    def output(rows: Tensor, tokens: Tensor) -> Tensor:
        states, levels, own = rows.split(sizes, -1)
        return read(network.output_layer(states.to(dtype), levels.to(dtype)), tokens, own[:, 0])

    wide = torch.promote_types(dtype, torch.float32)
    return Evaluation(torch.cat([part.to(wide) for part in parts], -1), where, output)


class PosteriorNetwork(nn.Module):
    """A DiT whose output is read as logits of p(x_0 | x_t): a ``Model`` for ``PosteriorReverse``.

    For the absorbing kernel the posterior does not depend on t, so the network is not conditioned
    on time: its noise-level input is zero (Sahoo et al. 2024, Sec. 3.5; Ou et al. 2024). For other
    kernels it is conditioned on sigma-bar(t).
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, network: DiT, forward_process: ForwardProcess) -> None:
        super().__init__()
        self.network, self.noise = network, forward_process.noise
        self.mask_id = forward_process.mask_id if isinstance(forward_process, Absorbing) else None

    def forward(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        """Log-probabilities, float32 [B, L, V] or [K, V]; minus infinity at MASK."""
        return self.read(self.network(x, self.level(x, t), where))

    def compile_trunk(self) -> None:
        self.network.compile_trunk()

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        """The trunk's hidden states at the selected sites; the head runs when they are read."""
        level, each = self.level(x, t), self.mask_id is None and one_for_each(t)
        return kept_states(
            self.network, x, level, where, lambda out, tokens, own: self.read(out), each=each
        )

    def level(self, x: Tensor, t: Time) -> Tensor:
        """The network's noise-level input, float32 [B] or [1]."""
        if self.mask_id is not None:
            return torch.zeros(1, device=x.device)
        return noise_level(self.noise, x, t)

    def read(self, output: Tensor) -> Tensor:
        """Outputs [..., V] to log-probabilities; minus infinity at MASK."""
        logits = output.float()
        if self.mask_id is not None:
            never = torch.arange(logits.shape[-1], device=logits.device) == self.mask_id
            logits = logits.masked_fill(never, -torch.inf)
        return logits.log_softmax(-1)


class LogScoreNetwork(nn.Module):
    """A DiT whose output is read as log p_t(y)/p_t(x): a ``Model`` for ``LogScoreReverse``.

    Source: Lou, Meng, Ermon (2024), App. C.2.

    Args:
        scale_by_sigma: subtract log(e^sigma - 1) + log(V - 1) from the output, with sigma short for
            sigma-bar(t). This is the scale of absorbing log-scores; the published models use it.
    """

    reads_site_mask: ClassVar[bool] = True

    def __init__(self, network: DiT, noise: NoiseSchedule, *, scale_by_sigma: bool = True) -> None:
        super().__init__()
        self.network, self.noise, self.scale_by_sigma = network, noise, scale_by_sigma

    def forward(self, x: Tensor, t: Time, where: Tensor | SiteMask | None = None) -> Tensor:
        """Log-scores, float32 [B, L, V] or [K, V]; zero at the site's own symbol."""
        sigma = noise_level(self.noise, x, t)
        if where is None:
            return self.read(self.network(x, sigma), x, sigma[:, None])
        where = SiteMask.of(where)
        own, levels = where.select(x), sigma if len(sigma) == 1 else sigma[where.rows]
        return self.read(self.network(x, sigma, where), own, levels)

    def compile_trunk(self) -> None:
        self.network.compile_trunk()

    def evaluate(self, x: Tensor, t: Time, where: Tensor | SiteMask) -> Evaluation:
        """The trunk's hidden states at the selected sites; the head runs when they are read."""
        sigma = noise_level(self.noise, x, t)
        return kept_states(self.network, x, sigma, where, self.read, each=one_for_each(t))

    def read(self, output: Tensor, own: Tensor, sigma: Tensor) -> Tensor:
        """Outputs [..., V], tokens ``own`` [...] and noise levels [...] to log-scores [..., V]."""
        scale = (
            torch.expm1(sigma).log() + math.log(output.shape[-1] - 1)
            if self.scale_by_sigma
            else torch.zeros_like(sigma)
        )
        return (output - scale[..., None]).scatter_(-1, own[..., None], 0)
