"""Models of the novels: text diffusion models, and the evaluators that judge their samples.

    python experiments/text_models.py english_novels.zip novels.npz --prepare --symbols bpe
    python experiments/text_models.py novels.npz OUT --kind mdlm --symbols bpe --minutes 9
        [--hold] [--from-folder FOLDER] [--bell] [--device cuda]

The first command needs a CPU and the library tokenizers. It divides the books as
checkpoints/text-small/split.json does. Symbols are the byte-level BPE of checkpoints/text-small
(sequences of 512) or characters (256): lower-case letters and punctuation, all else left out.

The second trains for some minutes on one device and writes a checkpoint folder: `config.json`,
averaged weights in bfloat16, and the tokenizer. Kinds are `evaluator` (autoregressive), `mdlm`
(masked cross-entropy), `sedd` (score entropy) and `medium` (a larger mdlm). The learning rate
decays to zero within the minutes; with --hold it stays, so that the same command without --hold
can continue later in the same OUT. --from-folder starts from the weights in a checkpoint folder.
"""

import argparse
import hashlib
import json
import shutil
import time
import zipfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jumpsteps.core.files import read_json, write_json
from jumpsteps.models.evaluator import load_evaluator, save_evaluator
from jumpsteps.models.formats.native import NetworkConfig
from jumpsteps.models.networks.autoregressive import Autoregressive, AutoregressiveConfig
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.tasks.books import Books, paragraphs, read_books
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.loop import train
from jumpsteps.training.losses import MaskedCrossEntropy, ScoreEntropy
from jumpsteps.training.recipes import FromFiles, Recipe, held_out, train_recipe

SMALL = Path(__file__).parents[1] / "checkpoints" / "text-small"
ALPHABET = " \nabcdefghijklmnopqrstuvwxyz.,;:!?'\"-"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Symbols:
    """Sizes that depend on the symbols: V without MASK, L, batch, and the networks."""

    count: int
    length: int
    batch: int
    evaluator: AutoregressiveConfig
    networks: dict[str, NetworkConfig]
    rate: float


def dit(symbols: int, hidden_size: int, n_blocks: int, n_heads: int) -> DiTConfig:
    return DiTConfig(symbols + 1, hidden_size, n_blocks, n_heads, cond_dim=64)


CHARACTERS = Symbols(
    count=len(ALPHABET),
    length=256,
    batch=512,
    evaluator=AutoregressiveConfig(len(ALPHABET), 384, 7, 6, dropout=0.1),
    networks={
        "mdlm": dit(len(ALPHABET), 512, 8, 8),
        "sedd": dit(len(ALPHABET), 512, 8, 8),
        "medium": dit(len(ALPHABET), 640, 10, 10),
    },
    rate=1e-3,
)
BPE = Symbols(
    count=8192,
    length=512,
    batch=256,
    evaluator=AutoregressiveConfig(8192, 320, 8, 5, dropout=0.1),
    networks={
        "mdlm": dit(8192, 256, 9, 4),
        "sedd": dit(8192, 256, 9, 4),
        "medium": dit(8192, 384, 11, 6),
    },
    rate=2e-3,
)
TINY = {
    "evaluator": AutoregressiveConfig(1, 32, 2, 2),
    **dict.fromkeys(("mdlm", "sedd", "medium"), DiTConfig(1, 32, 2, 2, cond_dim=16)),
}


class NextToken:
    """Negative log-likelihood of an autoregressive network, nats per sequence [B]."""

    def __init__(self, network: Autoregressive) -> None:
        self.network = network

    def __call__(self, reverse: None, x0: Tensor, *, generator: torch.Generator) -> Tensor:
        nll = F.cross_entropy(self.network(x0).flatten(0, 1), x0.flatten(), reduction="none")
        return nll.float().view(x0.shape).sum(-1)


def character_tokenizer() -> dict[str, object]:
    """The content of ``tokenizer.json``: a symbol for each character of the alphabet.

    Accents, and characters outside the alphabet, are left out; capitals become small.
    """
    replaced = [("Replace", {"pattern": {"String": "\u2019"}, "content": "'"})]
    for quote in "\u201c\u201d":
        replaced.append(("Replace", {"pattern": {"String": quote}, "content": '"'}))
    outside = "[^" + ALPHABET.replace("-", "\\-") + "]"
    replaced.append(("Replace", {"pattern": {"Regex": outside}, "content": ""}))
    steps = [{"type": "NFKD"}, {"type": "Lowercase"}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*steps, *({"type": name, **values} for name, values in replaced)],
        },
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[\\s\\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {character: i for i, character in enumerate(ALPHABET)},
            "unk_token": " ",
        },
    }


