"""Fixtures of the tests of models."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from builders.statistics import seeded

V = 60
CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput


class Config(PretrainedConfig):
    model_type = "KIND"

    def __init__(self, vocab_size=60, max_sequence_length=16, **options):
        self.vocab_size, self.max_sequence_length = vocab_size, max_sequence_length
        super().__init__(**options)


class Model(PreTrainedModel):
    config_class = Config
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, 8)
        self.head = torch.nn.Linear(8, config.vocab_size)
        self.post_init()

    def forward(self, input_ids=None):
        hidden = self.embed(input_ids)
        return MaskedLMOutput(logits=self.head(hidden + hidden.mean(1, keepdim=True)))
"""


@pytest.fixture
def remote_folder(tmp_path, monkeypatch):
    """Makes a folder with its own Python code; transformers' copy of it stays in ``tmp_path``."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(kind, **config):
        folder = tmp_path / f"tiny_{kind}"
        folder.mkdir()
        (folder / "modeling_tiny.py").write_text(CODE.replace("KIND", kind))
        auto_map = {"AutoConfig": "modeling_tiny.Config", "AutoModel": "modeling_tiny.Model"}
        config = {
            "architectures": ["Model"],
            "model_type": kind,
            "vocab_size": V,
            "auto_map": auto_map,
        } | config
        (folder / "config.json").write_text(json.dumps(config))
        shapes = {"embed.weight": (V, 8), "head.weight": (V, 8), "head.bias": (V,)}
        weights = {
            name: torch.randn(shape, generator=seeded(i))
            for i, (name, shape) in enumerate(shapes.items())
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder, weights

    return make
