"""Memory of the machine that a process needs to load its part of a network.

    torchrun --nproc-per-node 2 benchmarks/loading.py FOLDER OUT.json
    torchrun --nproc-per-node 2 benchmarks/loading.py FOLDER OUT.json --whole

FOLDER is a checkpoint that ``jumpsteps.load`` reads; if it does not exist, a transformer with
random weights is written there, of 409 MB in float32. ``--whole`` reads all of the network in every
process first, as formats need that cannot be read in parts.

It prints the most memory that each process has had (``ru_maxrss``) before and after, how much it
holds of the network, and a sum of the network's output, which does not depend on the way.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch
import torch.distributed.fsdp  # Its memory is counted before.
import torch.distributed.tensor

from jumpsteps.core.distributed import workers_of_launcher
from jumpsteps.core.files import write_json
from jumpsteps.models import load
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.models.sharding import InStep, shard_model
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

LENGTH = 64


def peak_mb() -> float:
    """The most memory that this process has had, MB: pages of its own and of files."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def write_random(folder: Path) -> None:
    config = DiTConfig(vocab_size=8192, hidden_size=768, n_blocks=12, n_heads=12)
    forward = Absorbing(vocab_size=config.vocab_size, noise=LogLinear())
    torch.manual_seed(0)
    network, _ = build(config, forward, "posterior")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    folder.mkdir(parents=True)
    kind = {"output": "posterior", "task": "random", "length": LENGTH}
    save_native(folder, network, forward, **kind, dtype=torch.float32)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    if not args.folder.exists():
        write_random(args.folder)
        sys.exit(f"{args.folder} is written; start it again")
    with workers_of_launcher() as workers, torch.no_grad():
        if workers.count == 1:
            sys.exit("start it with torchrun --nproc-per-node 2 or more")
        device = workers.device(torch.device(args.device))
        before, start = peak_mb(), time.perf_counter()
        model = load(args.folder, device="cpu" if args.whole else "meta")
        network = model.reverse.model
        model, _ = shard_model(model, device, workers)
        seconds, after = time.perf_counter() - start, peak_mb()
        held = sum(p.to_local().nbytes for p in network.parameters()) / 1e6
        shared = model.reverse.model
        assert isinstance(shared, InStep)
        x = torch.arange(LENGTH, device=device)[None] % model.reverse.forward.vocab_size
        value = float(shared(x, 0.5).clamp_min(-100).double().sum())
        found = {"before_MB": before, "loaded_MB": after, "held_MB": held, "seconds": seconds}
        found |= {"output": value}
        print(f"process {workers.rank}: {json.dumps(found)}", flush=True)
        if workers.is_first:
            write_json(args.out, found)
        shared.help()


if __name__ == "__main__":
    run()
