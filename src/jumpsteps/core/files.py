"""Files that are written whole or not at all.

Content goes to a temporary file in the same folder, which then takes the place of the old file in
one step of the file system. A program that is stopped half-way leaves the old file as it was.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["read_json", "replacing", "write_json"]


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces it if the block ends without an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(
    path: Path | str, content: Any, *, default: Callable[[Any], Any] | None = None
) -> None:
    """Write ``content`` as JSON; ``default`` is that of ``json.dumps``."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=default) + "\n")


def read_json(path: Path | str) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: the file is not there, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a JSON file ({error})") from None
