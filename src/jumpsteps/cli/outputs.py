"""What commands write: output names are checked before any work is done; samples go to files."""

import os
import sys
from collections.abc import Collection
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from jumpsteps.cli.sequence_files import save_samples, save_text
from jumpsteps.core.files import check_replaceable
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.plots import new_figure
from jumpsteps.models import LoadedModel
from jumpsteps.schedules.files import load_schedules
from jumpsteps.tasks.task import Task, WriteSample

__all__ = [
    "check_distinct",
    "json_file",
    "note_replaced",
    "output_file",
    "output_folder",
    "picture_file",
    "sample_files",
    "text_file",
    "write_samples",
]


def output_file(name: str) -> Path:
    """The path of a file that can be written; folders that are missing are made when it is.

    Raises:
        ValueError: an empty name, a folder, a device or a pipe, a path below a file, or a folder
            where nothing may be written.
    """
    path = Path(name)
    if not name:
        raise ValueError("the name of an output is empty; name a file to write to")
    if is_folder_name(name) or path.is_dir():
        raise ValueError(f"{name} is a folder; name a file to write to")
    check_replaceable(path)
    check_parents(path)
    check_writable(path.parent)
    return path


def json_file(name: str, what: str) -> Path:
    """The path of a file of schedules or results, which are JSON.

    Raises:
        ValueError: as ``output_file``; the suffix of another kind of file.
    """
    path = output_file(name)
    if path.suffix.lower() not in ("", ".json"):
        raise ValueError(f"{what} are JSON, and {name} would not be; end it in .json")
    return path


def note_replaced(path: Path, model: str, nfe: Collection[int]) -> None:
    """Say on standard error which schedules a search is about to replace by none of their kind:
    those of another model, or with other numbers of model calls.
    """
    if not nfe or not path.exists():
        return
    with suppress(ValueError, OSError):
        found = load_schedules(path)
        for name in dict.fromkeys(one.provenance.model for one in found.values()):
            own = [n for n, one in found.items() if one.provenance.model == name]
            if name != model or not set(own) <= set(nfe):
                print(
                    f"note: {path} holds schedules of {name or 'a model'} for NFE {own}, which "
                    "this search replaces; to keep them name another file with -o",
                    file=sys.stderr,
                )


def output_folder(name: str) -> Path:
    """The path of a folder that is there or can be made.

    Raises:
        ValueError: an empty name, a file, a path below a file, or a folder where nothing may be
            written.
    """
    path = Path(name)
    if not name:
        raise ValueError("the name of an output is empty; name a folder to write to")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name} is a file; name a folder to write to")
    check_parents(path)
    check_writable(path)
    return path


def picture_file(name: str) -> Path:
    """The path of a picture.

    Raises:
        ValueError: as ``output_file``; an unknown kind of picture; matplotlib is not installed.
    """
    path = output_file(name)
    kinds = new_figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in kinds:
        raise ValueError(f"{name} is not the name of a picture; end it in .png")
    return path


def check_distinct(*paths: Path | None) -> None:
    """Raises ValueError if a command would write two outputs to one file."""
    written = [path.resolve() for path in paths if path is not None]
    if len(set(written)) < len(written):
        raise ValueError(f"two outputs would be written to {written[0]}; name different files")


EXTRAS = {"matplotlib": "plots", "mido": "music", "PIL": "images"}
"""The extra of this package that installs a module."""


def check_parents(path: Path) -> None:
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise ValueError(f"{path} cannot be written, because {parent} is a file")


def check_writable(folder: Path) -> None:
    """Raises ValueError if nothing may be written to the folder, or it may not be made."""
    path = folder.absolute()
    folder = next(one for one in (path, *path.parents) if one.exists())
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{folder} is a folder where you may not write; name another place")


def is_folder_name(name: str) -> bool:
    return name.endswith(("/", os.sep))


