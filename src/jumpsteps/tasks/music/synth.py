r"""Melodies as sound: additive synthesis of a plucked string, written to WAV files.

A run of equal pitches is one note, unless it is known where further ones begin (symbols:
``melody``). A note of frequency
f = 440 · 2^{(pitch - 69)/12} Hz has the waveform

.. math:: e(t) \sum_{h=1}^{H} \frac{1}{h} e^{-h d t} \sin(2 \pi h f t),
          \quad d = 1.2 \sqrt{f / 440} \text{ per second},

in which overtones decay before their fundamental and high notes before low ones, as on a piano. The
envelope e rises smoothly at the start and falls smoothly at the end of every note, so that there
are no clicks. H is the number of harmonics below half the sample rate, at most ``HARMONICS``.
"""

import math
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.files import replacing
from jumpsteps.tasks.music.melody import REST, STEPS_PER_BEAT, check_melody, notes

__all__ = ["RATE", "render", "write_wav"]

RATE = 44_100
"""Samples per second. Half of it exceeds the highest of the 128 pitches (12,544 Hz)."""
HARMONICS = 8
ATTACK, RELEASE = 0.005, 0.03
"""Rise and fall of a note in seconds; at most half of the note each."""
LEVEL = 0.8
"""Largest amplitude of a melody, relative to full scale."""


def write_wav(
    path: Path | str, tokens: Tensor, *, tempo: float = 120.0, onsets: Tensor | None = None
) -> None:
    """Write the sound of a melody to a WAV file: mono, 16 bit, ``RATE`` samples per second.

    Raises:
        ValueError: as for ``render``.
    """
    sound = np.rint(render(tokens, tempo=tempo, onsets=onsets) * (2**15 - 1)).astype("<i2")
    with replacing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.tobytes())


def render(
    tokens: Tensor, *, tempo: float = 120.0, rate: int = RATE, onsets: Tensor | None = None
) -> NDArray[np.float64]:
    """The sound of a melody.

    Args:
        tokens: int64 [n], symbols 0..128, ``STEPS_PER_BEAT`` to a beat.
        tempo: beats per minute.
        rate: samples per second. Pitches above half of it are silent.
        onsets: bool [n], where further notes begin within runs of equal pitches.

    Returns:
        float64 [round(n · 60 / tempo / STEPS_PER_BEAT · rate)]. The largest absolute value is
        ``LEVEL``; a melody of rests is 0 throughout.

    Raises:
        ValueError: invalid tokens, or a tempo outside 4..1000.
    """
    check_melody(tokens)
    if not 4 <= tempo <= 1000:
        raise ValueError(f"the tempo must be 4..1000 beats per minute, got {tempo}")
    # Every edge is rounded separately, so that rounding errors do not accumulate.
    edges = np.rint(np.arange(len(tokens) + 1) * (60 * rate / (STEPS_PER_BEAT * tempo))).astype(
        np.int64
    )
    sound = np.zeros(edges[-1])
    for start, stop, pitch in notes(tokens, onsets):
        if pitch != REST:
            sound[edges[start] : edges[stop]] = tone(pitch, int(edges[stop] - edges[start]), rate)
    loudest = np.abs(sound).max()
    return sound * (LEVEL / loudest) if loudest > 0 else sound


def tone(pitch: int, samples: int, rate: int) -> NDArray[np.float64]:
    """One note, float64 [samples]."""
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    decay = 1.2 * math.sqrt(frequency / 440)
    # With z = exp((-d + 2 pi i f) t) the sum is the imaginary part of a polynomial in z.
    z = np.exp(np.arange(samples) * ((-decay + 2j * math.pi * frequency) / rate))
    harmonics = min(HARMONICS, int(rate / 2 / frequency))
    return np.polyval([*(1 / h for h in range(harmonics, 0, -1)), 0], z).imag * envelope(
        samples, rate
    )


def envelope(samples: int, rate: int) -> NDArray[np.float64]:
    """A squared-sine rise and fall with 1 between, float64 [samples]; 0 at both ends."""
    level = np.ones(samples)
    for seconds, side in ((ATTACK, level), (RELEASE, level[::-1])):
        ramp = min(round(seconds * rate), samples // 2)
        side[:ramp] = np.sin(0.5 * math.pi * np.arange(ramp) / ramp) ** 2
    return level
