"""Sampling from a network that is divided among processes, of LLaDA's shape with random weights.

    torchrun --nproc-per-node 2 benchmarks/sharded.py OUT.json --device cuda
    torchrun --nproc-per-node 2 benchmarks/sharded.py OUT.json --device cuda --layers 352

By default it has the sizes of LLaDA-8B (Nie et al. 2025), in bfloat16, which fits one GPU: then
``--whole`` measures the same network undivided, too. 352 layers are 78 billion parameters, 156 GB,
more than the 141 GB of an H200. On a CPU the sizes are small, to check that the script runs.

It prints how much memory a process needs and how long a model call takes.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from step import forget_peak, peak_gb, wait
from torch import Tensor, nn

from jumpsteps.core.distributed import workers_of_launcher
from jumpsteps.core.files import write_json
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.formats.masked_lm import MaskedLanguageModel
from jumpsteps.models.sharding import InStep, shard_network
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform


@dataclass(frozen=True)
class Shape:
    """Sizes of the network and of a batch."""

    symbols: int
    width: int
    inner: int
    layers: int
    heads: int
    length: int
    batch: int


SHAPES = {
    "cuda": Shape(126_464, 4096, 12_288, 32, 32, 1024, 8),
    "cpu": Shape(300, 64, 192, 4, 4, 32, 2),
}
NFE = 8


class Layer(nn.Module):
    """A transformer layer that sees all sites: rotary positions, RMS norms, a gated network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, width, inner = shape.heads, shape.width, shape.inner
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.qkv, self.out = (nn.Linear(width, n * width, bias=False) for n in (3, 1))
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.transpose(1, 3).unbind(2)
        mixed = F.scaled_dot_product_attention(turned(q, angles), turned(k, angles), v)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        normed = self.norms[1](x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions of [B, heads, L, D] by angles [L, D / 2]."""
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class Network(nn.Module):
    """Token ids int64 [B, L] to logits, as a masked language model of Hugging Face has them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.half = shape.width // shape.heads // 2
        self.embedding = nn.Embedding(shape.symbols, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.symbols, bias=False)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, tokens: Tensor) -> SimpleNamespace:
        site = torch.arange(tokens.shape[1], device=tokens.device)
        frequency = 5e5 ** -(torch.arange(self.half, device=tokens.device) / self.half)
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, site[:, None] * frequency)
        return SimpleNamespace(logits=self.head(self.norm(x)))


def network_of(shape: Shape, device: torch.device, processes: int, rank: int) -> Network:
    """A network of random weights, divided if there are several processes."""
    with torch.device("meta"):
        network = Network(shape).to(torch.bfloat16).eval()
    if processes > 1:
        shard_network(network, device, processes)
    network.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(rank)
    with torch.no_grad():
        for parameter in network.parameters():
            own = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            own.normal_(std=0.02, generator=generator)
    return network


def model_of(network: Network, shape: Shape, device: torch.device) -> MaskedLanguageModel:
    model = MaskedLanguageModel(network, vocab_size=shape.symbols, mask_id=shape.symbols - 1)
    for name, buffer in model.named_buffers(recurse=False):
        setattr(model, name, buffer.to(device))
    return model.eval()


def measure(
    model: Any, network: Network, shape: Shape, device: torch.device, rank: int
) -> dict[str, float]:
    """What this process holds of the network and needs at most, in GB, and seconds of a call."""
    parameters = network.parameters()
    local = (p.to_local() if hasattr(p, "to_local") else p for p in parameters)
    held = sum(p.numel() * p.element_size() for p in local) / 1e9
    reverse = PosteriorReverse(Absorbing(vocab_size=shape.symbols, noise=LogLinear()), model)

    def run() -> float:
        wait(device)
        start = time.perf_counter()
        samples = range(rank * shape.batch, (rank + 1) * shape.batch)
        generator = SampleGenerators(0, samples, device)
        size = (shape.batch, shape.length)
        simulate(reverse, Tweedie(), uniform(NFE), size, generator=generator)
        wait(device)
        return time.perf_counter() - start

    run()
    forget_peak(device)
    seconds = sorted(run() for _ in range(3))[1]
    return {"held_GB": held, "peak_GB": peak_gb(device), "seconds_of_call": seconds / NFE}


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    with workers_of_launcher() as workers:
        if workers.count == 1:
            sys.exit("start it with torchrun --nproc-per-node 2 or more")
        device = workers.device(torch.device(args.device))
        shape = SHAPES[device.type]
        shape = replace(shape, layers=args.layers or shape.layers)
        rank, found = workers.rank, {}
        for name, processes in (("whole", 1), ("divided", workers.count)):
            if name == "whole" and not args.whole:
                continue
            network = network_of(shape, device, processes, rank)
            model = model_of(network, shape, device)
            if processes == 1:
                found[name] = measure(model, network, shape, device, rank)
            else:
                shared = InStep(model, shape.length, device)
                found[name] = measure(shared, network, shape, device, rank)
                shared.help()
            del network, model
            forget_peak(device)
        if workers.is_first:
            name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
            with torch.device("meta"):
                parameters = sum(p.numel() for p in Network(shape).parameters())
            about = {"device": name, "torch": torch.__version__, "processes": workers.count}
            about |= {"parameters": parameters, "shape": shape.__dict__, "nfe": NFE}
            write_json(args.out, about | found)
            print(f"{parameters:.3g} parameters, {2e-9 * parameters:.3g} GB in bfloat16")
            for name, one in found.items():
                calls = ", ".join(f"{key} {value:.3g}" for key, value in one.items())
                print(f"{name}, of each of {workers.count} processes: {calls}")


if __name__ == "__main__":
    run()
