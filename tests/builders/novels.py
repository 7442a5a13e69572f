"""Novels of made-up words, with a network and an evaluator of them that know nothing."""

import json
from pathlib import Path

import numpy as np
import torch

from builders.statistics import seeded
from jumpsteps.models.evaluator import save_evaluator
from jumpsteps.models.formats.native import save_native
from jumpsteps.models.networks.autoregressive import Autoregressive, AutoregressiveConfig
from jumpsteps.models.networks.dit import DiT, DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear

LENGTH = 16
WORDS = ["\u0120the", "\u0120house", "\u0120was", "\u0120old", ".", "\u0120garden", "\u0120and"]
SIZES = DiTConfig(len(WORDS) + 1, 16, 2, 2, cond_dim=8)


def save_novels(path: Path, sequences: int = 40) -> None:
    """An .npz file like that of text_models.py, with one book in each split."""
    tokenizer = {"model": {"type": "BPE", "vocab": {word: i for i, word in enumerate(WORDS)}}}
    arrays = {}
    for seed, split in enumerate(("train", "validation", "test")):
        tokens = torch.randint(len(WORDS), (sequences * LENGTH,), generator=seeded(seed))
        arrays[split] = tokens.numpy().astype(np.uint16)
        arrays[f"{split}_ends"] = np.array([len(tokens)])
    np.savez(path, tokenizer=json.dumps(tokenizer), name="made-up words", **arrays)


def save_text_model(folder: Path, seed: int = 0) -> None:
    """A masked network whose parameters are random, all of them."""
    torch.manual_seed(seed)
    network = DiT(SIZES)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    forward = Absorbing(vocab_size=SIZES.vocab_size, noise=LogLinear())
    save_native(folder, network, forward, output="posterior", task="text", length=LENGTH)


def save_text_evaluator(folder: Path) -> None:
    """An evaluator whose parameters are random."""
    torch.manual_seed(1)
    network = Autoregressive(AutoregressiveConfig(len(WORDS), 16, 1, 2))
    save_evaluator(folder, network, length=LENGTH)
