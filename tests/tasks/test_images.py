"""The task images: data sets in each layout, pictures, observed pixels, the metric by hand."""

import io
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from builders.statistics import seeded
from jumpsteps.cli.inputs import data_named
from jumpsteps.cli.main import main
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.models.networks.unet import UNetConfig
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.tasks import TASKS
from jumpsteps.tasks.image_files import ImageData, open_images, read_images
from jumpsteps.tasks.images import (
    PIXELS,
    TYPICAL,
    neighbour_difference,
    read_data,
    read_given,
    show,
    smoothness_error,
)


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)


def file_bytes(image, kind):
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, format=kind)
    return stream.getvalue()


def write_batches(folder, images):
    folder.mkdir(parents=True)
    for name, part in zip(
        [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], np.split(images, 6), strict=True
    ):
        content = {b"data": part.reshape(len(part), -1), b"labels": [0] * len(part)}
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))


def write_pngs(folder, images):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        (folder / f"{i:02d}.png").write_bytes(file_bytes(image, "PNG"))


def write_jpegs(path, images):
    files = [file_bytes(image, "JPEG") for image in images]
    offset = np.cumsum([0, *map(len, files)])
    np.savez(path, jpeg=np.frombuffer(b"".join(files), np.uint8), offset=offset)


def tokens(images):
    return torch.from_numpy(images.reshape(len(images), -1))


@pytest.mark.parametrize("inside", [".", "cifar-10-batches-py"])
def test_python_batches(tmp_path, inside):
    images = pictures(12)
    write_batches(tmp_path / "x" / inside, images)
    data = read_images(tmp_path / "x")
    assert torch.equal(data.train, tokens(images[:10]))
    assert torch.equal(data.test, tokens(images[10:]).long())
    assert re.fullmatch(r"CIFAR-10 train sha256:[0-9a-f]{64}", data.name)


def test_folders_of_pngs(tmp_path):
    images = pictures(12)
    write_pngs(tmp_path / "flat", images)
    data = read_images(tmp_path / "flat")
    assert torch.equal(data.train, tokens(images[:11]))
    assert torch.equal(data.held_out, tokens(images[11:]))
    write_pngs(tmp_path / "parts" / "train", images[:7])
    write_pngs(tmp_path / "parts" / "test", images[7:])
    data = read_images(tmp_path / "parts")
    assert torch.equal(data.train, tokens(images[:7]))
    assert torch.equal(data.held_out, tokens(images[7:]))
    assert data.name.startswith("parts train sha256:")


def test_archives_of_jpegs(tmp_path):
    """JPEG is lossy; smooth images come back nearly as they were, in their order."""
    ramp = np.linspace(0, 200, 32).astype(np.uint8)
    images = np.stack([np.broadcast_to(ramp + 10 * i, (3, 32, 32)) for i in range(4)])
    for part, some in (("train", images), ("test", images[:2])):
        write_jpegs(tmp_path / f"cifar10_jpeg_{part}.npz", some)
    data = read_images(tmp_path / "cifar10_jpeg_train.npz")
    assert data.name.startswith("CIFAR-10, JPEG copy train sha256:")
    assert (data.train.long() - tokens(images).long()).abs().max() <= 4
    assert len(data.test) == 2
    again = read_images(tmp_path)
    assert torch.equal(again.train, data.train)
    assert again.name == data.name


def test_labels_are_read_where_there_are_any(tmp_path):
    """Python batches of two images, one batch without labels; JPEGs without and with them."""
    images, folder = pictures(12), tmp_path / "batches"
    write_batches(folder, images)
    for i in range(1, 6):
        path = folder / f"data_batch_{i}"
        content = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps(content | {b"labels": [2 * i, 2 * i + 1]}))
    assert open_images(folder).train.labels.tolist() == list(range(2, 12))
    del content[b"labels"]
    path.write_bytes(pickle.dumps(content))
    assert open_images(folder).train.labels is None
    for part in ("train", "test"):
        write_jpegs(tmp_path / f"a_{part}.npz", images[:3])
    assert open_images(tmp_path / "a_train.npz").train.labels is None
    with np.load(tmp_path / "a_train.npz") as content:
        np.savez(tmp_path / "a_train.npz", label=np.arange(3, dtype=np.uint8), **content)
    assert open_images(tmp_path / "a_train.npz").train.labels.tolist() == [0, 1, 2]


