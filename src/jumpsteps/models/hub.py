"""Checkpoint folders: a local folder, or the files of a Hugging Face hub repository."""

from pathlib import Path

__all__ = ["MODEL_FILES", "TOKENIZER_FILES", "download", "find_folder", "looks_like_hub_id"]

MODEL_FILES = [
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    "pytorch_model.bin.index.json",
]
TOKENIZER_FILES = ["generation_config.json", "*token*.json", "vocab.*", "merges.txt", "*.model"]


def find_folder(name: str | Path, files: list[str], what: str) -> Path:
    """The local folder ``name``, or a download of these ``files`` of the hub repository ``name``.

    Args:
        files: glob patterns; used for a download only.
        what: start of the error message, such as "model 'x': ".

    Raises:
        ValueError: neither a folder nor a hub id, or the download fails.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if isinstance(name, Path) or not looks_like_hub_id(name):
        raise ValueError(f"there is no {what}not a folder, not a hub id (OWNER/NAME)")
    return download(name, files)


def looks_like_hub_id(name: str) -> bool:
    """Whether a name has the form OWNER/NAME."""
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~"))


def download(hub_id: str, files: list[str], revision: str | None = None) -> Path:
    """Fetch files of a hub repository and return the local folder that holds them.

    Raises:
        ValueError: the repository cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{hub_id!r} is not a folder here and could not be fetched from the hub ({first})"
        ) from None
