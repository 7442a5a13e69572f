"""Documents in the files that users bring: texts, JSON lines, Parquet, saved data sets.

A path is one of

* a file of JSON lines (.jsonl), an object in each line, or a .parquet file;
* a folder that ``datasets.Dataset.save_to_disk`` of Hugging Face wrote (state.json, .arrow files);
* a folder of such files, or of .txt files;
* any other file: one text in UTF-8.

Of tables a column is read, a document in each row. Parquet and Arrow files need pyarrow, which
comes with the library ``datasets``; columns stay on the disk until a row is asked for.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jumpsteps.core.files import read_json

__all__ = ["Documents", "read_documents"]

Rows = Sequence[Any]
"""A column: anything with a length and rows by their index."""


@dataclass(frozen=True)
class Documents:
    """Texts by their index.

    Attributes:
        name: of the file or folder, with its SHA-256.
        parts: the columns, one after the other.
    """

    name: str
    parts: tuple[Rows, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, i: int) -> str:
        """The i-th text.

        Raises:
            IndexError: there are fewer.
            ValueError: the row holds no text.
        """
        row = i
        for part in self.parts:
            if row < len(part):
                text = part[row]
                text = text.as_py() if hasattr(text, "as_py") else text
                if not isinstance(text, str):
                    raise ValueError(
                        f"row {i} of {self.name} holds {type(text).__name__} and no text; name "
                        "another column with --column"
                    )
                return text
            row -= len(part)
        raise IndexError(i)


def read_documents(path: Path | str, column: str = "text") -> Documents:
    """The documents at a path; see the module's docstring.

    Args:
        column: of tables.

    Raises:
        ValueError: nothing there, no text in UTF-8, no such column, or pyarrow is not installed.
    """
    path = Path(path)
    files = files_at(path)
    readers: dict[str, Callable[[Path, str], Rows]] = {
        ".jsonl": json_lines,
        ".parquet": parquet,
        ".arrow": arrow,
    }
    parts = tuple(readers.get(file.suffix.lower(), whole)(file, column) for file in files)
    return Documents(f"{path.name} sha256:{digest(files)}", parts)


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of a file, or of the digests of several, in hexadecimal."""
    found = []
    for file in files:
        with open(file, "rb") as content:
            found.append(hashlib.file_digest(content, "sha256"))
    if len(found) == 1:
        return found[0].hexdigest()
    return hashlib.sha256(b"".join(one.digest() for one in found)).hexdigest()


def files_at(path: Path) -> list[Path]:
    """The files of documents: the path itself, or those of a folder."""
    if not path.is_dir():
        if not path.exists():
            raise ValueError(f"there is no file {path}; pass a text file in UTF-8, or a folder")
        return [path]
    try:
        if (path / "dataset_dict.json").is_file():
            splits = read_json(path / "dataset_dict.json")["splits"]
            listed, first = ", ".join(splits), path / splits[0]
            raise ValueError(f"{path} holds the splits {listed}; pass one of them: {first}")
        if (path / "state.json").is_file():
            return [path / one["filename"] for one in read_json(path / "state.json")["_data_files"]]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is no data set that Hugging Face datasets saved ({error!r}); save it again"
        ) from None
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in (".txt", ".jsonl", ".parquet") and file.is_file()
    )
    if not found:
        raise ValueError(
            f"the folder {path} holds no data set of Hugging Face (state.json) and no .txt, .jsonl "
            "or .parquet file; pass a folder that does, or a file"
        )
    return found


def whole(path: Path, column: str) -> Rows:
    """A file as one document."""
    try:
        return [path.read_text(encoding="utf-8")]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a text file in UTF-8 ({error.reason} at byte {error.start}); convert it"
        ) from None


def json_lines(path: Path, column: str) -> Rows:
    found = []
    for i, line in enumerate(whole(path, column)[0].split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {i} of {path} is not JSON ({error})") from None
        if not isinstance(row, dict) or column not in row:
            raise no_column(path, column, row if isinstance(row, dict) else ())
        found.append(row[column])
    return found


def parquet(path: Path, column: str) -> Rows:
    arrow_library(path)
    library = importlib.import_module("pyarrow.parquet")
    names = read(path, lambda: library.read_schema(path)).names
    if column not in names:
        raise no_column(path, column, names)
    return read(path, lambda: library.read_table(path, columns=[column])).column(column)


def arrow(path: Path, column: str) -> Rows:
    library = arrow_library(path)
    table = read(path, lambda: library.ipc.open_stream(library.memory_map(str(path))).read_all())
    if column not in table.column_names:
        raise no_column(path, column, table.column_names)
    return table.column(column)


def arrow_library(path: Path) -> Any:
    """The library pyarrow.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise ValueError(
            f"reading {path.name} needs pyarrow: pip install pyarrow; or save the texts as .jsonl "
            "or .txt"
        ) from None


def read(path: Path, reading: Callable[[], Any]) -> Any:
    """The result of reading a file by pyarrow, whose errors are of many classes."""
    try:
        return reading()
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged ({reason}); save it again") from None


def no_column(path: Path, column: str, names: Sequence[str] | dict[str, Any]) -> ValueError:
    listed = ", ".join(map(str, names)) or "none"
    return ValueError(
        f"{path} has no column {column!r}; name one of its columns with --column: {listed}"
    )