def test_a_search_draws_images_once_each(tmp_path):
    images = pictures(12)
    write_batches(tmp_path / "x", images)
    drawn, name = read_data(tmp_path / "x", 8, seeded(0))
    assert drawn.dtype == torch.int64
    found = (drawn[:, None] == tokens(images[:10]).long()).all(-1)
    assert found.sum(1).tolist() == [1] * 8
    assert found.sum(0).max() == 1
    assert name == read_images(tmp_path / "x").name


def test_training_images_are_mirrored_half_of_the_time():
    images = pictures(2)
    data = ImageData("x", tokens(images), tokens(images))
    drawn = data.sample_data(400, seeded(0)).view(-1, 3, 32, 32)
    plain, mirrored = (
        (drawn[:, None] == torch.from_numpy(other.copy()).long()).all((2, 3, 4)).sum(0)
        for other in (images, images[..., ::-1])
    )
    counts = torch.cat([plain, mirrored])
    assert counts.sum() == 400
    assert (counts - 100).abs().max() < 35  # Four standard deviations.


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "there is no"),
        (lambda p: p.mkdir(), "has 0 .png files; pass a folder of CIFAR-10's python batches"),
        (lambda p: p.write_bytes(b"x"), "needs a file NAME_test.npz beside it"),
        (lambda p: write_pngs(p, pictures(1)), "has 1 .png files"),
        (lambda p: write_pngs(p, np.zeros((3, 3, 28, 28), np.uint8)), "28 x 28 pixels"),
    ],
)
def test_paths_without_images(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_images(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil()), "print is no part of an array"),
        (pickle.dumps({b"data": np.zeros((2, 5), np.uint8)}, protocol=4), "no images [n, 3072]"),
        (b"x", "is no batch of CIFAR-10"),
    ],
)
def test_damaged_batches(tmp_path, capsys, content, message):
    write_batches(tmp_path / "x", pictures(12))
    (tmp_path / "x" / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_images(tmp_path / "x")
    (tmp_path / "x" / "data_batch_3").unlink()
    with pytest.raises(ValueError, match="there is no file"):
        read_images(tmp_path / "x")
    assert capsys.readouterr().out == ""


def test_damaged_files(tmp_path):
    write_pngs(tmp_path / "x", pictures(3))
    (tmp_path / "x" / "01.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"01\.png cannot be read"):
        read_images(tmp_path / "x")
    for part in ("train", "test"):
        np.savez(tmp_path / f"a_{part}.npz", jpeg=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="has no arrays 'jpeg' and 'offset'"):
        read_images(tmp_path)


def test_the_metric_by_hand():
    """Columns of 0 and 51 differ by 0.2 across and by 0 down; one pixel differs from four."""
    columns = (51 * (torch.arange(32) % 2)).expand(3, 32, 32).reshape(1, -1)
    pixel = torch.zeros(3, 32, 32, dtype=torch.int64)
    pixel[0, 5, 7] = 255
    values = neighbour_difference(torch.cat([columns, pixel.view(1, -1)]))
    expected = torch.tensor([0.1, 2 / (3 * 32 * 31)], dtype=torch.float64)
    torch.testing.assert_close(values, expected)
    errors = smoothness_error(torch.cat([columns, torch.zeros_like(columns)]))
    torch.testing.assert_close(errors, torch.tensor([0.1 / TYPICAL - 1, 1], dtype=torch.float64))


def test_pictures_on_disk(tmp_path):
    images = pictures(3)
    PIXELS.write(tmp_path / "a.b", tokens(images)[1])
    back = np.asarray(Image.open(tmp_path / "a.b.png")).transpose(2, 0, 1)
    assert np.array_equal(back, images[1])
    PIXELS.write_all(tmp_path / "all", tokens(images))
    back = np.asarray(Image.open(tmp_path / "all.png"))
    assert np.array_equal(back, PIXELS.grid(tokens(images)).numpy())
    assert back.shape == (64, 64, 3)
    assert np.array_equal(back[32:, :32].transpose(2, 0, 1), images[2])
    assert not back[32:, 32:].any()


def test_transparent_pixels_are_free(tmp_path):
    image = np.concatenate([pictures(1)[0], np.full((1, 32, 32), 255, np.uint8)])
    Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "full.png")
    with pytest.raises(ValueError, match="has no transparent pixel"):
        read_given(tmp_path / "full.png", 3072)
    image[3, 10:20] = 0
    Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "x.png")
    given = read_given(tmp_path / "x.png", 3072)
    free = ~given.mask.view(3, 32, 32)
    assert free[:, 10:20].all()
    assert free.sum() == 3 * 10 * 32
    known = given.tokens[given.mask]
    assert torch.equal(known, torch.from_numpy(image[:3]).flatten().long()[given.mask])
    Image.fromarray(image.transpose(1, 2, 0)[:28]).save(tmp_path / "small.png")
    (tmp_path / "none.png").write_bytes(b"x")
    for name, message in (("small", "pass a picture of 32 x 32"), ("none", "no picture")):
        with pytest.raises(ValueError, match=message):
            read_given(tmp_path / f"{name}.png", 3072)


