"""Folders in the layout of the published tauLDR checkpoints, with random weights and tiny sizes."""

import copy
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from scipy.linalg import expm

import jumpsteps
from builders.kernels import gaussian_rates
from builders.statistics import seeded
from builders.tauldr_checkpoints import (
    CONFIGS,
    PLAIN,
    TOKENS,
    TRANSFORMER,
    TRANSFORMER_CONFIG,
    UNET,
    UNET_CONFIG,
    load_tiny,
    tauldr_folder,
)
from builders.tauldr_reference import random_weights
from jumpsteps import Given, TimeSchedule, Tweedie, simulate
from jumpsteps.models.formats.tauldr import is_tauldr
from jumpsteps.models.loaded import file_hash
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Constant, Exponential
from jumpsteps.process.uniform import Uniform

CPU = torch.device("cpu")
T = torch.tensor([0.3, 0.8])


def change(kind, key, value):
    """The config with one value changed, or without it if the value is ``None``."""
    config = copy.deepcopy(CONFIGS[kind])
    section, name = key.split(".")
    config[section].pop(name)
    if value is not None:
        config[section][name] = value
    return config


def image_distribution(weights, x, t):
    """p(x_0 | x_t), float64 [B, L, V]: logistic masses of 7 bins with the published floor."""
    location, log_scale = (part.flatten(1).double()[..., None] for part in UNET(weights, x, t))
    edges = torch.linspace(-1, 1, 8, dtype=torch.float64)
    below = torch.sigmoid((edges - location) * torch.exp(2 - log_scale))
    mass = below[..., 1:] - below[..., :-1] + 1e-6 * below[..., 1:]
    return mass / mass.sum(-1, keepdim=True)


def piano_distribution(weights, x, t):
    """p(x_0 | x_t), float64 [B, L, V]; the published code rounds the time down to 0."""
    return TRANSFORMER(weights, x, torch.zeros_like(t)).double().softmax(-1)


DISTRIBUTIONS = {"image": image_distribution, "piano": piano_distribution}


@pytest.mark.parametrize("kind", ["image", "piano"])
@pytest.mark.parametrize("prefix", ["net.", "net.module."])
@pytest.mark.parametrize("averaged", [False, True])
@torch.no_grad()
def test_a_published_folder_equals_the_plain_evaluation(tmp_path, kind, prefix, averaged):
    layout = PLAIN[kind].layout()
    last, averages = random_weights(layout, seed=0), random_weights(layout, seed=1)
    folder = tauldr_folder(
        tmp_path / "model",
        kind,
        weights=last,
        averages=list(averages.values()) if averaged else None,
        prefix=prefix,
    )
    loaded = jumpsteps.load(folder)
    assert (loaded.name, loaded.length, loaded.task) == (str(folder), TOKENS[kind].shape[1], None)
    assert loaded.digest == file_hash(folder / "ckpt_0000000007.pt")
    assert not loaded.reverse.model.training
    used, other = (averages, last) if averaged else (last, averages)
    expected, wrong = (DISTRIBUTIONS[kind](w, TOKENS[kind], T) for w in (used, other))
    assert (expected - wrong).abs().max() > 0.05
    torch.testing.assert_close(
        loaded.reverse.posterior(TOKENS[kind], T).double(), expected, atol=1e-5, rtol=0
    )
    where = torch.rand(TOKENS[kind].shape, generator=seeded(2)) < 0.5
    torch.testing.assert_close(
        loaded.reverse.posterior(TOKENS[kind], T, where).double(),
        expected[where],
        atol=1e-5,
        rtol=0,
    )


def test_the_forward_processes_are_the_published_ones(tmp_path):
    image = load_tiny(tauldr_folder(tmp_path / "image")).reverse.forward
    assert image == Gaussian(
        vocab_size=7, rate_sigma=1.5, q_sigma=4.0, noise=Exponential(base=10.0, scale=0.5)
    )
    piano = load_tiny(tauldr_folder(tmp_path / "piano", "piano")).reverse.forward
    assert piano == Uniform(vocab_size=5, noise=Constant(1.5))
    rates = piano.rate(0.4)
    assert torch.allclose(rates[~torch.eye(5, dtype=torch.bool)], torch.tensor(0.3).double())


