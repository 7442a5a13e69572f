"""MIDI files: read from bytes of ``builders.midi``, and written and parsed without mido."""

import struct
import sys

import numpy as np
import pytest
import torch

from builders.midi import midi, note, signature, tempo, track
from builders.statistics import seeded
from jumpsteps.tasks.music.melody import REST
from jumpsteps.tasks.music.midi import LONGEST, quantise, read_steps, read_track, write_steps


def runs(path):
    """Notes (start, end, pitch), tempo and last tick of a file of one track, parsed here."""
    content = path.read_bytes()
    assert content[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    at, now, status, held, notes, pace = 22, 0, None, {}, [], None
    while at < len(content):
        delta = 0
        while content[at] & 128:
            delta, at = delta << 7 | content[at] & 127, at + 1
        now, at = now + (delta << 7 | content[at]), at + 1
        if content[at] == 0xFF:
            kind, size = content[at + 1 : at + 3]
            if kind == 0x51:
                pace = int.from_bytes(content[at + 3 : at + 6])
            at += 3 + size
            continue
        if content[at] & 128:
            status, at = content[at], at + 1
        if status & 0xF0 == 0xC0:
            at += 1
            continue
        pitch, at = content[at], at + 2
        if status == 0x90:
            held[pitch] = now
        else:
            notes.append((held.pop(pitch), now, pitch))
    return notes, pace, now


def test_notes_become_sixteenths():
    """120 ticks per sixteenth: ends are rounded; a note of 30 ticks is kept where it starts."""
    content = midi(track(*note(10, 230, 60), *note(250, 410, 62), *note(600, 630, 64), at=960))
    found = read_steps(content)
    assert found.tokens.dtype == torch.int64
    assert found.tokens.tolist() == [60, 60, 62, REST, REST, 64, REST, REST]
    assert (found.polyphonic, found.track, found.beats_per_minute) == (0, "", 120)
    assert read_steps(
        midi(track(*note(5, 115, 60), *note(125, 235, 62), at=480), ticks=240)
    ).tokens.tolist() == [
        *[60, 60, 62, 62],
        *[REST] * 4,
    ]


def test_short_notes_give_way_to_others():
    """A grace note of 40 ticks before a note, in a note, and where nothing sounds."""
    pitches = read_steps(
        midi(
            track(
                *note(100, 140, 90), *note(140, 360, 60), *note(190, 230, 90), *note(490, 530, 90)
            )
        )
    ).tokens
    assert pitches.tolist() == [REST, 60, 60, REST, 90]


def test_the_highest_of_several_pitches_is_kept_and_they_are_counted(tmp_path):
    content = midi(
        track(
            *note(0, 480, 60),
            *note(120, 360, 67),
            *note(120, 240, 64),
            *note(240, 480, 55, channel=3),
            name="Lead",
        )
    )
    found = read_steps(content)
    assert found.tokens.tolist() == [60, 67, 67, 60]
    assert found.polyphonic == 3
    (tmp_path / "chords.mid").write_bytes(content)
    with pytest.raises(
        ValueError,
        match=r"chords.mid: several pitches sound at once in 3 sixteenths of track 'Lead'; pass a",
    ):
        read_steps(tmp_path / "chords.mid", monophonic=True)
    one = midi(
        track(*note(0, 240, 60), *note(120, 480, 60))
    )  # the same pitch twice at once is one pitch
    assert read_steps(one, monophonic=True).tokens.tolist() == [60] * 4


def test_ways_to_end_a_note():
    """A note-on of velocity 0 ends a note; a note that never ends lasts as long as its track."""
    silenced = (240, bytes([0x90, 60, 0]))
    content = midi(track(note(0, 0, 60)[0], silenced, note(360, 0, 62)[0], at=600))
    assert read_steps(content).tokens.tolist() == [60, 60, REST, 62, 62]


MANY = midi(
    track(tempo(0, 400_000), name="tempo"),
    track(*note(0, 480, 35, channel=9), name="drums"),
    track(*note(0, 120, 50), name="Bass"),
    track(*note(0, 120, 70), name=" Melody ", at=720),
    track(name="silent"),
)


def test_tracks_are_chosen_by_name_or_the_first_with_notes():
    assert read_steps(MANY).track == "Bass"
    found = read_steps(MANY, "MELODY")
    assert found.tokens.tolist() == [70, *[REST] * 5]  # the file's length, not the track's
    assert (found.track, found.beats_per_minute) == ("Melody", 150)
    for name, message in [
        (
            "lead",
            r"has no track 'lead'; its tracks: 'tempo', 'drums', 'Bass', 'Melody', 'silent'",
        ),
        ("silent", "no notes in track 'silent'"),
        ("drums", "no notes in track 'drums'"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_steps(MANY, name)
    with pytest.raises(ValueError, match="no track 'lead'; its tracks: none with a name"):
        read_steps(midi(track(*note(0, 120, 50))), "lead")


def test_time_in_seconds_follows_the_tempos():
    """120, 60 from beat 2 and 240 from beat 3: beats of 0.5, 0.5, 1 and 0.25 seconds."""
    slow, fast = tempo(960, 1_000_000), tempo(1440, 250_000)
    read = read_track(
        midi(
            track(slow), track(*note(960, 1920, 60), fast, signature(0, 3, 2), signature(960, 6, 3))
        )
    )
    assert read.ticks_at(np.array([0, 0.5, 1, 1.5, 2, 2.25, 2.5, -0.5])).tolist() == [
        0,
        480,
        960,
        1200,
        1440,
        1920,
        2400,
        -480,
    ]
    assert read.beats_per_minute == 60
    assert read.signatures == ((3, 4), (6, 8))
    none = read_track(midi(track(tempo(0, 0), *note(0, 480, 60))))
    assert (none.beats_per_minute, none.signatures) == (120, ())


def test_written_files_hold_one_note_for_each_run(tmp_path):
    write_steps(
        tmp_path / "x.mid",
        torch.tensor([REST, 60, 60, 60, 0, REST, REST, 127, REST]),
        beats_per_minute=60,
        program=11,
    )
    notes, pace, end = runs(tmp_path / "x.mid")
    assert notes == [(120, 480, 60), (480, 600, 0), (840, 960, 127)]
    assert (pace, end) == (1_000_000, 1080)
    assert bytes([0xC0, 11]) in (tmp_path / "x.mid").read_bytes()


@pytest.mark.parametrize("seed", range(5))
def test_tokens_come_back_as_they_were(tmp_path, seed):
    generator = seeded(seed)
    lengths = torch.randint(1, 9, (60,), generator=generator)
    tokens = torch.randint(REST + 1, (60,), generator=generator).repeat_interleave(lengths)
    tokens[torch.rand(len(tokens), generator=generator) < 0.3] = REST
    tokens[-3:] = REST
    write_steps(tmp_path / "x.mid", tokens, beats_per_minute=90 + seed)
    found = read_steps(tmp_path / "x.mid", "melody", least=len(tokens), monophonic=True)
    assert torch.equal(found.tokens, tokens)
    assert found.beats_per_minute == pytest.approx(90 + seed, abs=1e-3)
    with pytest.raises(
        ValueError,
        match=rf"has {len(tokens)} sixteenths, {len(tokens) + 1} are needed; pass a longer file",
    ):
        read_steps(tmp_path / "x.mid", least=len(tokens) + 1)


def test_a_sequence_of_rests_has_no_notes(tmp_path):
    write_steps(tmp_path / "x.mid", torch.full((8,), REST))
    with pytest.raises(
        ValueError, match=r"x.mid has no notes \(drums are not counted\); pass a file with a melody"
    ):
        read_steps(tmp_path / "x.mid")


GOOD = midi(track(*note(0, 120, 60)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.mid is empty"),
        (b"nonsense", r"x.mid is not a MIDI file that can be read \(.*\); export it again"),
        (GOOD[:-9], r"is not a MIDI file that can be read"),
        (
            GOOD.replace(bytes([0x90, 60]), bytes([0x90, 200])),
            r"is not a MIDI file that can be read",
        ),
        (midi(track()), "has no notes"),
        (midi(), "has no notes"),
        (midi(track(*note(0, 120, 60)), ticks=-6360), "counts time in SMPTE frames"),
        (
            midi(track(*note(0, 120, 60), at=120 * (LONGEST + 1))),
            rf"lasts {LONGEST + 1} sixteenths, at most {LONGEST} are read",
        ),
    ],
)
def test_files_that_give_no_sixteenths(tmp_path, content, message):
    (tmp_path / "x.mid").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_steps(tmp_path / "x.mid")
    assert "\n" not in str(caught.value)


def test_files_cut_or_damaged_anywhere_are_one_line_or_read():
    """Every cut, and every byte changed in two ways: one-line ValueError, or valid tokens."""
    content = midi(track(*note(0, 120, 60), tempo(0, 500_000), *note(120, 360, 62), name="M"))
    damaged = [content[:i] for i in range(len(content))]
    damaged += [
        content[:i] + bytes([content[i] ^ bits]) + content[i + 1 :]
        for i in range(len(content))
        for bits in (0x80, 0x3F)
    ]
    outcomes = [outcome(each) for each in damaged]
    errors = [each for each in outcomes if isinstance(each, str)]
    assert not [error for error in errors if "\n" in error]
    assert all(
        ((each >= 0) & (each <= REST)).all() for each in outcomes if not isinstance(each, str)
    )
    assert len(content) <= len(errors) < len(damaged)


def outcome(content):
    """The tokens, or the message."""
    try:
        return read_steps(content).tokens
    except ValueError as error:
        return str(error)


def test_no_file_and_no_library(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"there is no file .*none.mid; pass a MIDI file"):
        read_steps(tmp_path / "none.mid")
    with pytest.raises(ValueError, match="is a folder; pass a MIDI file"):
        read_steps(tmp_path)
    monkeypatch.setitem(sys.modules, "mido", None)
    for call in (
        lambda: read_steps(GOOD),
        lambda: write_steps(tmp_path / "x.mid", torch.tensor([60])),
    ):
        with pytest.raises(
            ValueError, match=r"MIDI files need mido: pip install 'jumpsteps\[music\]'"
        ):
            call()


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([60, 129], {}, "the symbols are 60..129; pitches are 0..127 and a rest is 128"),
        ([-1, 60], {}, "the symbols are -1..60"),
        ([[60]], {}, r"a melody is int64 \[n\], one sequence of symbols, got torch.int64 \[1, 1\]"),
        ([], {}, "a melody is int64"),
        ([60.0], {}, r"got torch.float32 \[1\]"),
        ([60], {"beats_per_minute": 3}, "the tempo must be 4..1000 beats per minute, got 3"),
        ([60], {"beats_per_minute": float("nan")}, "the tempo must be"),
        ([60], {"program": 128}, "the programme must be 0..127, got 128"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path, tokens, options, message):
    with pytest.raises(ValueError, match=message):
        write_steps(tmp_path / "x.mid", torch.tensor(tokens), **options)
    assert not list(tmp_path.iterdir())


def test_notes_after_the_length_add_to_it():
    tokens, several = quantise(np.array([0.4, 3.6]), np.array([1.6, 5.4]), np.array([60, 62]), 2)
    assert tokens.tolist() == [60, 60, REST, REST, 62]
    assert several.tolist() == [False] * 5
    assert quantise(np.zeros(0), np.zeros(0), np.zeros(0, int), 3)[0].tolist() == [REST] * 3
