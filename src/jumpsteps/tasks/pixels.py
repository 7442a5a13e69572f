"""Sequences that are images: pictures of samples, in files and on pages."""

import base64
import struct
import zlib
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.core.files import replacing
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.page.films import generic_gallery
from jumpsteps.evaluation.page.svg import element

__all__ = ["Pixels", "png"]

BRIGHTEST = 255


@dataclass(frozen=True)
class Pixels:
    """How a sequence holds an image: intensities channel by channel and row by row, int64 [L] with
    L = channels x height x width, so that ``tokens.view(channels, height, width)`` is the image.

    Attributes:
        channels: 1 (grey) or 3 (red, green, blue).
        height: rows of pixels.
        width: columns of pixels.
        levels: number of intensities, from 0 (dark) to levels - 1.

    Raises:
        ValueError: other channels, no pixels, or fewer than two levels.
    """

    channels: int
    height: int
    width: int
    levels: int = BRIGHTEST + 1

    def __post_init__(self) -> None:
        sizes = (self.channels, self.height, self.width, self.levels - 1)
        whole = all(isinstance(size, int) and size > 0 for size in sizes)
        if not whole or self.channels not in (1, 3):
            raise ValueError(
                f"pixels have 1 or 3 channels, a height, a width and two levels or more, got {self}"
            )

    @property
    def length(self) -> int:
        """The length L of a sequence."""
        return self.channels * self.height * self.width

    def grid(self, samples: Tensor) -> Tensor:
        """Images side by side in rows, as square as possible; unused places are black.

        int64 [n, L] -> uint8 [height x rows, width x columns, 3].
        """
        columns = ceil(sqrt(len(samples)))
        rows = -(-len(samples) // columns)
        shape = (self.channels, self.height, self.width)
        places = torch.zeros(rows * columns, 3, self.height, self.width, dtype=torch.uint8)
        light = (samples.cpu().double() * (BRIGHTEST / (self.levels - 1))).round().to(torch.uint8)
        places[: len(samples)] = light.view(-1, *shape)  # A grey channel is all three.
        return (
            places.view(rows, columns, 3, self.height, self.width)
            .permute(0, 3, 1, 4, 2)
            .reshape(rows * self.height, columns * self.width, 3)
        )

    def write(self, path: Path, sample: Tensor, observed: Tensor | None = None) -> None:
        """Write one image, int64 [L], to the file path + ".png"."""
        self.write_all(path, sample[None])

    def write_all(self, path: Path, samples: Tensor) -> None:
        """Write images, int64 [n, L], side by side to the file path + ".png"."""
        with replacing(path.with_name(path.name + ".png")) as temporary:
            temporary.write_bytes(png(self.grid(samples)))

    def gallery(self, examples: Examples, steps: int) -> tuple[str, str]:
        """The samples side by side; of another length, as numbers (``films.Gallery``)."""
        if len(examples.tokens[0]) != self.length:
            return generic_gallery(examples, steps)
        pixels = self.grid(torch.tensor(examples.tokens))
        picture = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
        height, width = pixels.shape[:2]
        alt = f"{len(examples.tokens)} images"
        return element("img", src=picture, alt=alt, class_="pixels", width=width, height=height), ""


def png(pixels: Tensor) -> bytes:
    """A PNG file of uint8 [height, width, 3] (ISO/IEC 15948), without filters."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.numpy().tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
