"""Train the classifier whose features FD-cifar is measured in.

    python experiments/cifar10_features.py DATA OUT --device cuda

DATA is CIFAR-10 for Python or NAME_train.npz of JPEGs with labels; OUT becomes a folder that
``load_extractor`` reads. The parameters are stored in bfloat16, and the accuracy in ``config.json``
is that of the stored ones. On a CPU, to see that it runs: ``--steps 20 --batch 64 --images 512``.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jumpsteps.models.extractors import load_classifier, save_classifier
from jumpsteps.models.networks.image_classifier import ClassifierConfig, ImageClassifier
from jumpsteps.tasks.image_files import SHAPE, Images, open_images
from results import device_name

SEED = 0
MARGIN = 4
"""Pixels by which a crop is moved at most."""


def read(images: Images, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens uint8 [n, 3072] and classes int64 [n].

    Raises:
        ValueError: files without labels.
    """
    if images.labels is None:
        raise ValueError("these images have no labels; pass CIFAR-10 for Python, or its JPEG copy")
    n = min(n, images.count)
    labels = torch.from_numpy(images.labels[:n].astype(np.int64))
    return images.tokens(range(n)).to(device), labels.to(device)


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 [B, 3072] mirrored half of the time and moved by up to MARGIN pixels, reflected beyond
    the edges.
    """
    n, device = len(images), images.device
    wide = F.pad(images.view(n, *SHAPE).float(), (MARGIN,) * 4, mode="reflect")
    mirrored = torch.rand(n, 1, 1, 1, generator=generator, device=device) < 0.5
    wide = torch.where(mirrored, wide.flip(-1), wide)
    moved = torch.randint(2 * MARGIN + 1, (2, n, 1), generator=generator, device=device)
    rows, columns = moved + torch.arange(SHAPE[1], device=device)
    each = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(SHAPE[0], device=device)[:, None, None]
    return wide[each, channel, rows[:, None, :, None], columns[:, None, None, :]].flatten(1)


def train(
    network: ImageClassifier, images: Tensor, labels: Tensor, steps: int, batch: int, rate: float
) -> None:
    device = images.device
    generator = torch.Generator(device).manual_seed(SEED)
    optimiser = torch.optim.SGD(
        network.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    order, start = torch.empty(0, dtype=torch.int64, device=device), time.perf_counter()
    network.train()
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(images), generator=generator, device=device)
        rows, order = order[:batch], order[batch:]
        x = changed(images[rows], generator)
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(network(x), labels[rows], label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        plan.step()
        if step % max(steps // 20, 1) == 0 or step == steps - 1:
            print(
                f"step {step + 1}, loss {loss.item():.3f}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    network.eval()


@torch.no_grad()
def accuracy(network: ImageClassifier, images: Tensor, labels: Tensor) -> float:
    scores = torch.cat([network(part).argmax(-1) for part in images.split(500)])
    return float((scores == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="train a small classifier for FD-cifar")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=4900, help="50 epochs of CIFAR-10")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=0.1, help="the highest learning rate")
    parser.add_argument("--images", type=int, default=50_000, help="training images at most")
    args = parser.parse_args()
    device = torch.device(args.device)
    files = open_images(args.data)
    images, labels = read(files.train, args.images, device)
    held_out = read(files.test, args.images, device)
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    network = ImageClassifier(ClassifierConfig()).to(device, memory_format=torch.channels_last)
    start = time.perf_counter()
    train(network, images, labels, args.steps, min(args.batch, len(images)), args.rate)
    about = {
        "data": files.name,
        "training": {
            "steps": args.steps,
            "batch": args.batch,
            "rate": args.rate,
            "seed": SEED,
            "seconds": round(time.perf_counter() - start),
            "device": device_name(args.device),
        },
    }
    save_classifier(args.out, network, **about)
    about["test_accuracy"] = accuracy(load_classifier(args.out, device=device), *held_out)
    save_classifier(args.out, network, **about)
    print(f"{about['test_accuracy']:.2%} of {len(held_out[0])} test images are named correctly")


if __name__ == "__main__":
    main()
