"""Galleries: how a report shows samples of each task.

A gallery turns a few samples of one schedule into the HTML of one panel and a note on it
(``evaluation.page.films.Gallery``).
"""

import base64
import io
import wave
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jumpsteps.evaluation.examples import GIVEN_SITE, Examples
from jumpsteps.evaluation.page.films import Gallery, cells, class_of_step, generic_gallery
from jumpsteps.evaluation.page.svg import element, figure
from jumpsteps.tasks.countdown import broken
from jumpsteps.tasks.music.melody import REST, STEPS_PER_BAR, runs
from jumpsteps.tasks.music.synth import render
from jumpsteps.tasks.pixels import Pixels
from jumpsteps.tasks.task import Task

__all__ = ["GALLERIES", "countdown_gallery", "gallery_facts", "gallery_of", "piano_gallery"]

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


GALLERIES: dict[str, Gallery] = {"countdown": countdown_gallery, "piano-roll": piano_gallery}
"""By the names that tasks say."""

OF_TASKS = {"countdown": "countdown", "piano": "piano-roll"}
"""Names of galleries by task, for files of results that do not say theirs."""


def gallery_facts(task: Task | None) -> dict[str, Any]:
    """What a file of results says of the task, so that ``gallery_of`` finds its gallery, as JSON.

    Args:
        task: None for none.

    Raises:
        ValueError: the task names an unknown gallery.
    """
    if task is None:
        return {"task": None}
    if task.gallery is not None and task.gallery not in GALLERIES:
        raise ValueError(
            f"the task {task.name} has gallery={task.gallery!r}; choose {', '.join(GALLERIES)}, or "
            "leave it out"
        )
    facts: dict[str, Any] = {"task": task.name, "gallery": task.gallery}
    return facts if task.pixels is None else facts | {"pixels": asdict(task.pixels)}


def gallery_of(about: Mapping[str, Any]) -> Gallery:
    """How samples of a task are shown: as images where it has pixels, by the gallery that it names,
    or as numbers.

    Args:
        about: has ``gallery_facts``; what is damaged of them is left out.
    """
    try:
        return Pixels(**about["pixels"]).gallery
    except (KeyError, TypeError, ValueError):
        named = about["gallery"] if "gallery" in about else OF_TASKS.get(str(about.get("task")))
        return GALLERIES.get(str(named), generic_gallery)
