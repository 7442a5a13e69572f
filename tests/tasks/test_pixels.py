"""Images of any task: pictures against what pillow reads, and a task of one's own that has them."""

import base64
import io
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.command_line import run
from builders.statistics import seeded
from jumpsteps import load
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.page.films import generic_gallery
from jumpsteps.tasks import countdown, piano
from jumpsteps.tasks.galleries import countdown_gallery, gallery_facts, gallery_of, piano_gallery
from jumpsteps.tasks.images import TASK
from jumpsteps.tasks.pixels import Pixels, png

Image = pytest.importorskip("PIL.Image")


def read(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def shown(page: str) -> np.ndarray:
    """The first picture of a page."""
    return read(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]))


def test_the_png_is_what_pillow_reads():
    pixels = torch.randint(256, (5, 7, 3), generator=seeded(0)).to(torch.uint8)
    assert np.array_equal(read(png(pixels)), pixels.numpy())


@pytest.mark.parametrize("channels", [1, 3])
def test_every_sample_has_its_place_in_the_grid(channels):
    """Four levels are 0, 85, 170 and 255; a grey value is that of all three colours."""
    pixels = Pixels(channels, 2, 5, levels=4)
    samples = torch.randint(4, (3, pixels.length), generator=seeded(channels))
    picture = pixels.grid(samples)
    assert picture.shape == (4, 10, 3)
    for i, sample in enumerate(samples):
        top, left = 2 * (i // 2), 5 * (i % 2)
        expected = 85 * sample.view(channels, 2, 5).expand(3, 2, 5).permute(1, 2, 0)
        assert torch.equal(picture[top : top + 2, left : left + 5].long(), expected)
    assert not picture[2:, 5:].any()


def test_a_gallery_is_found_by_what_a_task_can_do():
    tokens = torch.randint(256, (2, TASK.length), generator=seeded(0))
    examples = Examples(tuple(map(tuple, tokens.tolist())), ())
    about = gallery_facts(replace(TASK, name="mine"))
    assert np.array_equal(shown(gallery_of(about)(examples, 1)[0]), TASK.pixels.grid(tokens))
    few = Examples(((7, 8, 9), (1, 2, 3)), ((1, 2, 2), (1, 1, 2)))
    damaged = ({"channels": 3}, {"channels": 1, "height": 3.0, "width": 1}, 7, None)
    for facts in (about, {"task": "images"}, *({"pixels": pixels} for pixels in damaged)):
        content, _ = gallery_of(facts)(few, 2)
        assert re.findall(r"data-s=.(\d).>(\d)<", content) == [("1", "7"), ("2", "8"), ("2", "9")]
    assert gallery_facts(None) == {"task": None}


@pytest.mark.parametrize(
    ("task", "gallery"), [(countdown.TASK, countdown_gallery), (piano.TASK, piano_gallery)]
)
def test_a_gallery_goes_with_the_task_and_not_with_its_name(task, gallery):
    """Files of results without it are shown by the task's name."""
    assert gallery_of(gallery_facts(replace(task, name="mine"))) is gallery
    assert gallery_of({"task": task.name}) is gallery
    assert gallery_of(gallery_facts(replace(task, gallery=None))) is generic_gallery
    with pytest.raises(ValueError, match="task mine has gallery='x'; choose countdown, piano-roll"):
        gallery_facts(replace(task, name="mine", gallery="x"))


def test_pixels_are_those_of_the_sequence():
    for sizes in ((2, 4, 4), (1, 0, 4), (1, 4, 4, 1), (1, 4.0, 4)):
        with pytest.raises(ValueError, match="pixels have 1 or 3 channels, a height, a width"):
            Pixels(*sizes)
    with pytest.raises(ValueError, match=r"the task images has 3072 .* are 1024 of 256; make them"):
        replace(TASK, pixels=Pixels(1, 32, 32))
    with pytest.raises(ValueError, match=r"3072 sites of 256 symbols, and .* are 3072 of 2"):
        replace(TASK, pixels=Pixels(3, 32, 32, levels=2))


MODULE = """
from dataclasses import replace

import jumpsteps
from jumpsteps.tasks.pixels import Pixels

toy = jumpsteps.load("toy-absorbing")
task = replace(toy.task, name="squares", pixels=Pixels(1, 2, 2, levels=toy.task.symbols))
model = replace(toy, name="squares", task=task)
"""


def test_a_task_of_ones_own_has_pictures_of_samples(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pixels_of_test.py").write_text(MODULE)
    asked = "pixels_of_test:model --nfe 2"
    try:
        code, said, err = run(capsys, f"sample {asked} --schedule uniform -n 5 -o out/")
        assert (code, err) == (0, "")
        assert "out/sample-* and out/samples.*" in said
        samples = torch.from_numpy(np.load("out/samples.npz")["samples"])
        pixels = Pixels(1, 2, 2, levels=load("toy-absorbing").task.symbols)
        for name, rows in (("sample-2", samples[1:2]), ("samples", samples)):
            content = (tmp_path / "out" / f"{name}.png").read_bytes()
            assert np.array_equal(read(content), pixels.grid(rows))
        assert run(capsys, f"compare {asked} --schedules uniform -n 4 -o r.json")[0] == 0
        assert run(capsys, "report r.json -o again.html")[0] == 0
    finally:
        sys.modules.pop("pixels_of_test", None)
    for page in ("r.html", "again.html"):
        assert shown((tmp_path / page).read_text()).shape == (4, 4, 3)
