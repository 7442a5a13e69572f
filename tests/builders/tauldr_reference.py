"""Plain evaluations of tauLDR's two networks, with their parameters in the published order.

Nothing here comes from ``jumpsteps.models``. Weights are dicts with the published names; sizes are
those of tiny networks.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from builders.statistics import seeded


def random_weights(
    layout: dict[str, list[int]], seed: int = 0, size: float = 0.3
) -> dict[str, Tensor]:
    """Normal numbers, but for scales of normalisations, which are around 1."""
    generator = seeded(seed)
    scales = [name for name in layout if "orm" in name and name.endswith("weight")]
    return {
        name: (name in scales) + size * torch.randn(shape, generator=generator)
        for name, shape in layout.items()
    }


def features(t: Tensor, dim: int) -> Tensor:
    """Of the scaled time [B]: in float32, as published."""
    half = dim // 2
    speeds = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10_000) / (half - 1)))
    angles = t.float().outer(speeds)
    return torch.cat([angles.sin(), angles.cos(), torch.zeros(len(t), dim % 2)], 1)


def silu(h: Tensor) -> Tensor:
    return h / (1 + torch.exp(-h))


class PlainLayers:
    """The layers of the U-Net by name, with the weights ``w``; sums are divided by ``half``."""

    def __init__(self, w: dict[str, Tensor], half: float) -> None:
        self.w, self.half = w, half

    def norm(self, name: str, h: Tensor) -> Tensor:
        groups = h.unflatten(1, (h.shape[1] // 4, 4))
        centred = groups - groups.mean((2, 3, 4), keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean((2, 3, 4), keepdim=True) + 1e-6)
        weight, bias = (self.w[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return scaled.flatten(1, 2) * weight + bias

    def conv(self, name: str, h: Tensor, **options: int) -> Tensor:
        return F.conv2d(h, self.w[f"{name}.weight"], self.w[f"{name}.bias"], **options)

    def dense(self, name: str, h: Tensor) -> Tensor:
        return h @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def mix(self, name: str, h: Tensor) -> Tensor:
        mixed = torch.einsum("bihw,io->bohw", h, self.w[f"{name}.W"])
        return mixed + self.w[f"{name}.b"][:, None, None]

    def block(self, name: str, h: Tensor, c: Tensor) -> Tensor:
        y = self.conv(f"{name}.conv0", silu(self.norm(f"{name}.groupnorm0", h)), padding=1)
        y = y + self.dense(f"{name}.dense0", silu(c))[..., None, None]
        y = self.conv(f"{name}.conv1", silu(self.norm(f"{name}.groupnorm1", y)), padding=1)
        skip = self.mix(f"{name}.nin", h) if f"{name}.nin.W" in self.w else h
        return (skip + y) / self.half

    def attend(self, name: str, h: Tensor) -> Tensor:
        normed = self.norm(f"{name}.GroupNorm_0", h)
        q, k, v = (self.mix(f"{name}.NIN_{i}", normed).flatten(2) for i in range(3))
        attention = (torch.einsum("bcp,bcr->bpr", q, k) / math.sqrt(h.shape[1])).softmax(-1)
        mixed = torch.einsum("bpr,bcr->bcp", attention, v).reshape(h.shape)
        return (h + self.mix(f"{name}.NIN_3", mixed)) / self.half


class PlainUNet:
    """Widths 8 and 16 at two resolutions, two blocks each, attention at the lower resolution.

    Images are 2 x 4 x 6 with 7 intensities.
    """

    colours, height, width, symbols, time_dim, time_scale = 2, 4, 6, 7, 6, 100.0
    down = (
        "block 8 8",
        "block 8 8",
        "halve 8",
        "block 8 16",
        "attend 16",
        "block 16 16",
        "attend 16",
    )
    middle = ("block 16 16", "attend 16", "block 16 16")
    up = (
        "block 32 16",
        "attend 16",
        "block 32 16",
        "attend 16",
        "block 24 16",
        "attend 16",
        "double 16",
    )
    up += ("block 24 8", "block 16 8", "block 16 8")

    def layout(self) -> dict[str, list[int]]:
        dim = self.time_dim
        shapes = {"temb_modules.0.weight": [4 * dim, dim], "temb_modules.0.bias": [4 * dim]}
        shapes |= {"temb_modules.1.weight": [4 * dim, 4 * dim], "temb_modules.1.bias": [4 * dim]}
        shapes |= {"input_conv.weight": [8, self.colours, 3, 3], "input_conv.bias": [8]}
        for part, modules in (("down", self.down), ("middle", self.middle), ("up", self.up)):
            prefix = "middle_modules" if part == "middle" else f"{part}sampling_modules"
            for i, module in enumerate(modules):
                shapes |= {
                    f"{prefix}.{i}.{name}": shape
                    for name, shape in self.module_layout(module).items()
                }
        shapes |= {"output_modules.0.weight": [8], "output_modules.0.bias": [8]}
        return shapes | {
            "output_modules.1.weight": [2 * self.colours, 8, 3, 3],
            "output_modules.1.bias": [2 * self.colours],
        }

    def module_layout(self, module: str) -> dict[str, list[int]]:
        kind, *widths = module.split()
        a, b = int(widths[0]), int(widths[-1])
        if kind == "attend":
            mixes = [{f"NIN_{i}.W": [a, a], f"NIN_{i}.b": [a]} for i in range(4)]
            return (
                {"GroupNorm_0.weight": [a], "GroupNorm_0.bias": [a]}
                | mixes[0]
                | mixes[1]
                | mixes[2]
                | mixes[3]
            )
        if kind != "block":
            return {"conv.weight": [a, a, 3, 3], "conv.bias": [a]}
        shapes = {
            "groupnorm0.weight": [a],
            "groupnorm0.bias": [a],
            "conv0.weight": [b, a, 3, 3],
            "conv0.bias": [b],
        }
        shapes |= {
            "dense0.weight": [b, 4 * self.time_dim],
            "dense0.bias": [b],
            "groupnorm1.weight": [b],
            "groupnorm1.bias": [b],
        }
        shapes |= {"conv1.weight": [b, b, 3, 3], "conv1.bias": [b]}
        return shapes | ({"nin.W": [a, b], "nin.b": [b]} if a != b else {})

    def __call__(
        self, w: dict[str, Tensor], x: Tensor, t: Tensor, rescale: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Location and log-scale, [B, C, H, W] each."""
        layers = PlainLayers(w, math.sqrt(2) if rescale else 1.0)
        block, attend, conv = layers.block, layers.attend, layers.conv
        time = features(self.time_scale * t, self.time_dim)
        c = layers.dense("temb_modules.1", silu(layers.dense("temb_modules.0", time)))
        image = (
            2 * x.reshape(len(x), self.colours, self.height, self.width) / (self.symbols - 1) - 1
        )
        h = conv("input_conv", image, padding=1)
        skips = [h]
        for i, module in enumerate(self.down):
            name = f"downsampling_modules.{i}"
            if module.startswith("attend"):
                h = skips[-1] = attend(name, h)
            else:
                padded = F.pad(h, (0, 1, 0, 1))
                h = (
                    block(name, h, c)
                    if module.startswith("block")
                    else conv(f"{name}.conv", padded, stride=2)
                )
                skips.append(h)
        h = attend("middle_modules.1", block("middle_modules.0", h, c))
        h = block("middle_modules.2", h, c)
        for i, module in enumerate(self.up):
            name = f"upsampling_modules.{i}"
            if module.startswith("block"):
                h = block(name, torch.cat([h, skips.pop()], 1), c)
            elif module.startswith("attend"):
                h = attend(name, h)
            else:
                h = conv(
                    f"{name}.conv", h.repeat_interleave(2, -1).repeat_interleave(2, -2), padding=1
                )
        assert not skips
        h = conv("output_modules.1", silu(layers.norm("output_modules.0", h)), padding=1)
        return torch.tanh(image + h[:, : self.colours]), h[:, self.colours :]


