"""The task piano: data sets of tiny MIDI files, arrays, and metrics worked out by hand."""

import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.midi import midi, note, signature, tempo, track
from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.cli.main import main
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.schedules.files import load_schedules
from jumpsteps.tasks import TASKS
from jumpsteps.tasks.music.dataset import MidiOptions, PianoData, read_arrays, read_midi
from jumpsteps.tasks.music.given_melody import read_melody
from jumpsteps.tasks.music.melody import REST
from jumpsteps.tasks.music.midi import read_steps, write_steps
from jumpsteps.tasks.music.midi_corpus import is_test
from jumpsteps.tasks.piano import (
    given_bars,
    ngram_overlap,
    note_distance,
    note_outliers,
    notes_in_key,
    show,
    similarity,
)
from jumpsteps.training.recipes import RECIPES

TRAIN, TEST = (
    [name for name in (f"{i:03d}" for i in range(60)) if is_test(name, 0.25) == part]
    for part in (False, True)
)
OPTIONS = MidiOptions(hop=2, test_hop=16, test_share=0.25)


def melody(bars, seed=0, rest=0.1):
    """Bars of eighths, int64 [bars, 16], none of which is a rest in the first bar."""
    generator = seeded(seed)
    eighths = torch.randint(55, 80, (bars, 8), generator=generator)
    eighths[1:][torch.rand(bars - 1, 8, generator=generator) < rest] = REST
    return eighths.repeat_interleave(2, dim=1).numpy()


def notes_of(bars, at=0, ticks=480):
    """The bars as notes: an eighth each, from tick ``at`` on."""
    eighth = ticks // 2
    pitches = enumerate(bars.reshape(-1)[::2].tolist())
    return [
        event
        for i, p in pitches
        if p != REST
        for event in note(at + i * eighth, at + (i + 1) * eighth, p)
    ]


def plain(bars, *extra, name="MELODY"):
    """A song whose bars begin at tick 0, with a track of chords before the melody."""
    return midi(
        track(*extra, *note(0, 3840, 40), *note(0, 3840, 43)),
        track(*notes_of(bars), name=name, at=1920 * len(bars)),
    )


def beats(first, seconds, lengths):
    """A ``beat_midi.txt`` of bars of so many beats, one line for a beat."""
    lines, at = [], 0
    for length in lengths:
        for beat in range(length):
            lines.append(f"{first + at * seconds} {1.0 - beat % 2} {1.0 if beat == 0 else 0.0}")
            at += 1
    return "\n".join([*lines, f"{first + at * seconds} 1.0 1.0"]) + "\n"


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def rows(tokens):
    return [tuple(row) for row in tokens.tolist()]


def test_bars_begin_at_tick_0_where_no_beats_are_given(tmp_path):
    one, two = melody(20), melody(33, seed=1)
    data = read_midi(
        write(
            tmp_path,
            {f"{TRAIN[0]}.mid": plain(one), f"{TEST[0]}.midi": plain(two, signature(0, 4, 2))},
        ),
        OPTIONS,
    )
    assert (data.train.dtype, data.test.dtype) == (torch.uint8, torch.int64)
    assert rows(data.train) == [tuple(one[bar : bar + 16].reshape(-1)) for bar in (0, 2, 4)]
    assert rows(data.test) == [tuple(two[bar : bar + 16].reshape(-1)) for bar in (0, 16)]
    assert data.test_song.tolist() == [0, 0]
    assert (data.report.files, data.report.songs, dict(data.report.skipped)) == (2, (1, 1), {})
    assert (data.report.sixteenths, data.report.polyphonic) == (53 * 16, 0)


