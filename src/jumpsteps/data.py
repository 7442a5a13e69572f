"""Token files: what users bring, and what ``jumpsteps sample`` writes."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jumpsteps.files import replacing
from jumpsteps.models.loaded import file_hash

__all__ = ["load_tokens", "save_samples"]


def load_tokens(path: Path | str, n: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """n rows, drawn without replacement, of a .npy array or of the array ``samples`` or ``tokens`` of a .npz file.

    Returns:
        int64 [n, L] on the generator's device (all rows if there are fewer than n), and the data's name with its SHA-256.

    Raises:
        ValueError: no such file, or not such an array.
    """
    path = Path(path)
    try:
        content = np.load(path)
        array = content if isinstance(content, np.ndarray) else content["samples" if "samples" in content else "tokens"]
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; pass --data a task's name, or a .npy or .npz file of tokens") from None
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile):
        raise ValueError(
            f"{path} holds no tokens; expected .npy, or .npz with an array 'samples' or 'tokens', int [n, L]"
        ) from None
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer) or not len(array):
        raise ValueError(f"{path} holds an array {array.dtype} {list(array.shape)}; tokens are integers [n, L]")
    rows = torch.randperm(len(array), generator=generator, device=generator.device)[:n].cpu()
    tokens = torch.from_numpy(array.astype(np.int64))[rows].to(generator.device)
    return tokens, f"{path.name} sha256:{file_hash(path)}"


def save_samples(path: Path | str, samples: Tensor, nfe: int) -> None:
    """Write ``samples`` int64 [n, L] and ``nfe`` to a .npz file."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, samples=samples.cpu().numpy(), nfe=np.int64(nfe))