def sample_files(out: str | None, model: LoadedModel) -> tuple[Path, WriteSample | None]:
    """The file that takes the tokens, and what writes each sample beside it, if anything does.

    A name that ends in / or has no suffix is a folder, and so is one that is there: the tokens go
    to samples.npz in it, and beside them what the task writes of each sample, if it does. Without a
    name it is out/ for such a task, and samples.npz for others, or where a library is missing.

    Raises:
        ValueError: a file where a folder is needed, or the other way round; a file of another kind;
            a library that is not installed.
    """
    write = None if model.task is None else model.task.write
    lacking = "" if model.task is None or write is None else missing_extras(model.task)
    if out is None:
        if lacking:
            print(f"note: tokens only, because {lacking}", file=sys.stderr)
        out = "out/" if write is not None and not lacking else "samples.npz"
    path = Path(out)
    if path.suffix and not is_folder_name(out) and not path.is_dir():
        kinds = (".npz", *(() if model.task is None else model.task.file_suffixes))
        file = output_file(out)
        if file.suffix.lower() not in kinds:
            raise ValueError(
                f"{out} would not be a {file.suffix} file; end it in .npz, or in / for a folder"
            )
        return file, None
    check_replaceable(path)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"{path} is a file, and a name without .npz is that of a folder; name another folder, "
            "or a .npz file for tokens only"
        )
    if lacking:
        raise ValueError(f"{lacking}; or name a .npz file, for tokens only")
    return output_folder(out) / "samples.npz", write


def missing_extras(task: Task) -> str:
    """What is to be installed before the task's files can be written, in words; empty if nothing
    is.
    """
    missing = [EXTRAS[module] for module in task.write_needs if find_spec(module) is None]
    if not missing:
        return ""
    return f"files of single samples need: pip install 'jumpsteps[{','.join(missing)}]'"


def text_file(tokens: Path) -> Path:
    """The file beside the tokens that takes the text of the samples."""
    path = tokens.with_suffix(".txt")
    if path == tokens:
        raise ValueError(f"{tokens} is where the text would go; name a .npz file for the tokens")
    return output_file(str(path))


def write_samples(
    file: Path,
    write: WriteSample | None,
    model: LoadedModel,
    samples: Tensor,
    nfe: int,
    given: Given | None,
) -> None:
    """Write samples int64 [n, L], print the first one, and the metric if the model has a task.

    The text goes to a file of its own if the model has a tokenizer; each sample to files of its own
    if its task has a ``write``.
    """
    save_samples(file, samples, nfe)
    files = str(file)
    if model.text is not None:
        texts = [model.text.decode(sample) for sample in samples.tolist()]
        save_text(text_file(file), texts)
        files += f" and {text_file(file)}"
        print(texts[0])
    if write is not None and model.task is not None:
        if given is not None and model.task.write_as is not None:
            write = model.task.write_as(given)
        write_each(write, file.parent, samples, given)
        files += f" and {file.with_name('sample-*')}"
        if model.task.write_all is not None:
            model.task.write_all(file.with_name("samples"), samples)
            files += f" and {file.with_name('samples.*')}"
    if model.task is not None:
        print(model.task.show(samples[0].cpu()))
        print(f"{model.task.metric_name}: {100 * float(model.task.metric(samples).mean()):.2f}%")
    print(f"{len(samples)} samples, {nfe} model calls each; written to {files}")


def write_each(write: WriteSample, folder: Path, samples: Tensor, given: Given | None) -> None:
    """Write sample-1, sample-2, ..., all numbers with as many digits as the last one.

    Files of those names that an earlier run left, with higher numbers or other digits, are removed.
    """
    digits = len(str(len(samples)))
    names = {f"sample-{i:0{digits}d}" for i in range(1, len(samples) + 1)}
    masks = [None] * len(samples) if given is None else given.mask.expand(samples.shape).cpu()
    for i, (sample, mask) in enumerate(zip(samples.cpu(), masks, strict=True), 1):
        write(folder / f"sample-{i:0{digits}d}", sample, mask)
    kinds = {path.suffix for path in folder.glob("sample-*") if path.stem in names}
    for path in folder.glob("sample-*"):
        number = path.stem.removeprefix("sample-")
        if path.stem not in names and path.suffix in kinds and number.isdecimal():
            path.unlink()