class PlainTransformer:
    """Two layers, two output layers, two heads, width 8; 5 symbols at 6 sites or fewer."""

    symbols, length, dim, wide, heads, layers, outputs, time_dim, time_scale = (
        5,
        6,
        8,
        12,
        2,
        2,
        2,
        7,
        100.0,
    )

    def layout(self, ordinal: bool = False) -> dict[str, list[int]]:
        d, wide, t = self.dim, self.wide, 4 * self.time_dim
        film = {"film_from_temb.weight": [2 * d, t], "film_from_temb.bias": [2 * d]}
        ff = {
            "linear1.weight": [wide, d],
            "linear1.bias": [wide],
            "linear2.weight": [d, wide],
            "linear2.bias": [d],
        }
        layer = {"self_attn.in_proj_weight": [3 * d, d], "self_attn.in_proj_bias": [3 * d]}
        layer |= {"self_attn.out_proj.weight": [d, d], "self_attn.out_proj.bias": [d]} | ff
        layer |= {f"norm{i}.{part}": [d] for i in (1, 2) for part in ("weight", "bias")} | film
        last = ff | {"norm.weight": [d], "norm.bias": [d]} | film
        shapes = {
            f"encoder_layers.{i}.{name}": shape
            for i in range(self.layers)
            for name, shape in layer.items()
        }
        shapes |= {
            f"output_resid_layers.{i}.{name}": shape
            for i in range(self.outputs)
            for name, shape in last.items()
        }
        shapes |= {"output_linear.weight": [self.symbols, d], "output_linear.bias": [self.symbols]}
        shapes |= {
            "input_embedding.weight": [d, 1 if ordinal else self.symbols],
            "input_embedding.bias": [d],
        }
        shapes |= {"temb_net.0.weight": [wide, self.time_dim], "temb_net.0.bias": [wide]}
        return shapes | {"temb_net.2.weight": [t, wide], "temb_net.2.bias": [t]}

    def __call__(self, w: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        """Logits [B, L, V], sequence by sequence and head by head."""
        return torch.stack([self.sequence(w, row, time) for row, time in zip(x, t, strict=True)])

    def sequence(self, w: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        d, own = self.dim, torch.eye(self.symbols)[x]

        def dense(name: str, h: Tensor) -> Tensor:
            return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

        def norm(name: str, h: Tensor) -> Tensor:
            centred = h - h.mean(-1, keepdim=True)
            return (
                centred
                / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
                * w[f"{name}.weight"]
                + w[f"{name}.bias"]
            )

        def film(name: str, h: Tensor) -> Tensor:
            both = dense(f"{name}.film_from_temb", c)
            return both[:d] * h + both[d:]

        def feed_forward(name: str, h: Tensor) -> Tensor:
            return dense(f"{name}.linear2", dense(f"{name}.linear1", h).clamp_min(0))

        def attend(name: str, h: Tensor) -> Tensor:
            q, k, v = (h @ w[f"{name}.in_proj_weight"].T + w[f"{name}.in_proj_bias"]).split(d, -1)
            parts = [slice(i, i + d // self.heads) for i in range(0, d, d // self.heads)]
            mixed = [
                (q[:, p] @ k[:, p].T / math.sqrt(d / self.heads)).softmax(-1) @ v[:, p]
                for p in parts
            ]
            return dense(f"{name}.out_proj", torch.cat(mixed, -1))

        c = dense(
            "temb_net.2",
            dense("temb_net.0", features(self.time_scale * t[None], self.time_dim)[0]).clamp_min(0),
        )
        one_by_one = w["input_embedding.weight"].shape[1] == 1
        h = dense("input_embedding", 2 * x[:, None] / self.symbols - 1 if one_by_one else own)
        for site in range(len(x)):
            for channel in range(0, d, 2):
                angle = site / 10_000 ** (channel / d)
                h[site, channel] += math.sin(angle)
                h[site, channel + 1] += math.cos(angle)
        for i in range(self.layers):
            name = f"encoder_layers.{i}"
            h = film(name, norm(f"{name}.norm1", h + attend(f"{name}.self_attn", h)))
            h = film(name, norm(f"{name}.norm2", h + feed_forward(name, h)))
        for i in range(self.outputs):
            name = f"output_resid_layers.{i}"
            h = film(name, norm(f"{name}.norm", h + feed_forward(name, h)))
        return dense("output_linear", h) + own
