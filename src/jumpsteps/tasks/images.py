"""Colour images of 32 x 32 pixels with 256 intensities, such as CIFAR-10 (Krizhevsky 2009).

A sequence holds the intensities channel by channel and row by row, int64 [3072], so that
``tokens.view(3, 32, 32)`` is the image.

The metric is coarse and needs neither data nor a network: how far the mean difference of an
image's neighbouring pixels is from that of the training images. With too few steps tau-leaping
gives images that are too smooth; remaining noise makes them too rough. It does not judge what an
image shows. Images differ, so data have FLOOR, below which it says nothing.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.denoiser.conditioning import Given
from jumpsteps.tasks.image_files import SHAPE, image_module, open_images
from jumpsteps.tasks.pixels import Pixels
from jumpsteps.tasks.task import Task

__all__ = [
    "FLOOR",
    "LENGTH",
    "PIXELS",
    "SHAPE",
    "SYMBOLS",
    "TASK",
    "TYPICAL",
    "neighbour_difference",
    "read_given",
    "show",
    "smoothness_error",
]

SYMBOLS = 256
PIXELS = Pixels(*SHAPE, levels=SYMBOLS)
LENGTH = PIXELS.length
TYPICAL = 0.05948
"""Mean of ``neighbour_difference`` over the 50,000 training images of CIFAR-10, JPEG copy."""
FLOOR = 0.238
"""Mean of ``smoothness_error`` over its 10,000 test images."""
SHADES = " .:-=+*#%@"


def neighbour_difference(samples: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of a channel, as a share of 255.

    int64 [B, 3072] -> float64 [B]. Every pair of pixels side by side or one above the other counts
    once.
    """
    images = samples.view(-1, *SHAPE).to(torch.float64)
    across, down = (images.diff(dim=dim).abs() for dim in (-1, -2))
    return 0.5 * (across.mean((1, 2, 3)) + down.mean((1, 2, 3))) / (SYMBOLS - 1)


def smoothness_error(samples: Tensor) -> Tensor:
    """|d / TYPICAL - 1| with d the ``neighbour_difference``, int64 [B, 3072] -> float64 [B]."""
    return (neighbour_difference(samples) / TYPICAL - 1).abs()


def show(sample: Tensor) -> str:
    """One image as 16 lines of 32 characters, dark to light."""
    light = sample.view(*SHAPE).double().mean(0).view(16, 2, 32).mean(1)
    shade = (light * len(SHADES) / SYMBOLS).long().tolist()
    return "\n".join("".join(SHADES[i] for i in row) for row in shade)


def read_given(path: Path, length: int) -> Given:
    """Known pixels of a picture file as observed sites, [L]; transparent pixels are free.

    Raises:
        ValueError: the file cannot be read, is not 32 x 32, or has no transparent pixel.
    """
    module = image_module()
    try:
        picture = module.open(path).convert("RGBA")
    except (module.UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is no picture that can be read ({error})") from None
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).long()
    if pixels[:3].shape != SHAPE or pixels[:3].numel() != length:
        raise ValueError(f"{path} has {picture.size} pixels; pass a picture of 32 x 32")
    known = pixels[3:] > 0
    if known.all():
        raise ValueError(f"{path} has no transparent pixel, so there is nothing to sample")
    return Given(pixels[:3].flatten(), known.expand(SHAPE).flatten())


def no_data(n: int, generator: torch.Generator) -> Tensor:
    raise ValueError(
        "the task images brings no data; pass --data PATH: a folder of CIFAR-10's python batches "
        "or of .png files, a file NAME_train.npz of JPEGs, or a .npy or .npz file of tokens"
    )


def read_data(path: Path, n: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """n training images without replacement, int64 [n, 3072], and the data's name.

    Raises:
        ValueError: as ``image_files.read_images``.
    """
    files = open_images(path)
    rows = torch.randperm(files.train.count, generator=generator, device=generator.device)[:n]
    return files.train.tokens(rows.tolist()).to(generator.device).long(), files.name


TASK = Task(
    name="images",
    length=LENGTH,
    symbols=SYMBOLS,
    sample_data=no_data,
    metric=smoothness_error,
    metric_name="error of the difference of neighbouring pixels",
    show=show,
    pixels=PIXELS,
    read_given=read_given,
    given_name="Known pixels (transparent ones are free)",
    given_suffixes=(".png",),
    read_data=read_data,
)