def test_beats_say_where_bars_begin(tmp_path):
    """POP909's layout: beats 100 ticks off, tempo change, a bar of two beats, wrong signatures."""
    bars = melody(40)
    at = 1000 + 100
    half = at + 18 * 1920  # a bar of two beats without notes comes after 18 bars
    notes = notes_of(bars[:18], at) + notes_of(bars[18:], half + 960)
    first = 1000 / 480 * 0.5 + 100 / 480 * 0.25
    song = midi(
        track(tempo(0, 500_000), tempo(1000, 250_000), signature(0, 1, 2)),
        track(*notes, name="MELODY"),
    )
    files = {
        f"songs/{TRAIN[0]}/{TRAIN[0]}.mid": song,
        f"songs/{TRAIN[0]}/beat_midi.txt": beats(first, 0.25, [4] * 18 + [2] + [4] * 22),
        f"songs/{TRAIN[0]}/versions/v1.mid": song,  # another version of a song is not another song
        f"songs/{TEST[0]}/{TEST[0]}.mid": plain(melody(16, seed=2)),
    }
    data = read_midi(write(tmp_path, files), OPTIONS)
    starts = [0, 2, 18, 20, 22, 24]
    assert rows(data.train) == [tuple(bars[bar : bar + 16].reshape(-1)) for bar in starts]
    assert data.report.files == 2


def test_the_report_counts_what_is_used(tmp_path):
    """Of 18 bars, a bar of two beats and 10 bars the last 10 are too few; all of these have chords,
    and three sixteenths of the others.
    """
    bars = melody(28, rest=0)
    late = 18 * 1920 + 960
    notes = notes_of(bars[:18]) + notes_of(bars[18:], late)
    chords = [*note(1920, 1920 + 3 * 120, 50), *note(late, late + 10 * 1920, 50)]
    files = {
        f"{TRAIN[0]}/{TRAIN[0]}.mid": midi(track(*notes, *chords, name="MELODY")),
        f"{TRAIN[0]}/beat_midi.txt": beats(0.0, 0.5, [4] * 18 + [2] + [4] * 10),
        f"{TEST[0]}/{TEST[0]}.mid": plain(melody(16, seed=2)),
    }
    report = read_midi(write(tmp_path, files), OPTIONS).report
    assert (report.sixteenths, report.polyphonic) == ((18 + 16) * 16, 3)
    assert "several pitches at once in 3 of 544 sixteenths" in str(report)


def test_notes_before_and_after_the_beats_are_left_out(tmp_path):
    bars = melody(18, rest=0)
    bars[1, :2] = bars[16, -2:] = (
        REST  # where notes would sound that were moved to the nearest beat
    )
    files = {
        f"{TRAIN[0]}/{TRAIN[0]}.mid": plain(bars),
        f"{TRAIN[0]}/beat_midi.txt": beats(2.0, 0.5, [4] * 16),  # from bar 1 to bar 16
        f"{TEST[0]}/{TEST[0]}.mid": plain(melody(16, seed=2)),
    }
    assert rows(read_midi(write(tmp_path, files), OPTIONS).train) == [tuple(bars[1:17].reshape(-1))]


def test_sequences_of_rests_are_left_out(tmp_path):
    """Two bars of rest are cut at the start; three inside begin no sequence; rests from bar 22."""
    bars = melody(40, rest=0)
    bars[[0, 1, 6, 7, 8, *range(22, 40)]] = REST
    options = MidiOptions(hop=1, test_hop=16, test_share=0.25)
    data = read_midi(
        write(tmp_path, {f"{TRAIN[0]}.mid": plain(bars), f"{TEST[0]}.mid": plain(melody(16))}),
        options,
    )
    kept = [
        bar
        for bar in range(2, 25)
        if (bars[bar : bar + 16] == REST).mean() <= 0.5 and bar not in (6, 7)
    ]
    assert kept == [2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14]
    assert rows(data.train) == [tuple(bars[bar : bar + 16].reshape(-1)) for bar in kept]


