"""Tiny random models in the pipelines of diffusers that generate blocks of tokens."""

from functools import wraps

import torch
from diffusers import DiffusionGemmaPipeline, LLaDA2Pipeline
from torch import nn

CANVAS = 16
VOCABULARY = 24
MASK = 23


class Processor:
    """Turns any prompt into five tokens."""

    eos_token_id = None

    def apply_chat_template(self, messages, **settings):
        return {"input_ids": torch.arange(2, 7)[None]}

    def batch_decode(self, sequences, **settings):
        return [" ".join(map(str, row.tolist())) for row in sequences]


def gemma_pipeline(scheduler):
    """``DiffusionGemmaPipeline`` with canvases of 16 tokens of 24 symbols, and random weights."""
    from transformers import (
        DiffusionGemmaConfig,
        DiffusionGemmaForBlockDiffusion,
        DiffusionGemmaTextConfig,
        Gemma4VisionConfig,
    )

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "head_dim": 8}
    text = DiffusionGemmaTextConfig(
        vocab_size=VOCABULARY,
        num_hidden_layers=2,
        num_key_value_heads=1,
        global_head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"],
        num_experts=2,
        top_k_experts=1,
        moe_intermediate_size=8,
        **sizes,
    )
    vision = Gemma4VisionConfig(
        num_hidden_layers=1, num_key_value_heads=2, position_embedding_size=16, **sizes
    )
    config = DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=CANVAS)
    torch.manual_seed(0)
    model = DiffusionGemmaForBlockDiffusion(config).eval()
    decoder = model.model.decoder
    decoder.create_diffusion_decoder_attention_mask = with_old_name_of_cache(
        decoder.create_diffusion_decoder_attention_mask
    )
    return quiet(DiffusionGemmaPipeline(model=model, scheduler=scheduler, processor=Processor()))


def with_old_name_of_cache(function):
    """diffusers 0.42 calls ``past_key_values`` what transformers 5.24 calls ``cache``."""

    @wraps(function)
    def renamed(**arguments):
        if "past_key_values" in arguments:
            arguments["cache"] = arguments.pop("past_key_values")
        return function(**arguments)

    return renamed


class TinyMaskedLM(nn.Module):
    """Random logits of a token, its position and the mean of all tokens, called as LLaDA2 is."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.token, self.position = nn.Embedding(VOCABULARY, 8), nn.Embedding(128, 8)
        self.head = nn.Linear(8, VOCABULARY)

    def forward(self, input_ids, attention_mask, position_ids):
        hidden = self.token(input_ids) + self.position(position_ids)
        hidden = hidden + hidden.mean(1, keepdim=True)
        logits = self.head(torch.tanh(hidden))
        logits[..., MASK] = -torch.inf
        return Logits(logits)


class Logits:
    def __init__(self, logits):
        self.logits = logits


def llada2_pipeline(scheduler):
    """``LLaDA2Pipeline`` with a tiny random network of 24 symbols, the last of them MASK."""
    return quiet(LLaDA2Pipeline(model=TinyMaskedLM(), scheduler=scheduler))


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