def test_an_image_as_text():
    image = torch.zeros(3, 32, 32, dtype=torch.int64)
    image[:, :2, 1] = 255
    image[:, 2:4, 0] = 128
    lines = show(image.flatten()).split("\n")
    assert [len(lines), len(lines[0]), lines[0][:3], lines[1][:2]] == [16, 32, " @ ", "+ "]


def test_a_task_without_its_data():
    task = TASKS["images"]
    assert task.length == 3072
    with pytest.raises(ValueError, match="pass --data PATH: a folder of CIFAR-10's python batches"):
        task.sample_data(1, seeded(0))


@pytest.mark.slow
def test_the_command_writes_pngs_and_a_grid(tmp_path, capsys):
    forward = Gaussian()
    torch.manual_seed(0)
    network, _ = build(UNetConfig(channels=4, multipliers=(1,), n_blocks=1), forward, "posterior")
    save_native(tmp_path / "m", network, forward, output="posterior", task="images", length=3072)
    out = tmp_path / "out"
    code = main(
        ["sample", str(tmp_path / "m"), "--nfe", "2", "-n", "2", "-o", f"{out}/", "--device", "cpu"]
    )
    assert code in (0, None)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["sample-1.png", "sample-2.png", "samples.npz", "samples.png"]
    samples = np.load(out / "samples.npz")["samples"]
    one = np.asarray(Image.open(out / "sample-2.png")).transpose(2, 0, 1)
    assert np.array_equal(one.reshape(-1), samples[1])
    assert "error of the difference of neighbouring pixels: " in capsys.readouterr().out


def test_an_archive_of_jpegs_is_no_array_of_tokens(tmp_path):
    """Its ending is that of an array."""
    model, images = SimpleNamespace(task=TASKS["images"]), pictures(3)
    for part in ("train", "test"):
        write_jpegs(tmp_path / f"a_{part}.npz", images)
    np.savez(tmp_path / "tokens.npz", tokens=images.reshape(3, -1))

    def read(name):
        options = SimpleNamespace(text=None, data=str(tmp_path / name))
        return data_named(model, options, 2, seeded(0))[0]

    assert read("a_train.npz").shape == read("tokens.npz").shape == (2, 3072)
    np.savez(tmp_path / "b_train.npz", rows=np.zeros(3))
    with pytest.raises(ValueError, match=r"b_train\.npz needs a file NAME_test\.npz beside it"):
        read("b_train.npz")