def skipped_songs():
    """Files that cannot be used, and why."""
    bars = melody(17)
    triplets = [event for i in range(150) for event in note(160 * i, 160 * i + 160, 60)]
    waltz = midi(
        track(
            *[event for i in range(96) for event in note(480 * i, 480 * i + 480, 60)], name="MELODY"
        )
    )
    return {
        "nonsense": (b"nonsense", None, "no melody"),
        "empty": (b"", None, "no melody"),
        "cut": (plain(bars)[:100], None, "no melody"),
        "unnamed": (plain(bars, name="LEAD"), None, "no melody"),
        "no-notes": (plain(bars[:0]), None, "no melody"),
        "short": (plain(melody(15)), None, "fewer than 16 bars of 4/4 in a row"),
        "rests": (
            plain(np.where(np.arange(17)[:, None] < 9, REST, bars)),
            None,
            "fewer than 16 bars of 4/4 in a row",
        ),
        "silence": (
            plain(np.where(np.arange(17)[:, None] % 5 > 0, REST, bars)),
            None,
            "mostly rests",
        ),
        "three-four": (plain(bars, signature(3840, 3, 2)), None, "not in 4/4"),
        "waltz": (waltz, beats(0, 0.5, [3] * 32), "not in 4/4"),
        "triplets": (midi(track(*triplets, name="MELODY")), None, "notes are not on sixteenths"),
        "elsewhere": (plain(bars), beats(60, 0.5, [4] * 17), "notes are not on sixteenths"),
        "words": (plain(bars), "one two three\n", "no beats"),
        "ragged": (plain(bars), "0 1 1\n1 0\n", "no beats"),
        "blank": (plain(bars), "", "no beats"),
        "still": (plain(bars), "0 1 1\n0 0 0\n1 1 1\n", "no beats"),
        "endless": (plain(bars), beats(0, 0.5, [4] * 17) + "inf 1 1\n", "no beats"),
        "latin": (plain(bars), b"\xff\xfe", "no beats"),
    }


def test_songs_that_cannot_be_used_are_skipped_and_counted(tmp_path):
    bad = skipped_songs()
    files = {f"{name}/{name}.mid": plain(melody(17, seed=2)) for name in (TRAIN[0], TEST[0])}
    for name, (song, text, _) in bad.items():
        files |= {f"{name}/{name}.mid": song} | (
            {} if text is None else {f"{name}/beat_midi.txt": text}
        )
    data = read_midi(write(tmp_path, files), OPTIONS)
    kinds = {
        name.split("/")[0]: reason.split(":")[0] for name, reason in data.report.skipped.items()
    }
    assert kinds == {name: reason for name, (_, _, reason) in bad.items()}
    assert (data.report.files, data.report.songs) == (2 + len(bad), (1, 1))
    assert not [reason for reason in data.report.skipped.values() if "\n" in reason]
    assert data.report.reasons()["no melody"] == 5
    assert "skipped 2: fewer than 16 bars of 4/4 in a row" in str(data.report)


def test_zip_and_folder_hold_the_same_data(tmp_path):
    files = {
        f"{name}/{name}.mid": plain(melody(20, seed=int(name))) for name in TRAIN[:4] + TEST[:3]
    }
    folder = write(tmp_path / "songs", files)
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        for name, content in reversed(files.items()):
            archive.writestr(f"top/{name}", content)
    one, two = read_midi(folder, OPTIONS), read_midi(tmp_path / "songs.zip", OPTIONS)
    assert torch.equal(one.train, two.train)
    assert torch.equal(one.test, two.test)
    assert one.test_song.tolist() == [0, 1, 2]
    assert one.name.startswith("songs sha256:")
    assert two.name == one.name.replace("songs", "songs.zip")
    content = torch.cat([one.train, one.test]).to(torch.uint8).numpy().tobytes()
    assert one.name == f"songs sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_damaged_member_of_a_zip_is_skipped(tmp_path):
    names = [TRAIN[0], TRAIN[1], TEST[0]]
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        for name in names:
            archive.writestr(f"{name}.mid", plain(melody(16)))
    content = bytearray((tmp_path / "songs.zip").read_bytes())
    content[content.index(b"MTrk")] ^= 1  # in the first member, whose checksum is wrong now
    (tmp_path / "songs.zip").write_bytes(content)
    data = read_midi(tmp_path / "songs.zip", OPTIONS)
    assert data.report.songs == (1, 1)
    ((name, reason),) = data.report.skipped.items()
    assert name == f"{TRAIN[0]}.mid"
    assert reason.startswith("cannot be unpacked: Bad CRC")


def test_songs_are_split_by_name():
    names = [f"song {i}" for i in range(4000)]
    small, large = ([is_test(name, share) for name in names] for share in (0.1, 0.3))
    assert 0.08 < sum(small) / len(names) < 0.12
    assert all(b for a, b in zip(small, large, strict=True) if a)
    assert is_test("001", 1.0)
    assert not is_test("001", 0.0)
    assert [name for name in ("001", "011", "021", "031") if is_test(name, 0.5)] == [
        "001",
        "031",
    ]  # for ever