def test_every_setting_reaches_the_network(tmp_path):
    config = change("image", "model.fix_logistic", True)
    config["model"] |= {"dropout": 0.25, "skip_rescale": False}
    found = load_tiny(tauldr_folder(tmp_path / "image", config=config)).reverse.model.network.config
    assert found == replace(UNET_CONFIG, dropout=0.25, rescale=False, symmetric=True)
    weights = random_weights(TRANSFORMER.layout(ordinal=True))
    config = change("piano", "model.use_one_hot_input", False)
    config["model"]["dropout"] = 0.25
    found = load_tiny(
        tauldr_folder(tmp_path / "piano", "piano", weights=weights, config=config)
    ).reverse.model.network.config
    assert found == replace(TRANSFORMER_CONFIG, ordinal=True, dropout=0.25)


def published_rates(kind, t):
    """R_t and q_{t|0} of the published code for the tiny configs, float64 [V, V]."""
    if kind == "image":
        base = gaussian_rates(7, 1.5, 4.0)
        return 0.5 * math.log(10) * 10**t * base, expm(0.5 * (10**t - 1) * base)
    base = 0.3 * (np.ones((5, 5)) - 5 * np.eye(5))
    return base, expm(t * base)


@pytest.mark.parametrize("kind", ["image", "piano"])
@torch.no_grad()
def test_reverse_rates_are_those_of_the_paper(tmp_path, kind):
    """R(y, x) sum_x0 p(x_0 | x_t) q(y | x_0) / q(x | x_0) (Campbell et al. 2022, Eq. 7)."""
    weights = random_weights(PLAIN[kind].layout())
    x = TOKENS[kind]
    rates = load_tiny(tauldr_folder(tmp_path / "model", kind, weights=weights)).reverse.rates(x, T)
    probs = DISTRIBUTIONS[kind](weights, x, T).numpy()
    expected = np.zeros(rates.shape)
    for b, site in np.ndindex(*x.shape):
        forward, q = published_rates(kind, float(T[b]))
        own = int(x[b, site])
        for y in set(range(probs.shape[2])) - {own}:
            expected[b, site, y] = forward[y, own] * sum(probs[b, site] * q[:, y] / q[:, own])
    assert expected.std(axis=(0, 1)).max() > 0.1
    torch.testing.assert_close(rates.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_piece_is_continued_and_an_image_is_drawn(tmp_path):
    piano = load_tiny(tauldr_folder(tmp_path / "piano", "piano"))
    given = Given(tokens=torch.tensor([4, 2, 0, 0, 0, 0]), mask=torch.arange(6) < 2)
    times = TimeSchedule([1, 0.5, 0])
    samples = simulate(
        piano.reverse, Tweedie(), times, (3, 6), generator=seeded(0), given=given
    ).samples
    assert (samples[:, :2] == torch.tensor([4, 2])).all()
    image = load_tiny(tauldr_folder(tmp_path / "image"))
    assert simulate(image.reverse, Tweedie(), times, (3, 48), generator=seeded(0)).samples.max() < 7


def test_files_may_lie_in_the_folders_of_training_and_the_last_by_name_counts(tmp_path):
    tauldr_folder(tmp_path)
    for file, inside in (("config_001.yaml", "config"), ("ckpt_0000000007.pt", "checkpoints")):
        (tmp_path / inside).mkdir()
        (tmp_path / file).rename(tmp_path / inside / file)
    first = load_tiny(tmp_path)
    assert first.digest == file_hash(tmp_path / "checkpoints" / "ckpt_0000000007.pt")
    weights = random_weights(UNET.layout(), seed=5)
    torch.save(
        {"model": {f"net.{name}": value for name, value in weights.items()}},
        tmp_path / "checkpoints" / "ckpt_0000000010.pt",
    )
    (tmp_path / "config" / "config_002.yaml").write_text(
        yaml.dump(change("image", "model.rate_sigma", 2.0))
    )
    second = load_tiny(tmp_path)
    assert second.digest == file_hash(tmp_path / "checkpoints" / "ckpt_0000000010.pt")
    assert second.reverse.forward.rate_sigma == 2.0


def test_which_folders_are_tauldr(tmp_path):
    assert is_tauldr(tauldr_folder(tmp_path / "a"))
    for i, missing in enumerate(("config_001.yaml", "ckpt_0000000007.pt")):
        folder = tauldr_folder(tmp_path / f"b{i}")
        (folder / missing).unlink()
        assert not is_tauldr(folder)
        with pytest.raises(
            ValueError, match=r"is no tauLDR checkpoint; it needs a \.yaml config and a \.pt file"
        ):
            load_tiny(folder)
        with pytest.raises(ValueError, match=r"is no checkpoint, because it has no config\.json"):
            jumpsteps.load(folder)
    native = tauldr_folder(tmp_path / "c")
    (native / "config.json").write_text("{}")
    assert not is_tauldr(native)


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as error:
        load_tiny(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "key", "value", "message"),
    [
        (
            "image",
            "model.name",
            "GaussianRateResidualMLP",
            "'GaussianRateResidualMLP' is not supported; known tauLDR models: Gaussian",
        ),
        ("image", "model.name", None, "model.name must be a text, got None"),
        (
            "image",
            "data.shape",
            [48],
            r"data.shape must be a list of 3 whole numbers >= 1, got \[48\]",
        ),
        ("image", "data.shape", [2, 4, 5], "multiples of 2, got shape"),
        (
            "image",
            "data.S",
            8,
            r"model.data_min_max must be \[0, 7\] \(the symbols that data.S says\), got \[0, 6\]",
        ),
        ("image", "data.S", 0, "data.S must be a whole number >= 1, got 0"),
        (
            "image",
            "model.input_channels",
            3,
            r"model.input_channels must be 2 \(the first number of data.shape\), got 3",
        ),
        (
            "image",
            "model.num_scales",
            3,
            r"model.num_scales must be 2 \(as many as in model.ch_mult\), got 3",
        ),
        ("image", "model.ch_mult", [1, 2.5], "model.ch_mult must be a list of whole numbers"),
        ("image", "model.fix_logistic", "no", "model.fix_logistic must be true or false, got 'no'"),
        ("image", "model.Q_sigma", "wide", "model.Q_sigma must be a finite number, got 'wide'"),
        ("image", "model.time_base", -1.0, "Exponential needs finite base > 1 and scale > 0"),
        (
            "image",
            "model.ch",
            16,
            r"has shape \[.*\], config_001.yaml asks for \[.*check that config_001.yaml and w",
        ),
        ("image", "model.num_res_blocks", 1, "unexpected keys net.downsampling_modules"),
        (
            "piano",
            "data.S",
            6,
            r"input_embedding.weight has shape \[8, 5\], .*asks for \[8, 6\]|asks for \[6",
        ),
        ("piano", "data.shape", [2, 3], "data.shape must be a list of 1 whole numbers"),
        ("piano", "model.num_layers", 3, "missing keys net.encoder_layers.2"),
        ("piano", "model.num_heads", 0, "model.num_heads must be a whole number >= 1, got 0"),
        ("piano", "model.rate_const", 0.0, "Constant needs a positive, finite rate"),
        ("piano", "model.rate_const", None, "model.rate_const must be a finite number, got None"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, kind, key, value, message):
    refused(tauldr_folder(tmp_path / "model", kind, config=change(kind, key, value)), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "is not a yaml file that can be read"),
        ("model: !!python/object/apply:os.getcwd []", "is not a yaml file that can be read"),
        ("just words", "holds no sections"),
        ("model: 7", "model.name must be a text, got None"),
        ("", "holds no sections"),
    ],
)
def test_a_broken_yaml_is_refused(tmp_path, text, message):
    folder = tauldr_folder(tmp_path / "model")
    (folder / "config_001.yaml").write_text(text)
    refused(folder, message)
    (folder / "config_001.yaml").write_bytes(b"\xff\xfe\xfa")
    refused(folder, "is not a yaml file that can be read")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    good = random_weights(UNET.layout())
    averages = list(good.values())
    short = {name: value for name, value in good.items() if name != "input_conv.bias"}
    refused(
        tauldr_folder(tmp_path / "m", weights=short),
        "missing keys net.input_conv.bias, unexpected keys none",
    )
    refused(
        tauldr_folder(tmp_path / "m", weights=good | {"extra": torch.ones(1)}),
        "missing keys none, unexpected keys net.extra",
    )
    refused(
        tauldr_folder(tmp_path / "m", weights=good | {"input_conv.bias": 3.0}),
        "net.input_conv.bias should be tensors",
    )
    refused(
        tauldr_folder(tmp_path / "m", prefix=""), "missing keys net.down.* unexpected keys down"
    )
    count = f"the network has {len(averages)}"
    refused(
        tauldr_folder(tmp_path / "m", averages=averages[:-1]),
        f"holds {len(averages) - 1} averaged weights .*{count}",
    )
    refused(tauldr_folder(tmp_path / "m", averages=[]), f"holds 0 averaged weights .*{count}")
    refused(
        tauldr_folder(tmp_path / "m", averages=7), f"holds no list of averaged weights .*{count}"
    )
    refused(
        tauldr_folder(tmp_path / "m", averages=averages[::-1]),
        r"temb_modules.0.weight has shape \[4\], config_001.yaml asks for",
    )
    refused(
        tauldr_folder(tmp_path / "m", averages=[*averages[:-1], None]),
        "net.output_modules.1.bias should be tensors",
    )
    refused(tauldr_folder(tmp_path / "m", model=[1, 2]), "holds no weights under 'model'")
    torch.save([1], tmp_path / "m" / "ckpt_0000000007.pt")
    refused(tmp_path / "m", "holds no weights under 'model'")


