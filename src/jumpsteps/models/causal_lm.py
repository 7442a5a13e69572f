"""GPT-2 and its kin as evaluators: causal language models of Hugging Face transformers, by path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jumpsteps.core.files import read_json
from jumpsteps.models.tokenizer import first_line, read_tokenizer, transformers

__all__ = ["CausalLM", "is_causal_lm", "load_causal_lm"]


@dataclass(frozen=True)
class CausalLM:
    """Judges samples by their text.

    Attributes:
        network: a causal language model of transformers.
        tokenizer: its tokenizer.
        decode: tokens of the judged model to text.
    """

    network: Any
    tokenizer: Any
    decode: Callable[[Sequence[int]], str]

    @torch.no_grad()
    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean nats per token of the evaluator's own tokens, float64 [n], and its mean last hidden
        states, float64 [n, D], of samples int64 [n, L].

        Texts begin after the tokenizer's begin-of-text token, if it has one. They are cut off where
        the evaluator's longest sequence ends.

        Raises:
            ValueError: a text of fewer than two tokens.
        """
        found = [self.read_text(self.decode(row), x.device) for row in x.tolist()]
        return torch.stack([nll for nll, _ in found]), torch.stack([mean for _, mean in found])

    def read_text(self, text: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """The mean NLL, [], and the mean features, [D], of one text."""
        start = self.tokenizer.bos_token_id
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        longest = getattr(self.network.config, "max_position_embeddings", len(tokens) + 1)
        ids = torch.tensor([*([] if start is None else [start]), *tokens][:longest], device=device)
        if len(ids) < 2:
            raise ValueError("a sample has a text of fewer than two tokens; pass longer sequences")
        out = self.network(ids[None], output_hidden_states=True)
        log_p = out.logits[0, :-1].double().log_softmax(-1)
        nll = -log_p.gather(-1, ids[1:, None]).mean()
        return nll, out.hidden_states[-1][0].double().mean(0)


def is_causal_lm(folder: Path) -> bool:
    """Whether a folder's ``config.json`` names a causal language model of transformers."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    names = config.get("architectures") if isinstance(config, dict) else None
    return any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names or [])


def load_causal_lm(
    folder: Path, decode: Callable[[Sequence[int]], str], device: torch.device
) -> CausalLM:
    """The model and tokenizer in a folder; nothing is downloaded, and no code in it runs.

    Raises:
        ValueError: transformers is not installed, or it cannot read the folder.
    """
    tokenizer = read_tokenizer(folder, trusted=False)
    try:
        network = transformers().AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} cannot be read by transformers ({first_line(error)})") from None
    return CausalLM(network.to(device).eval(), tokenizer, decode)
