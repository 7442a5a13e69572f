"""Files that are written whole or not at all, and files of arrays.

Content goes to a temporary file in the same folder, which then takes the place of the old file in
one step of the file system. A program that is stopped half-way leaves the old file as it was.
"""

import errno
import glob
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "check_replaceable",
    "locked_elsewhere",
    "read_json",
    "read_numpy",
    "replacing",
    "write_json",
]


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's errors where there is no room for a file."""


def check_replaceable(path: Path | str) -> Path:
    """The file that writing to ``path`` replaces: the target, if that is a symbolic link.

    Raises:
        ValueError: a device, a pipe or a socket, or a circle of links.
    """
    try:
        target = Path(path).resolve()
    except RuntimeError:  # Python 3.11 and 3.12; later versions return the link itself.
        target = Path(path)
    if target.is_symlink():
        raise ValueError(f"{path} is a link to itself; name another file to write to")
    if target.exists() and not target.is_file() and not target.is_dir():
        raise ValueError(f"{path} is no regular file (a device?); name a file to write to")
    return target


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces it if the block ends without an error.

    A symbolic link stays, and the file that it points to is replaced. Temporary files that killed
    programs left of the same target are removed.

    Raises:
        ValueError: ``path`` is no regular file, but a folder or a device.
        OSError: what the system says; one line that names ``path`` where there is no room.
    """
    target = check_replaceable(path)
    if target.is_dir():
        raise ValueError(f"{path} is a folder; name a file to write to")
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.stem}.jumpsteps-"
    remove_abandoned(target.parent, prefix, target.suffix)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=target.suffix)
    temporary = Path(name)
    try:
        lock(handle)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            f"{path} cannot be written ({error.strerror}); make room on the disk"
        ) from None
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path, prefix: str, suffix: str) -> None:
    """Remove the temporary files of this name that no living program has locked."""
    for path in folder.glob(f"{glob.escape(prefix)}????????{glob.escape(suffix)}"):
        with suppress(OSError), open(path, "r+b") as file:
            if lock(file.fileno()):
                path.unlink()


def lock(handle: int) -> bool:
    """Whether this program has the lock of an open file now; it ends when the file is closed.

    Always False on systems without ``flock``, where nothing is known of other programs.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def locked_elsewhere(handle: int) -> bool:
    """Whether another program has the lock of an open file; if none has, this one takes it."""
    return fcntl is not None and not lock(handle)


def write_json(
    path: Path | str, content: Any, *, default: Callable[[Any], Any] | None = None
) -> None:
    """Write ``content`` as JSON; ``default`` is that of ``json.dumps``."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=default) + "\n")


def read_json(path: Path | str) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: the file is not there, is a folder, or is not JSON.
    """
    try:
        text = Path(path).read_text()
        if not text.strip():
            raise ValueError("it is empty")
        return json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; check the path") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; name a file") from None
    except (ValueError, RecursionError) as error:  # Besides bad JSON: endless numbers, and depth.
        raise ValueError(
            f"{path} is not a JSON file ({error}); name another file, or write it again"
        ) from None


def read_numpy(path: Path | str, *names: str) -> dict[str, NDArray[Any]]:
    """The arrays of these names that a .npz file has; of a .npy file its array, by the name "".

    Raises:
        FileNotFoundError: no such file.
        ValueError: numpy cannot read it.
    """
    try:
        with open(path, "rb") as file:
            content = np.load(file)
            if isinstance(content, np.ndarray):
                return {"": content}
            return {name: content[name] for name in names if name in content}
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # Of zip, zlib, Python's parser: damage has many classes.
        reason = str(error).split("\n")[0] or type(error).__name__
        raise ValueError(f"{path} holds no arrays that can be read ({reason})") from None
