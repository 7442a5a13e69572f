"""Tokenizers of a few words."""

from pathlib import Path


def save_words(folder: Path, vocab: list[str], **names: str) -> None:
    """Save a tokenizer that looks up words between blanks.

    Args:
        folder: where to.
        vocab: the words, [UNK] among them.
        names: special tokens, as keyword arguments of ``PreTrainedTokenizerFast``.
    """
    import tokenizers
    import transformers

    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, **({"unk_token": "[UNK]"} | names)
    ).save_pretrained(folder)
