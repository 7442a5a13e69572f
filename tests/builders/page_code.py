"""The blocks of code of the pages, and small stand-ins for what they name.

A fenced block of Python or shell is run as it is printed, unless a line above it says otherwise:

    <!-- run: slow -->               run, but left out by `make fast`
    <!-- run: no, needs a GPU -->    not run; the reason follows
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import jumpsteps
from builders.antiberty import antiberty_folder
from builders.midi import midi, note, track
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.tasks import countdown

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("checkpoints/*/README.md")]
)
FENCE = re.compile(
    r"^(?:<!-- run: (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M
)
SYMBOLS, LENGTH = 5, 32
"""Of the stand-in for CountDown models."""


@dataclass(frozen=True)
class Block:
    """A fenced block: the page's path in the repository, the line it begins at, and its mark."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("no")

    @property
    def slow(self) -> bool:
        return self.mark == "slow"


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text[: m.start()].count("\n") + 1, m["language"], m["text"], m["mark"] or "")
        for m in FENCE.finditer(text)
    ]


def commands_of(block: Block, values: dict[str, str]) -> list[list[str]]:
    """The commands of a block of shell as words, with $NAMES replaced and comments left out."""
    text = block.text.replace("\\\n", "")
    for name, value in values.items():
        text = text.replace(f'"${name}"', shlex.quote(value)).replace(f"${name}", value)
    commands = [one for line in text.splitlines() for one in line.split(" && ")]
    return [words for one in commands if (words := shlex.split(one, comments=True))]


def small_countdown(kernel: str = "absorbing") -> LoadedModel:
    """CountDown with few symbols at few sites, exact."""
    forward = {
        "absorbing": jumpsteps.Absorbing(vocab_size=SYMBOLS + 1, noise=jumpsteps.LogLinear()),
        "uniform": jumpsteps.Uniform(vocab_size=SYMBOLS, noise=jumpsteps.LogLinear()),
    }[kernel]
    reverse = jumpsteps.PosteriorReverse(forward, MarkovChain(forward, *countdown.chain(SYMBOLS)))

    def sample_data(n: int, generator: torch.Generator) -> torch.Tensor:
        return countdown.sample_data(n, generator=generator, symbols=SYMBOLS, length=LENGTH)

    task = replace(countdown.TASK, length=LENGTH, symbols=SYMBOLS, sample_data=sample_data)
    schedule = jumpsteps.uniform_counts(8, LENGTH, jumpsteps.Golden())
    file = Path("schedules-of-the-model.json")
    if kernel == "absorbing":
        jumpsteps.save_schedules(file, {8: schedule})
    return LoadedModel(f"small-{kernel}", reverse, LENGTH, "0" * 64, task, schedules_file=file)


def song() -> bytes:
    """A MIDI file of two bars of quarter notes."""
    notes = [event for i in range(8) for event in note(480 * i, 480 * (i + 1), 60 + i)]
    return midi(track(*notes))


WORDS = ["once", "upon", "a", "time", "it", "was", "the", "best", "of", "times", "worst"]


def save_tokenizer(folder: Path) -> int:
    """A tokenizer of the words, as a folder of Hugging Face; returns how many symbols it has."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate(special + sorted(set(WORDS)))}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.normalizer = tokenizers.normalizers.Lowercase()
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    raw.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=66, **names
    ).save_pretrained(folder)
    return len(vocabulary)


def word_gpt2(folder: Path) -> Path:
    """A tiny GPT-2 for the same words, which judges texts."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=save_tokenizer(folder),
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def word_bert(folder: Path) -> Path:
    """A tiny BERT for up to 64 words, with its tokenizer, as a folder of Hugging Face."""
    transformers = pytest.importorskip("transformers")
    vocabulary = save_tokenizer(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=66,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


def write_files(folder: Path) -> None:
    """What the commands of the pages read."""
    rng = np.random.default_rng(0)
    np.savez(folder / "tokens.npz", tokens=rng.integers(SYMBOLS, size=(32, LENGTH)))
    (folder / "book.txt").write_text(" ".join(rng.choice(WORDS, size=1200)), encoding="utf-8")
    (folder / "song.mid").write_bytes(song())
    np.savez(folder / "melodies.npz", tokens=rng.integers(129, size=(2, 256)))


CHAIN = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWV???????????ARIYPTNGYTRYADSVKGRF"

Stand = Callable[[Path], str]
STANDS: dict[str, dict[str, Stand]] = {
    "docs/models.md": {"MODEL": lambda folder: str(word_bert(folder / "bert"))},
    "docs/getting_started.md": {
        "FOLDER": lambda folder: str(word_bert(folder / "bert")),
        "GPT2": lambda folder: str(word_gpt2(folder / "gpt2")),
    },
    "docs/corrector.md": {"FOLDER": lambda folder: str(antiberty_folder(folder / "antiberty"))},
    "docs/piano.md": {"pop909.zip": lambda folder: str(folder / "melodies.npz")},
    "docs/antibodies.md": {"$FOLDER": lambda folder: str(antiberty_folder(folder / "antiberty"))},
}
"""Page -> word of its commands (or $VARIABLE) -> what stands for it."""