def test_folders_that_give_no_data(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x")
    only = write(tmp_path / "only", {f"{TRAIN[0]}.mid": plain(melody(16)), "bad.mid": b""})
    for path, message in [
        (tmp_path / "none", "there is no folder or zip .*none; pass one of MIDI files"),
        (tmp_path / "x.txt", "x.txt is neither a folder nor a zip"),
        (tmp_path / "empty", r"there are no MIDI files \(.mid, .midi\) in .*empty; check the path"),
        (only, r"leaves songs 1 for training and 0 for testing; 2 files, .* skipped 1: no melody"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            read_midi(path, OPTIONS)
        assert "\n" not in str(caught.value)


def some_data(row, transpose=6):
    train = torch.tensor([row], dtype=torch.uint8)
    return PianoData(
        "x", train, train.to(torch.int64), torch.zeros(1, dtype=torch.int64), transpose
    )


@pytest.mark.parametrize(
    ("row", "low", "high"),
    [
        ([60, REST, 72], -6, 6),
        ([2, REST, 100], -2, 6),
        ([40, 124, REST], -6, 3),
        ([0, 127, REST], 0, 0),
        ([0, 60, 60], 0, 6),
    ],
)
def test_training_sequences_are_transposed_within_the_pitches(row, low, high):
    x = some_data(row).sample_data(4000, seeded(0))
    assert x.dtype == torch.int64
    sounds = torch.tensor(row) != REST
    assert (x[:, ~sounds] == REST).all()
    shifts = (x - torch.tensor(row))[:, sounds]
    assert (shifts == shifts[:, :1]).all()
    probs = torch.full((high - low + 1,), 1 / (high - low + 1), dtype=torch.float64)
    assert chi_square_p(shifts[:, 0] - low, probs) > LEVEL


def test_every_training_sequence_is_drawn():
    train = torch.arange(7, dtype=torch.uint8)[:, None].expand(7, 5) + 60
    data = PianoData("x", train, train.to(torch.int64), torch.arange(7), transpose=0).to("cpu")
    x = data.sample_data(5000, seeded(1))
    assert (x == x[:, :1]).all()
    assert chi_square_p(x[:, 0] - 60, torch.full((7,), 1 / 7, dtype=torch.float64)) > LEVEL
    assert torch.equal(data.sample_data(9, seeded(2)), data.sample_data(9, seeded(2)))
    assert (some_data([REST] * 4).sample_data(5, seeded(0)) == REST).all()


def arrays(folder, n=5, seed=0):
    generator = np.random.default_rng(seed)
    train, test = generator.integers(0, 129, (n, 256)), generator.integers(0, 129, (3, 256))
    np.save(folder / "train.npy", train)
    np.save(folder / "test.npy", test)
    return train, test


def test_data_are_read_as_they_were_saved(tmp_path):
    files = {f"{name}.mid": plain(melody(40, seed=int(name))) for name in TRAIN[:2] + TEST[:2]}
    data = read_midi(write(tmp_path / "songs", files), OPTIONS)
    data.save(tmp_path / "arrays")
    found = read_arrays(tmp_path / "arrays", transpose=3)
    for name in ("train", "test", "test_song"):
        assert torch.equal(getattr(found, name), getattr(data, name))
        assert getattr(found, name).dtype == getattr(data, name).dtype
    assert data.test_song.tolist() == [0, 0, 1, 1]
    assert found.name == data.name.replace("songs", "arrays")
    assert found.transpose == 3


def test_lakh_arrays_and_their_key(tmp_path):
    train, test = arrays(tmp_path)
    data = read_arrays(tmp_path)
    assert np.array_equal(data.train, train)
    assert np.array_equal(data.test, test)
    assert (data.test_song.tolist(), data.transpose, data.report) == ([0, 1, 2], 6, None)
    key = np.random.default_rng(1).permutation(129)
    np.savetxt(tmp_path / "descramble_key.txt", key)
    data = read_arrays(tmp_path)
    assert np.array_equal(data.train, key[train])
    assert np.array_equal(data.test, key[test])
    data = read_arrays(tmp_path, scrambled=True)
    assert np.array_equal(data.test, test)
    assert data.transpose == 0
    for content in ("0 1 2", "x", " ".join(["0"] * 129)):
        (tmp_path / "descramble_key.txt").write_text(content)
        with pytest.raises(
            ValueError, match=r"descramble_key.txt is not an order of the symbols 0\.\.128"
        ):
            read_arrays(tmp_path)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (np.full((2, 256), 129), r"test.npy holds symbols 129\.\.129; expected 0\.\.128"),
        (np.full((2, 256), -1), r"holds symbols -1\.\.-1"),
        (np.arange(2 * 256).reshape(2, 256) // 3, r"holds symbols 0\.\.170"),
        (np.zeros((2, 128), int), r"holds an array \[2, 128\]; expected \[n, 256\]"),
        (np.zeros((0, 256), int), r"holds an array \[0, 256\]"),
        (np.zeros((2, 256)), "is not a .npy file of integers"),
        (np.array([{}]), "is not a .npy file of integers"),
    ],
)
def test_arrays_that_are_no_sequences(tmp_path, test, message):
    arrays(tmp_path)
    np.save(tmp_path / "test.npy", test)
    with pytest.raises(ValueError, match=message):
        read_arrays(tmp_path)


def test_arrays_that_are_missing_or_do_not_fit(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"there is no file .*train.npy; expected train.npy and test.npy in the folder",
    ):
        read_arrays(tmp_path)
    arrays(tmp_path)
    np.save(tmp_path / "test_song.npy", np.zeros(2, int))
    with pytest.raises(ValueError, match="has 3 test sequences and 2 numbers of their songs"):
        read_arrays(tmp_path)
    for content in (b"nonsense", b"", b"PK\x03\x04"):
        (tmp_path / "train.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"train.npy is not a .npy file of integers"):
            read_arrays(tmp_path)


def sequence(given, made):
    """Two bars of the given notes, a quarter each, then 14 bars of the others, [1, 256]."""
    tokens = [given[i % len(given)] for i in range(8)] + [made[i % len(made)] for i in range(56)]
    return torch.tensor([tokens]).repeat_interleave(4, dim=1)


def test_distances_and_outliers_are_of_the_generated_bars():
    song = sequence([60], [62, 64])
    assert note_distance(sequence([70], [64, 62]), song).tolist() == [0]
    assert note_distance(sequence([62, 64], [60, REST]), song).tolist() == [1]
    one = float(note_distance(sequence([60], [62, 62, 62, 64]), song))
    assert one == pytest.approx((1 - (0.375**0.5 + 0.125**0.5)) ** 0.5)
    samples = torch.cat(
        [
            sequence([61], [60, 62, 64]),
            sequence([61], [62, 65]),
            sequence([61], [62, REST, REST, 65]),
        ]
    )
    assert note_outliers(samples, song.expand(3, -1)).tolist() == [0, 0.5, 0.5]
    assert note_outliers(sequence([61], [REST]), song).tolist() == [0]


C_MAJOR = [60, 62, 64, 65, 67, 69, 71, 72]


@pytest.mark.parametrize(
    ("given", "made", "share"),
    [
        (C_MAJOR, [76, 48, 61, 66], 0.5),  # C sharp and F sharp are not in C major
        (
            [69, 71, 72, 74, 76, 77, 79, 81],
            [60, 66, 68, REST],
            1 / 3,
        ),  # A minor: F sharp and G sharp are not
        ([57, 59, 60, 62, 64, 65, 68, 69], [68, 67, 68, 68], 0.75),  # A harmonic minor: G is not
        (
            C_MAJOR[:4],
            [66, 63],
            0.0,
        ),  # C, D, E, F: C major, F major and A harmonic minor have neither F sharp nor D sharp
        (
            [60, 64, 67],
            [66, 66, 65, 61],
            0.5,
        ),  # C, E, G: G major and E minor have the F sharp, F minor the F and the D flat
        ([REST], [66, 68, 70, 61], 1.0),
        (C_MAJOR, [REST], 1.0),
    ],
)
def test_notes_in_the_key_of_the_given_bars(given, made, share):
    found = notes_in_key(sequence(given, made))
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([share], abs=1e-12)


def test_keys_are_found_wherever_they_are():
    """A sequence and its 12 transpositions have the same share."""
    x = sequence(C_MAJOR, [76, 48, 61, 66])
    shifted = torch.cat([x + shift for shift in range(-6, 7)])
    assert notes_in_key(shifted).tolist() == [0.5] * 13


def test_ngrams_that_the_given_bars_have():
    """Given: C D E F twice. Generated: C D E F G ...; one n-gram in five begins at each note."""
    x = torch.cat(
        [
            sequence([60, 62, 64, 65], [60, 62, 64, 65, 67]),
            sequence([60, REST, 62, 62], [REST, 60, REST, REST]),
        ]
    )
    made = [60, 62, 64, 65, 67] * 11 + [60]
    for n in (1, 2, 3, 4):
        grams = [made[i : i + n] for i in range(len(made) - n + 1)]
        known = [[*([60, 62, 64, 65] * 2)[i : i + n]] for i in range(8 - n + 1)]
        assert ngram_overlap(x, n).tolist()[0] == pytest.approx(
            sum(gram in known for gram in grams) / len(grams)
        )
    assert ngram_overlap(x, 1).tolist()[1] == 1
    assert ngram_overlap(x, 2).tolist()[1] == 0  # C C is not in C D C D
    assert ngram_overlap(sequence([60], [REST]), 1).tolist() == [0]


def test_the_first_two_bars_are_given():
    tokens = torch.randint(129, (3, 256), generator=seeded(0))
    for x in (tokens, tokens[0]):
        given = given_bars(x)
        assert given.tokens is x
        assert given.mask.shape == x.shape
        assert given.mask[..., :32].all()
        assert not given.mask[..., 32:].any()


def test_show_puts_a_bar_on_a_line():
    x = torch.tensor([60, 60, 61, REST, REST, 60, *[0] * 10, 0, REST, 127, *[REST] * 13])
    assert show(x).splitlines() == [
        "C4  .   C#4 -   -   C4  C-1 .   .   .   .   .   .   .   .   .",
        ".   -   G9  -   -   -   -   -   -   -   -   -   -   -   -   -",
    ]


def test_the_task_brings_no_data():
    task = TASKS["piano"]
    assert (task.length, task.symbols) == (256, 129)
    assert task.metric(sequence(C_MAJOR, [76, 48, 61, 66])).tolist() == [0.5]
    with pytest.raises(
        ValueError,
        match=r"the task piano brings no data; pass --data PATH: a folder or zip of MIDI files",
    ):
        task.sample_data(4, seeded(0))


def melody_of(bars):
    """One pitch for each bar, 60, 61, ...; ``None`` is a bar of rests."""
    return torch.cat([torch.full((16,), 128 if pitch is None else pitch) for pitch in bars])


@pytest.mark.parametrize(
    ("bars", "first"), [([60, 62, 64], 0), ([None, None, 65, 67, 69], 2), ([60, 62], 0)]
)
def test_the_given_bars_of_a_file_begin_with_its_first_note(tmp_path, bars, first):
    write_steps(tmp_path / "song.mid", melody_of(bars))
    given = read_melody(tmp_path / "song.mid", 256)
    assert given.tokens.shape == given.mask.shape == (256,)
    assert torch.equal(given.tokens[:32], melody_of(bars)[16 * first : 16 * first + 32])
    assert given.mask.tolist() == [True] * 32 + [False] * 224


def test_a_file_without_two_bars_is_refused(tmp_path):
    write_steps(tmp_path / "short.mid", melody_of([None, 60]))
    with pytest.raises(
        ValueError,
        match=r"has 16 sixteenths from the bar of its first note, two bars are 32; pass more$",
    ):
        read_melody(tmp_path / "short.mid", 256)
    (tmp_path / "empty.mid").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.mid is empty; pass a MIDI file"):
        read_melody(tmp_path / "empty.mid", 256)


def test_of_a_polyphonic_file_the_highest_pitch_is_given(tmp_path):
    path, end = tmp_path / "two.mid", 32 * 120
    path.write_bytes(midi(track(*note(0, end, 60), *note(0, end, 67))))
    assert (read_melody(path, 256).tokens[:32] == 67).all()


@pytest.fixture
def tiny_model(tmp_path_factory):
    """A folder with a network of random weights."""
    recipe, folder = RECIPES["piano-uniform"], tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    network, _ = build(
        replace(recipe.network, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8),
        recipe.forward,
        recipe.output,
    )
    save_native(folder, network, recipe.forward, output=recipe.output, task="piano", length=256)
    return str(folder)


@pytest.mark.slow
def test_a_song_is_continued_on_the_command_line(tmp_path, tiny_model, capsys):
    write_steps(tmp_path / "song.mid", melody_of([60, 62, 64]))
    options = [
        "--given",
        str(tmp_path / "song.mid"),
        "--nfe",
        "2",
        "-n",
        "2",
        "--sampler",
        "tau-leaping",
        "--device",
        "cpu",
    ]
    assert main(["sample", tiny_model, *options, "-o", f"{tmp_path / 'out'}/"]) == 0
    out = {path.name for path in (tmp_path / "out").iterdir()}
    assert out == {
        "samples.npz",
        *(f"sample-{i}.{kind}" for i in (1, 2) for kind in ("png", "mid", "wav")),
    }
    samples = torch.from_numpy(np.load(tmp_path / "out" / "samples.npz")["samples"])
    assert (samples[:, :32] == melody_of([60, 62])).all()
    assert torch.equal(read_steps(tmp_path / "out" / "sample-2.mid").tokens, samples[1])
    assert "notes out of key" in capsys.readouterr().out


@pytest.mark.slow
def test_schedules_are_searched_with_songs(tmp_path, tiny_model, capsys):
    for part, seed in (("train", 1), ("test", 2)):
        np.save(tmp_path / f"{part}.npy", melody(48, seed=seed).reshape(-1, 256))
    write(
        tmp_path / "songs", {f"{name}.mid": plain(melody(17)) for name in ("001", "010")}
    )  # "010" is for testing
    task = TASKS["piano"]
    for path, read in ((tmp_path, read_arrays), (tmp_path / "songs", read_midi)):
        options = [
            "--data",
            str(path),
            "--nfe",
            "2",
            "--sequences",
            "3",
            "--device",
            "cpu",
            "-o",
            str(tmp_path / "s.json"),
        ]
        assert main(["optimize", tiny_model, *options]) == 0
        (schedule,) = load_schedules(tmp_path / "s.json").values()
        assert (schedule.provenance.data, schedule.provenance.sequences) == (read(path).name, 3)
        tokens, _ = task.read_data(path, 9, seeded(0))
        assert torch.equal(tokens, read(path).sample_data(9, seeded(0)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["--data", "x.mid"], "x.mid is neither a folder nor a zip; pass one of MIDI files"),
        (["--data", "none"], "there is no folder or zip none; pass one of MIDI files"),
        (["--data", "none.npy"], "there is no file none.npy; pass --data"),
        ([], "the task piano brings no data; pass --data PATH"),
    ],
)
def test_a_search_without_songs_is_one_line(
    tmp_path, tiny_model, capsys, monkeypatch, data, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.mid").write_text("a song")
    assert main(["optimize", tiny_model, "--nfe", "2", *data]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_each_test_song_once():
    test = torch.arange(5)[:, None].expand(5, 256)
    data = PianoData("made up", test.to(torch.uint8), test, torch.tensor([3, 3, 1, 2, 1]))
    assert data.songs()[:, 0].tolist() == [0, 2, 3]


def test_songs_are_similar_in_any_key():
    """Notes count from the median given note, and intervals between neighbours."""
    songs = torch.stack([torch.from_numpy(melody(16, seed)).reshape(-1) for seed in (0, 1)])
    silent = torch.full((1, 256), REST)
    higher = torch.where(songs == REST, REST, songs + 7)
    both = torch.cat([songs, silent])
    found = similarity(both, torch.cat([higher, silent]))
    torch.testing.assert_close(found, similarity(both, both))
    assert found.diagonal().abs().max() < 1e-7
    assert found[0, 1] < -0.3
    assert found[0, 2] < found[0, 1]
    moved = songs[:1].clone()
    moved[:, 32:] = torch.where(songs[:1, 32:] == REST, REST, songs[:1, 32:] + 1)
    # All notes that are made differ from the given ones by a semitone more: intervals are the same.
    assert -1 <= float(similarity(songs[:1], moved)) < -0.3