def prepare(source: Path, out: Path, symbols: str) -> None:
    """Write the tokens of every split."""
    from tokenizers import Tokenizer

    description = read_json(SMALL / "tokenizer.json") if symbols == "bpe" else character_tokenizer()
    tokenizer = Tokenizer.from_str(json.dumps(description))
    split = read_json(SMALL / "split.json")
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(source) as file:
        for name in SPLITS:
            books = []
            for book in split[name]["books"]:
                text = paragraphs(file.read(f"corpus/{book}.txt").decode("utf-8-sig"))
                books.append(np.array(tokenizer.encode(text).ids, dtype=np.uint16))
            arrays[name] = np.concatenate(books)
            arrays[f"{name}_ends"] = np.cumsum([len(book) for book in books])
            print(f"{name}: {len(books)} books, {len(arrays[name]):,} tokens", flush=True)
    digest = hashlib.sha256(arrays["train"].tobytes()).hexdigest()
    np.savez_compressed(
        out,
        tokenizer=json.dumps(description),
        name=f"english_novels train sha256:{digest}",
        **arrays,
    )


def recipe_of(
    kind: str, size: Symbols, network: NetworkConfig, config: TrainConfig, *, bell: bool
) -> Recipe:
    """The recipe of a diffusion model."""
    return Recipe(
        task="text",
        length=size.length,
        forward=Absorbing(vocab_size=size.count + 1, noise=LogLinear()),
        network=network,
        output="log-score" if kind == "sedd" else "posterior",
        loss=ScoreEntropy() if kind == "sedd" else MaskedCrossEntropy(bell=bell),
        data=FromFiles(partial(books_on, length=size.length), "the .npz file of --prepare"),
        config=config,
    )


def books_on(path: Path, device: torch.device, *, length: int) -> Books:
    return read_books(path, length).to(device)


def train_evaluator(
    sizes: AutoregressiveConfig, config: TrainConfig, data: Books, out: Path, start: Path | None
) -> None:
    """Train an evaluator and write its folder."""
    torch.manual_seed(config.seed)
    device = data.test.device
    network = Autoregressive(sizes).to(device)
    if start is not None:
        network.load_state_dict(load_evaluator(start, device).state_dict())
    loss = NextToken(network)
    evaluate = held_out(None, loss, data.test, config.batch)
    result = train(
        None, network, loss, data.sample_data, config, out, evaluate=evaluate, progress=False
    )
    network.load_state_dict(network.state_dict() | result.average)
    record = {"step": result.step, "sequences": result.step * config.batch}
    save_evaluator(out, network, length=data.length, data=data.name, training=record)


def run_training(args: argparse.Namespace) -> None:
    """Train one model, and say how fast and how well."""
    size = CHARACTERS if args.symbols == "characters" else BPE
    network = size.evaluator if args.kind == "evaluator" else size.networks[args.kind]
    if args.tiny:
        network = replace(TINY[args.kind], vocab_size=network.vocab_size)
    cuda = args.device.startswith("cuda")
    config = TrainConfig(
        steps=args.steps,
        batch=args.batch or size.batch,
        learning_rate=args.rate or size.rate,
        warmup=args.warmup,
        weight_decay=0.05,
        ema=0.999,
        seed=args.seed,
        bf16=cuda,
        compile=cuda,
        save_every=5000,
        evaluate_every=args.evaluate_every,
        max_seconds=60 * args.minutes,
        finish=not args.hold,
    )
    device, began = torch.device(args.device), time.monotonic()
    torch.set_float32_matmul_precision("high")
    if args.kind == "evaluator":
        data = books_on(args.data, device, length=size.length)
        train_evaluator(network, config, data, args.out, args.from_folder)
    else:
        train_recipe(
            recipe_of(args.kind, size, network, config, bell=args.bell),
            args.out,
            device,
            data=args.data,
            max_minutes=args.minutes,
            finish=not args.hold,
            start_from=args.from_folder,
            progress=False,
        )
    with np.load(args.data) as file:
        (args.out / "tokenizer.json").write_text(str(file["tokenizer"]), encoding="utf-8")
    shutil.copy(SMALL / "tokenizer_config.json", args.out)
    report(args.out, size.length, config.batch, time.monotonic() - began)


def report(out: Path, length: int, batch: int, seconds: float) -> None:
    """Print the log per token, and add what was measured to the config."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if "held_out_loss" in line:
            tokens = line["step"] * batch * length
            print(
                f"step {line['step']}, {line['seconds']:.0f} s, "
                f"{tokens / line['seconds']:,.0f} tokens per second: "
                f"validation {line['held_out_loss'] / length:.4f} nats per token"
            )
    held = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    if held:
        config = read_json(out / "config.json")
        write_json(out / "config.json", config | {"validation_nll": held[-1] / length})
    print(f"{seconds:.0f} s in all, the model is in {out}")


def run() -> None:
    """Prepare data, or train a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the .npz file; with --prepare the novels")
    parser.add_argument("out", type=Path, help="a folder; with --prepare the .npz file to write")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--symbols", choices=["bpe", "characters"], required=True)
    parser.add_argument("--kind", choices=sorted(TINY), default="mdlm")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--hold", action="store_true", help="leave the learning rate as it is")
    parser.add_argument("--from-folder", type=Path, help="start from the weights of this folder")
    parser.add_argument("--rate", type=float, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1_000_000, help="no more than these")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--bell", action="store_true", help="mdlm: bell-shaped times of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a network of no use, to try it out")
    args = parser.parse_args()
    if args.prepare:
        prepare(args.data, args.out, args.symbols)
    else:
        run_training(args)


if __name__ == "__main__":
    run()
