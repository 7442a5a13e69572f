"""Piano rolls read off the figure; melodies written as picture, MIDI and sound."""

import sys
import wave

import pytest
import torch
from matplotlib.colors import to_hex

from jumpsteps.tasks.music import piano_roll as piano_roll
from jumpsteps.tasks.music.melody import note_name
from jumpsteps.tasks.music.midi import read_steps
from jumpsteps.tasks.music.piano_roll import plot_rolls
from jumpsteps.tasks.music.song import write_song

MELODY = torch.tensor([60] * 12 + [128] * 12 + [67] * 12 + [64] * 4 + [128] * 8)  # three bars
GIVEN = torch.arange(48) < 32


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, in place of files."""
    figures = []
    monkeypatch.setattr(piano_roll, "write", lambda figure, path: figures.append(figure))
    return figures


def notes(axes):
    """(start, length, pitch, colour) of every bar of the picture."""
    bars = [bar for container in axes.containers for bar in container]
    return [
        (
            bar.get_x(),
            bar.get_width(),
            bar.get_y() + bar.get_height() / 2,
            to_hex(bar.get_facecolor()),
        )
        for bar in bars
    ]


def test_pitches_by_name():
    assert [note_name(pitch) for pitch in (0, 21, 60, 61, 69, 127)] == [
        "C-1",
        "A0",
        "C4",
        "C#4",
        "A4",
        "G9",
    ]


def test_notes_are_where_they_sound_and_change_colour_where_the_given_sites_end(drawn):
    plot_rolls("x.png", {"one": MELODY, "two": torch.full((48,), 128)}, given=GIVEN)
    one, two = drawn[0].axes
    known, made = "#444444", "#4477aa"
    assert notes(one) == [
        (0, 12, 60, known),
        (24, 8, 67, known),
        (32, 4, 67, made),
        (36, 4, 64, made),
    ]
    assert notes(two) == []
    assert [axes.get_title(loc="left") for axes in (one, two)] == ["one", "two"]
    assert one.get_ylim() == two.get_ylim()
    assert [tick.get_text() for tick in one.get_yticklabels()] == [
        "B3",
        "C4",
        "D4",
        "E4",
        "F4",
        "G4",
        "A4",
    ]
    plot_rolls("x.png", {"one": MELODY})
    assert {colour for *_, colour in notes(drawn[1].axes[0])} == {made}


def test_given_sites_are_shaded_and_labelled(drawn):
    mask = GIVEN.clone()
    mask[40:] = True
    plot_rolls("x.png", {"one": MELODY}, given=mask)
    (axes,) = drawn[0].axes
    shades = [
        (patch.get_x(), patch.get_width())
        for patch in axes.patches
        if patch.get_alpha() is not None
    ]
    assert shades == [(0, 32), (40, 8)]
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("given", 1)]
    plot_rolls("x.png", {"one": MELODY})
    assert not drawn[1].axes[0].texts


@pytest.mark.parametrize(
    ("steps", "labels"), [(256, range(1, 17)), (40, range(1, 4)), (640, range(1, 41, 2))]
)
def test_bars_are_counted_from_1_below_the_last_panel(drawn, steps, labels):
    plot_rolls("x.png", {"one": torch.full((steps,), 60)})
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_xticklabels(minor=True)] == [
        str(n) for n in labels
    ]
    assert axes.get_xticks().tolist() == list(range(0, steps, 16))
    assert axes.get_xlim() == (0, steps)
    assert axes.get_xlabel() == "bar"
    if steps == 40:
        assert axes.get_xticks(minor=True).tolist() == [
            8,
            24,
            36,
        ]  # half a bar has its number in its middle


@pytest.mark.parametrize(
    ("pitches", "labels"),
    [
        ((60, 60), ["G3", "A3", "B3", "C4", "D4", "E4", "F4"]),
        ((48, 72), ["C3", "E3", "G3", "C4", "E4", "G4", "C5"]),
        ((0, 127), [f"C{octave}" for octave in range(-1, 10)]),
    ],
)
def test_fewer_notes_are_named_where_more_pitches_are_shown(drawn, pitches, labels):
    plot_rolls("x.png", {"one": torch.tensor(pitches)})
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == labels
    low, high = axes.get_ylim()
    assert low <= min(pitches) - 0.5
    assert high >= max(pitches) + 0.5
    assert high - low >= 12
    assert all(bar[2] in pitches for bar in notes(axes))


def test_a_picture_is_written(tmp_path):
    plot_rolls(tmp_path / "x.png", {"one": MELODY}, given=GIVEN)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("melodies", "given", "message"),
    [
        ({}, None, "there are no melodies to draw"),
        ({"x": torch.tensor([129])}, None, r"the symbols are 129..129"),
        (
            {"x": MELODY},
            GIVEN[:40],
            r"given sites are bool \[48\], one for each symbol, got torch.bool \[40\]",
        ),
        ({"x": MELODY}, GIVEN.long(), r"got torch.int64 \[48\]"),
    ],
)
def test_mistakes_are_refused_and_leave_nothing(tmp_path, melodies, given, message):
    with pytest.raises(ValueError, match=message):
        plot_rolls(tmp_path / "x.png", melodies, given=given)
    assert not any(tmp_path.iterdir())


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'jumpsteps\[plots\]'"):
        plot_rolls(tmp_path / "x.png", {"one": MELODY})
    assert not any(tmp_path.iterdir())


def test_a_song_is_a_picture_a_midi_file_and_a_sound(tmp_path):
    write_song(tmp_path / "a.b", MELODY, GIVEN, tempo=90)
    assert {path.name for path in tmp_path.iterdir()} == {"a.b.png", "a.b.mid", "a.b.wav"}
    read = read_steps(tmp_path / "a.b.mid")
    assert torch.equal(read.tokens, MELODY)
    assert read.beats_per_minute == pytest.approx(90, abs=1e-3)
    with wave.open(str(tmp_path / "a.b.wav")) as file:
        assert file.getnframes() == 48 * 60 * 44_100 // (4 * 90)
    assert (tmp_path / "a.b.png").read_bytes().startswith(b"\x89PNG")
    write_song(tmp_path / "c", MELODY)
    assert read_steps(tmp_path / "c.mid").beats_per_minute == 120