def damaged_copies(content):
    """Cut, overwritten, and with single bytes changed."""
    yield from (content[:cut] for cut in (0, 1, 100, len(content) // 2, len(content) - 10))
    yield from (b"nonsense", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(60))
    places = torch.randint(2000, (40,), generator=seeded(0)).tolist()
    yield from (content[:p] + bytes([content[p] ^ 0xFF]) + content[p + 1 :] for p in places)


def test_a_damaged_file_is_one_line_or_still_fits(tmp_path):
    folder = tauldr_folder(tmp_path / "model", "piano")
    path = folder / "ckpt_0000000007.pt"
    torch.save(torch.load(path, weights_only=False), path, _use_new_zipfile_serialization=False)
    load_tiny(folder)
    errors = []
    for content in damaged_copies(path.read_bytes()):
        path.write_bytes(content)
        try:
            load_tiny(folder)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 30
    assert not any("\n" in error for error in errors)
    assert sum("is damaged, or holds more than tensors" in error for error in errors) > 10


class Evil:
    def __reduce__(self):
        return (print, ("code was run",))


def test_pickles_that_run_code_are_not_read(tmp_path, capsys):
    refused(
        tauldr_folder(tmp_path / "m", optimizer=Evil()), "is damaged, or holds more than tensors"
    )
    assert capsys.readouterr().out == ""


def test_numbers_of_either_numpy_are_passed_over(tmp_path):
    """The optimiser's state holds a numpy scalar, whose type's name depends on numpy's version."""
    folder = tauldr_folder(tmp_path / "m", "piano")
    path = folder / "ckpt_0000000007.pt"
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    pickle = next(name for name in entries if name.endswith("data.pkl"))
    there, other = b"numpy._core.multiarray\nscalar\n", b"numpy.core.multiarray\nscalar\n"
    if there not in entries[pickle]:
        there, other = other, there
    assert there in entries[pickle]
    first = load_tiny(folder).reverse.posterior(TOKENS["piano"], T)
    entries[pickle] = entries[pickle].replace(there, other)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    assert torch.equal(load_tiny(folder).reverse.posterior(TOKENS["piano"], T), first)
    assert "numpy.core.multiarray.scalar" not in [
        f"{f.__module__}.{f.__qualname__}" for f in torch.serialization.get_safe_globals()
    ]


def test_options_for_language_models_are_refused(tmp_path):
    folder = tauldr_folder(tmp_path / "m", "piano")
    with pytest.raises(ValueError, match="knows its MASK and its length"):
        jumpsteps.load(folder, length=4)
