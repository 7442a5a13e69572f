"""Masked language models of Hugging Face transformers, read as denoisers of masked diffusion.

A folder holds ``config.json``, the weights (``model.safetensors`` or ``pytorch_model.bin``, sharded
or not) and usually a tokenizer. Two kinds are supported:

* models whose ``architectures`` end in ``ForMaskedLM`` (BERT, RoBERTa, ESM ...);
* diffusion language models with Python code of their own: LLaDA (Nie et al. 2025) and Dream (Ye et
  al. 2025).

None of them is conditioned on time, which the posterior of the absorbing kernel does not depend on.
Sequences are token ids without the tokens that a tokenizer puts around a text, such as BERT's [CLS]
and [SEP]. ``MaskedLanguageModel`` adds these tokens and leaves their sites out of the output.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from jumpsteps.core.files import read_json
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.formats.masked_lm_weights import (
    digest_of,
    has_masked_head,
    read_or_unread,
    weight_files,
)
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.models.networks.compiled import CompiledShapes, padded
from jumpsteps.models.tokenizer import (
    Text,
    has_tokenizer,
    never_sampled,
    read_tokenizer,
    transformers,
)
from jumpsteps.models.unread import settled
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear, Time

__all__ = ["MaskedLanguageModel", "is_masked_lm", "load_masked_lm"]

DIFFUSION_MASKS = {"llada": 126336, "Dream": 151666}
"""``model_type`` -> MASK of diffusion language models, if tokenizer and config do not name it."""

SHIFTED = {"Dream"}
"""Model types whose logits for site l are at l - 1, as in the causal models that they come from."""


class MaskedLanguageModel(nn.Module):
    """A masked language model as log p(x_0 | x_t): a ``Model`` for ``PosteriorReverse``.

    For the absorbing kernel.

    Args:
        network: token ids int64 [B, L] to an object whose ``logits`` are [B, L, V].
        vocab_size: V.
        mask_id: MASK, whose probability is set to zero.
        known: ids that data can contain; all but MASK by default. Others get probability zero.
        wrap: token ids put before and after every sequence. Their sites are not in the output.
        shift: whether the logits for site l are at l - 1 (for the first site, at that site).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        vocab_size: int,
        mask_id: int,
        known: Iterable[int] | None = None,
        wrap: tuple[Sequence[int], Sequence[int]] = ((), ()),
        shift: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.shift = network, shift
        self.shapes: CompiledShapes | None = None
        never = (
            torch.zeros(vocab_size, dtype=torch.bool)
            if known is None
            else missing(known, vocab_size)
        )
        never[mask_id] = True
        self.register_buffer("never", never, persistent=False)
        self.register_buffer("before", torch.tensor(wrap[0], dtype=torch.int64), persistent=False)
        self.register_buffer("after", torch.tensor(wrap[1], dtype=torch.int64), persistent=False)

    def compile_trunk(self) -> None:
        """Compile the network below the head, once per shape; see ``CompiledShapes``.

        Raises:
            ValueError: a network without a separate ``base_model``.
        """
        trunk = getattr(self.network, "base_model", self.network)
        if trunk is self.network:
            raise ValueError(
                f"{type(self.network).__name__} does not say what its trunk is and cannot be "
                "compiled"
            )
        self.shapes = CompiledShapes()
        trunk.compile(dynamic=False)

    def forward(self, x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
        """Log-probabilities, float32 [B, L, V] or [K, V].

        Minus infinity at MASK and at ids that data cannot contain.
        """
        before, after = (self.get_buffer(name).expand(len(x), -1) for name in ("before", "after"))
        tokens, first = torch.cat([before, x, after], 1), before.shape[1]
        if self.shapes is not None:
            tokens = padded(tokens, self.shapes.batch_size(*tokens.shape))
        if where is None:
            logits = self.shifted(self.network(tokens).logits)[: len(x), first:][:, : x.shape[1]]
        else:
            row, site = where.nonzero().unbind(1)
            logits = self.logits_at(
                tokens, row * tokens.shape[1] + (first + site - int(self.shift)).clamp_min(0)
            )
        return logits.float().masked_fill(self.get_buffer("never"), -torch.inf).log_softmax(-1)

    def shifted(self, logits: Tensor) -> Tensor:
        """Logits moved from l - 1 to l, if ``shift``."""
        return torch.cat([logits[:, :1], logits[:, :-1]], 1) if self.shift else logits

    def logits_at(self, tokens: Tensor, sites: Tensor) -> Tensor:
        """Logits [K, V] at these indices of the flattened tokens [B, L].

        The product with the table of V output embeddings is computed for these sites only. If the
        network has no separate layer for it, all logits are computed and then selected.
        """
        selected = False

        def select(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            nonlocal selected
            if inputs[0].shape[:2] != tokens.shape:
                return None
            selected = True
            return (inputs[0].flatten(0, 1)[sites][None], *inputs[1:])

        head = find_head(self.network)
        handle = head.register_forward_pre_hook(select) if head is not None else None
        try:
            logits: Tensor = self.network(tokens).logits
        finally:
            if handle is not None:
                handle.remove()
        return logits[0] if selected else logits.flatten(0, 1)[sites]


def find_head(network: nn.Module) -> nn.Module | None:
    """The layer of output embeddings, or None if the network does not name it."""
    head = getattr(network, "get_output_embeddings", lambda: None)()
    return head if isinstance(head, nn.Module) else None


def missing(known: Iterable[int], vocab_size: int) -> Tensor:
    """The ids that are not in ``known``, bool [V]."""
    never = torch.ones(vocab_size, dtype=torch.bool)
    never[[token for token in known if token < vocab_size]] = False
    return never


def is_masked_lm(config: dict[str, Any]) -> bool:
    """Whether ``load_masked_lm`` reads checkpoints with this ``config.json``."""
    return has_masked_head(config) or str(config.get("model_type")) in DIFFUSION_MASKS


def load_masked_lm(
    folder: Path,
    name: str,
    device: torch.device,
    *,
    trust_remote_code: bool = False,
    mask_id: int | None = None,
    length: int | None = None,
    tokenizer_folder: Path | None = None,
) -> LoadedModel:
    """Read the folder of a masked language model; nothing is downloaded.

    Args:
        trust_remote_code: whether Python code in the folder may run. LLaDA and Dream need it.
        mask_id: MASK. The default is the tokenizer's, else the config's ``mask_token_id``, else
            that of ``DIFFUSION_MASKS``.
        length: L without the tokens around a sequence. The default is the longest that the
            positions and the tokenizer allow.
        tokenizer_folder: folder of the tokenizer. The default is ``folder`` if it holds one.

    Raises:
        ValueError: transformers is not installed; no masked language model, or one that
            transformers cannot read; its code may not run; MASK or length is not known; the
            tokenizer has an id that is no symbol of the model.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or not is_masked_lm(config):
        raise ValueError(
            f"{folder / 'config.json'} is not that of a masked language model "
            "(BERT and its like, LLaDA, Dream)"
        )
    library = transformers()
    check_trust(folder, config, library, trust_remote_code)
    files = weight_files(folder)
    tokenizer = find_tokenizer(folder, tokenizer_folder, trust_remote_code)
    network, read_parts = read_or_unread(folder, config, library, trust_remote_code, files, device)
    mask_id = find_mask(folder, mask_id, tokenizer, network.config)
    wrap = tokens_around(tokenizer) if has_masked_head(config) else ([], [])
    length = find_length(folder, length, tokenizer, network.config, len(wrap[0]) + len(wrap[1]))
    vocab_size = int(network.config.vocab_size)
    forward = Absorbing(vocab_size=vocab_size, noise=LogLinear(), mask_id=mask_id)
    known, excluded = symbols_of(tokenizer, wrap[0] + wrap[1], mask_id)
    text = None if tokenizer is None else Text(tokenizer, forward)
    model = MaskedLanguageModel(
        network,
        vocab_size=vocab_size,
        mask_id=mask_id,
        known=known,
        wrap=wrap,
        shift=config.get("model_type") in SHIFTED,
    )
    settled(model, device)
    reverse, digest = PosteriorReverse(forward, model), digest_of(files)
    return LoadedModel(
        name, reverse, length, digest, None, text, excluded=excluded, read_parts=read_parts
    )


def symbols_of(
    tokenizer: Any, around: list[int], mask_id: int
) -> tuple[set[int] | None, tuple[int, ...]]:
    """Ids that data can contain, and those that are never sampled; all and none without a
    tokenizer.

    Args:
        around: ids that the tokenizer puts around a text.
    """
    if tokenizer is None:
        return None, ()
    excluded = never_sampled(tokenizer, around) - {mask_id}
    return set(tokenizer.get_vocab().values()) - excluded, tuple(sorted(excluded))


def check_trust(folder: Path, config: dict[str, Any], library: ModuleType, trusted: bool) -> None:
    """Raise ValueError if the model's code is in the folder only, and may not run."""
    if (
        "auto_map" in config
        and config.get("model_type") not in library.CONFIG_MAPPING
        and not trusted
    ):
        raise ValueError(
            f"{folder} brings Python code of its own; "
            "read it, then pass --trust-remote-code to let it run"
        )


def find_tokenizer(folder: Path, tokenizer_folder: Path | None, trusted: bool) -> Any:
    """The tokenizer in ``tokenizer_folder``, or that in ``folder``; None if there is none."""
    if tokenizer_folder is None and has_tokenizer(folder):
        tokenizer_folder = folder
    return None if tokenizer_folder is None else read_tokenizer(tokenizer_folder, trusted=trusted)


def find_mask(folder: Path, mask_id: int | None, tokenizer: Any, config: Any) -> int:
    """MASK: ``mask_id`` if given, else the default of ``load_masked_lm``."""
    candidates = [
        mask_id,
        getattr(tokenizer, "mask_token_id", None),
        getattr(config, "mask_token_id", None),
        DIFFUSION_MASKS.get(config.model_type),
    ]
    for candidate in candidates:
        if candidate is not None:
            return candidate
    raise ValueError(
        f"neither the tokenizer nor config.json of {folder} names a mask token; pass mask_id"
    )


def tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer puts before and after a text, such as [CLS] and [SEP].

    They are found by encoding the mask token; without one, none are assumed.
    """
    if tokenizer is None or tokenizer.mask_token_id is None:
        return [], []
    ids = tokenizer(tokenizer.mask_token)["input_ids"]
    site = ids.index(tokenizer.mask_token_id)
    return ids[:site], ids[site + 1 :]


def find_length(folder: Path, length: int | None, tokenizer: Any, config: Any, around: int) -> int:
    """L without the ``around`` tokens that the model adds: ``length``, or the longest allowed."""
    limits = [
        getattr(config, "max_position_embeddings", None),
        getattr(config, "max_sequence_length", None),
        getattr(tokenizer, "model_max_length", None),
    ]
    longest = min(
        (limit - around for limit in limits if limit is not None and limit < 10**9), default=length
    )
    if longest is None:
        raise ValueError(
            f"config.json of {folder} does not say how long a sequence is; pass length"
        )
    length = longest if length is None else length
    if not 1 <= length <= longest:
        raise ValueError(f"length must lie in 1..{longest} for {folder}, got {length}")
    return length
