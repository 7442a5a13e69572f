"""A tiny BERT with a tokenizer of 55 words, as a Hugging Face checkpoint folder."""

import pytest
import torch

from builders.statistics import seeded

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

V, WORDS, LENGTH = 60, 50, 12
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
KNOWN = len(SPECIAL) + WORDS
X = torch.randint(MASK, KNOWN, (3, LENGTH), generator=seeded(0))
X[:, ::3] = MASK


def save_tokenizer(path, *, mask=True, wrap=True):
    vocab = {word: token for token, word in enumerate(SPECIAL + [f"w{i}" for i in range(WORDS)])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    if wrap:
        raw.post_processor = tokenizers.processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]"} | (
        {"mask_token": "[MASK]"} if mask else {}
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=LENGTH + 2, **names
    ).save_pretrained(path)


def bert():
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = transformers.BertConfig(
        vocab_size=V, max_position_embeddings=20, initializer_range=0.5, **sizes
    )
    torch.manual_seed(0)
    return transformers.BertForMaskedLM(config).eval()


def bert_folder(path, tokenizer=True, **options):
    network = bert()
    network.save_pretrained(path, **options)
    if tokenizer:
        save_tokenizer(path)
    return network


def modern_bert():
    """A network in bfloat16 whose rotary frequencies, float32, are in no file."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    tokens = {"pad_token_id": PAD, "bos_token_id": CLS, "cls_token_id": CLS}
    config = transformers.ModernBertConfig(
        vocab_size=V,
        num_attention_heads=2,
        max_position_embeddings=20,
        initializer_range=0.5,
        eos_token_id=SEP,
        sep_token_id=SEP,
        mask_token_id=MASK,
        **sizes,
        **tokens,
    )
    torch.manual_seed(0)
    return transformers.ModernBertForMaskedLM(config).to(torch.bfloat16).eval()
