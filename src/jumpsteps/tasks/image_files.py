"""Data sets of 32 x 32 colour images. PNG and JPEG need the extra ``images`` (pillow).

A path is one of

* a folder of CIFAR-10 for Python: ``data_batch_1`` to ``data_batch_5`` and ``test_batch``
  (Krizhevsky 2009);
* a .npz file NAME_train.npz of JPEG files, with NAME_test.npz beside it, or the folder of both.
  Its arrays are ``jpeg``, uint8, the files one after another, and ``offset``, int64 [n + 1];
* a folder with the subfolders ``train`` and ``test`` of .png files; or one of .png files, whose
  last tenth by name, at least one, is the test set.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jumpsteps.core.files import read_numpy

__all__ = ["ImageData", "Images", "Pixels", "image_module", "read_images"]

SHAPE = (3, 32, 32)
Pixels = NDArray[np.uint8]
"""Intensities of one image, [3, 32, 32]."""

WANTED = (
    "a folder of CIFAR-10's python batches, a folder of .png files, "
    "or a file NAME_train.npz of JPEGs"
)


@dataclass(frozen=True)
class Images:
    """Images that are decoded when they are asked for.

    Attributes:
        count: their number.
        decode: index -> the image.
        labels: what each image shows, [count]; None where the files do not say.
    """

    count: int
    decode: Callable[[int], Pixels]
    labels: NDArray[np.uint8] | None = None

    def tokens(self, rows: Iterable[int]) -> Tensor:
        """The images of these indices as tokens, uint8 [n, 3072], channel by channel."""
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(self.decode, rows))
        return torch.from_numpy(np.stack(images)).flatten(1)


@dataclass(frozen=True)
class ImageData:
    """Training and test images on one device.

    Attributes:
        name: what the images are, with the SHA-256 of the training images' files.
        train, held_out: uint8 [n, 3072].
    """

    name: str
    train: Tensor
    held_out: Tensor

    @property
    def test(self) -> Tensor:
        """Held-out images, int64 [n, 3072]."""
        return self.held_out.long()

    def to(self, device: torch.device) -> "ImageData":
        return ImageData(self.name, self.train.to(device), self.held_out.to(device))

    def sample_data(self, n: int, generator: torch.Generator) -> Tensor:
        """n training images with replacement, each mirrored with probability 1/2, int64 [n, 3072].

        They are on the generator's device, where the data must be.
        """
        device = generator.device
        rows = torch.randint(len(self.train), (n,), generator=generator, device=device)
        mirrored = torch.rand(n, 1, 1, 1, generator=generator, device=device) < 0.5
        images = self.train[rows].view(n, *SHAPE)
        return torch.where(mirrored, images.flip(-1), images).flatten(1).long()


@dataclass(frozen=True)
class Files:
    """A data set on disk, before images are decoded.

    Attributes:
        title: what the images are.
        files: those that the hash of the training images is of.
    """

    title: str
    train: Images
    test: Images
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.read_bytes())
        return f"{self.title} train sha256:{digest.hexdigest()}"


def read_images(path: Path | str) -> ImageData:
    """All images of a path.

    Raises:
        ValueError: no such images, or one that is damaged or not 32 x 32; pillow is not installed.
    """
    files = open_images(path)
    train, test = (each.tokens(range(each.count)) for each in (files.train, files.test))
    return ImageData(files.name, train, test)


def open_images(path: Path | str) -> Files:
    """The data set at a path; images are decoded later.

    Raises:
        ValueError: as ``read_images``.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no {path}; pass {WANTED}")
    if path.is_file():
        return open_jpegs(path)
    for folder in (path, path / "cifar-10-batches-py"):
        if (folder / "data_batch_1").exists():
            return open_batches(folder)
    archives = sorted(path.glob("*_train.npz"))
    return open_jpegs(archives[0]) if archives else open_pngs(path)


def open_batches(folder: Path) -> Files:
    paths = [folder / f"data_batch_{i}" for i in range(1, 6)]
    train, test = held(paths), held([folder / "test_batch"])
    return Files("CIFAR-10", train, test, paths)


def held(paths: list[Path]) -> Images:
    batches = [read_batch(path) for path in paths]
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return Images(len(images), lambda i: images[i], labels if len(labels) == len(images) else None)


class ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays; nothing else in the file is looked up or run."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "_reconstruct": np.empty(0).__reduce__()[0],
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.partition(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return allowed[name]


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [n, 3, 32, 32] and labels, [n] or empty, of a file of CIFAR-10 for Python."""
    try:
        with open(path, "rb") as file:
            content = ArraysOnly(file, encoding="bytes").load()
        images, labels = content[b"data"], np.array(content.get(b"labels", []), np.uint8)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; CIFAR-10 has five and a test batch") from None
    except Exception as error:  # Damaged pickles raise errors of every type.
        what = " ".join(str(error).split())
        raise ValueError(f"{path} is no batch of CIFAR-10 ({what}); unpack it again") from None
    if not (isinstance(images, np.ndarray) and images.shape[1:] == (3072,)):
        raise ValueError(f"{path} holds no images [n, 3072]; unpack CIFAR-10 for Python again")
    return images.astype(np.uint8).reshape(-1, *SHAPE), labels


def open_jpegs(path: Path) -> Files:
    test = path.with_name(path.name.replace("_train", "_test"))
    if test == path or not test.exists():
        raise ValueError(f"{path} needs a file NAME_test.npz beside it, and itself to be _train")
    stem = path.name.removesuffix("_train.npz")
    title = "CIFAR-10, JPEG copy" if stem == "cifar10_jpeg" else f"{stem}, JPEG"
    return Files(title, read_jpegs(path), read_jpegs(test), [path])


def read_jpegs(path: Path) -> Images:
    try:
        content = read_numpy(path, "jpeg", "offset", "label")
        jpeg, offset = content["jpeg"], content["offset"]
    except (KeyError, ValueError):
        raise ValueError(f"{path} has no arrays 'jpeg' and 'offset'; pass {WANTED}") from None
    return Images(
        len(offset) - 1,
        lambda i: decoded(jpeg[offset[i] : offset[i + 1]].tobytes(), f"image {i} of {path}"),
        content.get("label"),
    )


def open_pngs(folder: Path) -> Files:
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = (list(png_files(folder / part)) for part in ("train", "test"))
    else:
        paths = list(png_files(folder))
        cut = len(paths) - max(1, len(paths) // 10)
        train, test = paths[:cut], paths[cut:]
    if not (train and test):
        raise ValueError(f"{folder} has {len(train) + len(test)} .png files; pass {WANTED}")

    def images(paths: list[Path]) -> Images:
        return Images(len(paths), lambda i: decoded(paths[i].read_bytes(), str(paths[i])))

    return Files(folder.name, images(train), images(test), train)


def png_files(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("*.png")))


def decoded(content: bytes, what: str) -> Pixels:
    """The pixels of an image file; ``what`` names it in the message."""
    module = image_module()
    try:
        image = module.open(io.BytesIO(content)).convert("RGB")
    except (module.UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{what} cannot be read ({error}); write it again") from None
    if image.size != SHAPE[1:]:
        size = " x ".join(map(str, image.size))
        raise ValueError(f"{what} has {size} pixels; the task images needs 32 x 32: resize it")
    return np.asarray(image).transpose(2, 0, 1)


def image_module() -> Any:
    """Pillow's module ``Image``.

    Raises:
        ValueError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("image files need pillow: pip install 'jumpsteps[images]'") from None
    return Image
