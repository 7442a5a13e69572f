"""Galleries: how a report shows samples of each task.

A gallery turns a few samples of one schedule into the HTML of one panel and a note on it
(``evaluation.page.films.Gallery``).
"""

import base64
import io
import struct
import wave
import zlib

import numpy as np
import torch
from torch import Tensor

from jumpsteps.evaluation.examples import GIVEN_SITE, Examples
from jumpsteps.evaluation.page.films import Gallery, cells, class_of_step, generic_gallery
from jumpsteps.evaluation.page.svg import element, figure
from jumpsteps.tasks.countdown import broken
from jumpsteps.tasks.images import LENGTH, grid
from jumpsteps.tasks.music.melody import REST, STEPS_PER_BAR, runs
from jumpsteps.tasks.music.synth import render

__all__ = ["GALLERIES", "countdown_gallery", "image_gallery", "piano_gallery"]

SOUND_RATE = 11_025
"""Samples per second of the sound in a report, a quarter of that of files."""


def countdown_gallery(examples: Examples, steps: int) -> tuple[str, str]:
    """The first sample as a grid of numbers; both sites of a broken pair are marked."""
    tokens = torch.tensor(examples.tokens[0])
    pairs = broken(tokens[None])[0]
    wrong = torch.zeros(len(tokens), dtype=torch.bool)
    wrong[:-1] |= pairs
    wrong[1:] |= pairs
    texts = [str(token) for token in examples.tokens[0]]
    count = int(pairs.sum())
    note = f"{count} of {len(pairs)} pairs broken" if count else "no pair broken"
    return cells(examples.steps[0], steps, texts, wrong.tolist()), note


def image_gallery(examples: Examples, steps: int) -> tuple[str, str]:
    """The samples side by side; of another task of this name, as numbers."""
    if len(examples.tokens[0]) != LENGTH:
        return generic_gallery(examples, steps)
    pixels = grid(torch.tensor(examples.tokens))
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


def piano_gallery(examples: Examples, steps: int) -> tuple[str, str]:
    """The first sample as a piano roll, each note in the colour of its last step, with sound."""
    tokens, own = torch.tensor(examples.tokens[0]), torch.tensor(examples.steps[0])
    sound = base64.b64encode(wav(tokens)).decode()
    player = element("audio", "", controls="", preload="none", src=f"data:audio/wav;base64,{sound}")
    note = "given bars in grey" if bool((own == GIVEN_SITE).any()) else ""
    return roll(tokens, own, steps) + player, note


def wav(tokens: Tensor) -> bytes:
    """The sound of a melody as a WAV file: mono, 16 bit, ``SOUND_RATE`` samples per second."""
    sound = np.rint(render(tokens, rate=SOUND_RATE) * (2**15 - 1)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SOUND_RATE)
        out.writeframes(sound.tobytes())
    return file.getvalue()


def roll(tokens: Tensor, own: Tensor, steps: int) -> str:
    """Time to the right, pitch upwards; a note held over several steps is cut into its parts."""
    sounding = tokens[tokens != REST]
    low, high = (int(sounding.min()), int(sounding.max())) if len(sounding) else (60, 72)
    width, height = 480.0, 170.0
    across, up = width / len(tokens), height / (high - low + 3)
    drawn = [
        element("line", class_="grid", x1=bar * across, x2=bar * across, y1=0, y2=height)
        for bar in range(0, len(tokens), STEPS_PER_BAR)
    ]
    for start, stop, value in runs(tokens * (steps + 2) + own + 1):
        pitch, step = value // (steps + 2), value % (steps + 2) - 1
        if pitch != REST:
            drawn.append(
                element(
                    "rect",
                    class_=f"note {class_of_step(step, steps)}",
                    data_s=max(step, 0),
                    x=start * across,
                    y=(high + 1 - pitch) * up,
                    width=(stop - start) * across,
                    height=max(up, 4.0),
                )
            )
    return figure("".join(drawn), "piano roll", width, height)


GALLERIES: dict[str, Gallery] = {
    "countdown": countdown_gallery,
    "piano": piano_gallery,
    "images": image_gallery,
}
"""By the name of the task."""
