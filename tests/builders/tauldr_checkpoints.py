"""Checkpoint folders in tauLDR's layout, with random weights and tiny sizes."""

import numpy as np
import torch
import yaml

from builders.statistics import seeded
from builders.tauldr_reference import PlainTransformer, PlainUNet, random_weights
from jumpsteps.models.formats.tauldr import load_tauldr
from jumpsteps.models.networks.transformer import TransformerConfig
from jumpsteps.models.networks.unet import UNetConfig

UNET_CONFIG = UNetConfig(
    vocab_size=7,
    shape=(2, 4, 6),
    channels=8,
    multipliers=(1, 2),
    n_blocks=2,
    attention_at=1,
    time_dim=6,
    time_scale=100.0,
)
TRANSFORMER_CONFIG = TransformerConfig(
    vocab_size=5,
    length=6,
    hidden_size=8,
    feedforward_size=12,
    n_layers=2,
    n_heads=2,
    n_output_layers=2,
    time_dim=7,
    time_scale=100.0,
)
UNET, TRANSFORMER = PlainUNet(), PlainTransformer()
PLAIN = {"image": UNET, "piano": TRANSFORMER}
COMMON = {
    "device": "cpu",
    "distributed": False,
    "loss": {"eps_ratio": 1e-9},
    "saving": {"preemption_start_day": None},
}
CONFIGS = {
    "image": COMMON
    | {
        "data": {"name": "DiscreteCIFAR10", "S": 7, "shape": [2, 4, 6], "batch_size": 4},
        "model": {
            "name": "GaussianTargetRateImageX0PredEMA",
            "ema_decay": 0.9999,
            "ch": 8,
            "num_res_blocks": 2,
            "num_scales": 2,
            "ch_mult": [1, 2],
            "input_channels": 2,
            "scale_count_to_put_attn": 1,
            "data_min_max": [0, 6],
            "dropout": 0.1,
            "skip_rescale": True,
            "time_embed_dim": 6,
            "time_scale_factor": 100,
            "fix_logistic": False,
            "rate_sigma": 1.5,
            "Q_sigma": 4.0,
            "time_exponential": 10.0,
            "time_base": 0.5,
        },
    },
    "piano": COMMON
    | {
        "data": {"name": "LakhPianoroll", "S": 5, "shape": [6], "batch_size": 4},
        "model": {
            "name": "UniformRateSequenceTransformerEMA",
            "num_layers": 2,
            "d_model": 8,
            "num_heads": 2,
            "dim_feedforward": 12,
            "dropout": 0.1,
            "temb_dim": 7,
            "num_output_FFresiduals": 2,
            "time_scale_factor": 100,
            "use_one_hot_input": True,
            "ema_decay": 0.9999,
            "rate_const": 0.3,
            "rate_sigma": 3.0,
            "sigma_min": 1.0,
        },
    },
}
TOKENS = {
    "image": torch.randint(7, (2, 48), generator=seeded(1)),
    "piano": torch.randint(5, (2, 6), generator=seeded(1)),
}


def tauldr_folder(
    path, kind="image", *, weights=None, averages=None, prefix="net.", config=None, **extra
):
    """The published layout: everything that training saves, under the names that it saves it."""
    path.mkdir(exist_ok=True)
    (path / "config_001.yaml").write_text(yaml.dump(CONFIGS[kind] if config is None else config))
    weights = random_weights(PLAIN[kind].layout()) if weights is None else weights
    state = {prefix + name: value for name, value in weights.items()}
    if averages is not None:
        state |= {"ema_decay": 0.9999, "ema_num_updates": 7, "ema_shadow_params": averages}
    optimizer = {
        "state": {0: {"step": 7}},
        "param_groups": [{"lr": 2e-4 * np.minimum(7 / 5000, 1.0), "params": [0]}],
    }
    torch.save(
        {"model": state, "optimizer": optimizer, "n_iter": 7} | extra, path / "ckpt_0000000007.pt"
    )
    return path


def load_tiny(path):
    return load_tauldr(path, "tiny", torch.device("cpu"))
