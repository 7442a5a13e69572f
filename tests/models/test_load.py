import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import jumpsteps
from builders.checkpoints import SEDD, random_network, sedd_folder
from builders.statistics import seeded
from jumpsteps import load
from jumpsteps.denoiser.parameterisations import LeaveOneOutReverse, PosteriorReverse
from jumpsteps.models.built_in import load_shipped
from jumpsteps.models.formats.native import build, save_native
from jumpsteps.models.formats.sedd import noise_of
from jumpsteps.models.networks.dit import DiTConfig, LogScoreNetwork
from jumpsteps.models.networks.transformer import TransformerConfig
from jumpsteps.models.networks.unet import UNetConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import Cosine, Geometric, LogLinear
from jumpsteps.process.uniform import Uniform

TOKENS = torch.randint(21, (3, 12), generator=seeded(1))


@pytest.mark.parametrize("pickled", [False, True])
@torch.no_grad()
def test_a_published_sedd_folder_loads(tmp_path, pickled):
    network = sedd_folder(tmp_path / "sedd", pickled=pickled)
    model = jumpsteps.load(tmp_path / "sedd")
    assert model.reverse.forward == Absorbing(vocab_size=21, noise=LogLinear(1e-3))
    assert (model.length, model.task) == (12, None)
    assert len(model.digest) == 64
    expected = LogScoreNetwork(network, LogLinear())(TOKENS, 0.4)
    assert torch.equal(model.reverse.log_score(TOKENS, 0.4), expected)
    run = jumpsteps.simulate(
        model.reverse,
        jumpsteps.Tweedie(),
        jumpsteps.TimeSchedule([1, 0.5, 0]),
        (2, 12),
        generator=seeded(0),
    )
    assert run.samples.max() < 20


@torch.no_grad()
def test_a_uniform_sedd_folder_loads(tmp_path):
    config = SEDD | {
        "graph": {"type": "uniform"},
        "model": SEDD["model"] | {"scale_by_sigma": False},
    }
    network = sedd_folder(tmp_path / "sedd", config)
    model = jumpsteps.load(str(tmp_path / "sedd"))
    assert model.reverse.forward == Uniform(vocab_size=20, noise=LogLinear(1e-3))
    x = TOKENS % 20
    assert torch.equal(
        model.reverse.log_score(x, 0.4),
        LogScoreNetwork(network, LogLinear(), scale_by_sigma=False)(x, 0.4),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graph": {"type": "roulette"}}, "graph 'roulette' is not supported"),
        ({"noise": {"type": "cosine"}}, "noise schedule 'cosine' is not supported"),
        ({"tokens": 30}, r"output_layer.linear.bias has shape \[21\], config.json asks for \[31\]"),
        ({"model": {"hidden_size": 16}}, "lacks 'n_blocks'"),
        ({"model": SEDD["model"] | {"n_blocks": 3}}, "missing keys blocks.2"),
        ({"model": SEDD["model"] | {"n_blocks": 1}}, "unexpected keys blocks.1"),
    ],
)
def test_a_sedd_folder_that_does_not_fit_is_refused(tmp_path, change, message):
    sedd_folder(tmp_path / "sedd")
    (tmp_path / "sedd" / "config.json").write_text(json.dumps(SEDD | change))
    with pytest.raises(ValueError, match=message):
        jumpsteps.load(tmp_path / "sedd")


def native_folder(path, output="posterior", dtype=torch.float32):
    forward = Absorbing(vocab_size=21, noise=Cosine(0.01), mask_id=20)
    network = random_network(
        DiTConfig(vocab_size=21, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8)
    )
    save_native(path, network, forward, output=output, task="countdown", length=12, dtype=dtype)
    _, reverse = build(network.config, forward, output)
    reverse.model.network.load_state_dict(network.state_dict())
    return reverse


@pytest.mark.parametrize("output", ["posterior", "log-score"])
@torch.no_grad()
def test_native_folders_round_trip(tmp_path, output):
    reverse = native_folder(tmp_path, output)
    model = jumpsteps.load(tmp_path)
    assert model.reverse.forward == reverse.forward
    assert torch.equal(model.reverse.posterior(TOKENS, 0.4), reverse.posterior(TOKENS, 0.4))
    assert model.task is not None
    assert not any(p.is_file() and p.name.startswith(".") for p in tmp_path.iterdir())


UNIFORM = Uniform(vocab_size=21, noise=Cosine(0.01))
TRANSFORMER = TransformerConfig(
    vocab_size=21,
    length=12,
    hidden_size=8,
    feedforward_size=8,
    n_layers=1,
    n_heads=2,
    n_output_layers=1,
    time_dim=4,
)
UNET = UNetConfig(
    vocab_size=21, shape=(1, 2, 6), channels=4, multipliers=(1, 2), n_blocks=1, time_dim=4
)
DIT = DiTConfig(
    vocab_size=21, hidden_size=8, n_blocks=1, n_heads=2, cond_dim=4, length=12, level_scale=7.0
)
MASKED = Absorbing(vocab_size=21, noise=Cosine(0.01))


@pytest.mark.parametrize(
    ("config", "forward", "output", "timed"),
    [
        (TRANSFORMER, UNIFORM, "posterior", True),
        (TRANSFORMER, MASKED, "posterior", False),
        (TRANSFORMER, UNIFORM, "leave-one-out", True),
        (UNET, UNIFORM, "posterior", True),
        (DIT, UNIFORM, "leave-one-out", True),
    ],
)
@torch.no_grad()
def test_native_folders_of_other_networks_round_trip(tmp_path, config, forward, output, timed):
    torch.manual_seed(0)
    network, reverse = build(config, forward, output)
    for p in network.parameters():
        torch.nn.init.normal_(p)
    save_native(
        tmp_path,
        network.eval(),
        forward,
        output=output,
        task="none",
        length=12,
        data="x sha256:00",
        dtype=torch.float32,
    )
    model = jumpsteps.load(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["data"] == "x sha256:00"
    assert model.reverse.model.network.config == config
    assert type(model.reverse) is (
        LeaveOneOutReverse if output == "leave-one-out" else PosteriorReverse
    )
    x = torch.randint(20, (3, 12), generator=seeded(2))
    x[:, ::2] = 20
    assert torch.equal(model.reverse.leave_one_out(x, 0.4), reverse.leave_one_out(x, 0.4))
    assert torch.equal(model.reverse.model(x, 0.4), model.reverse.model(x, 0.9)) != timed
    if forward is MASKED:
        assert not model.reverse.posterior(x, 0.4)[..., 20].any()


def test_networks_that_cannot_be_are_refused(tmp_path):
    for config, forward, output in (
        (UNET, MASKED, "posterior"),
        (DIT, MASKED, "leave-one-out"),
        (TRANSFORMER, UNIFORM, "log-score"),
    ):
        with pytest.raises(
            ValueError,
            match=f"no network with output '{output}' for the {forward.name} kernel is a",
        ):
            build(config, forward, output)
    native_folder(tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"type": "dit"', '"type": "perceptron"'))
    with pytest.raises(
        ValueError,
        match="unknown network 'perceptron'; this jumpsteps knows dit, transformer, unet",
    ):
        jumpsteps.load(tmp_path)
    path.write_text(
        text.replace('"type": "dit",', "")
        .replace('"length": 0,', "")
        .replace('"level_scale": 1.0', '"dropout": 0.0')
    )
    assert jumpsteps.load(tmp_path).reverse.model.network.config.hidden_size == 16


def test_weights_are_stored_in_bfloat16(tmp_path):
    native_folder(tmp_path, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["blocks.0.attn_qkv.weight"].dtype == torch.bfloat16
    assert next(jumpsteps.load(tmp_path).reverse.model.parameters()).dtype == torch.float32


def test_damaged_folders_are_refused(tmp_path):
    native_folder(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good = weights.read_bytes(), config.read_text()
    weights.write_bytes(good[0][:100])
    with pytest.raises(ValueError, match="is damaged"):
        jumpsteps.load(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match="there is no file"):
        jumpsteps.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"nonsense")
    config.write_text(json.dumps(SEDD))
    with pytest.raises(ValueError, match="is damaged, or holds more than tensors"):
        jumpsteps.load(tmp_path)
    for text, message in (
        ("{}", "neither a jumpsteps checkpoint nor a SEDD one"),
        ("[1]", "neither a jumpsteps checkpoint nor a SEDD one"),
        ("nonsense", "not a JSON file"),
        (good[1].replace('"schema_version": 1', '"schema_version": 7'), "schema version 7"),
        (good[1].replace("absorbing", "funnel"), "unknown kernel 'funnel'"),
        (good[1].replace("Cosine", "Sine"), "unknown noise schedule 'Sine'"),
        (good[1].replace("n_heads", "heads"), "damaged"),
    ):
        config.write_text(text)
        with pytest.raises(ValueError, match=message):
            jumpsteps.load(tmp_path)


def test_pickles_that_run_code_are_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code was run",))

    sedd_folder(tmp_path / "sedd")
    (tmp_path / "sedd" / "model.safetensors").unlink()
    torch.save({"x": Evil()}, tmp_path / "sedd" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors"):
        jumpsteps.load(tmp_path / "sedd")


def test_unknown_names_say_what_is_known():
    with pytest.raises(
        ValueError,
        match=r"not built in \(countdown, countdown-exact, .*\), not a folder, not a hub id",
    ):
        jumpsteps.load("nothing")


def test_a_shipped_checkpoint_that_is_not_there_says_what_to_do():
    with pytest.raises(
        ValueError,
        match=r"^the checkpoint 'poetry' is not installed; run jumpsteps from a clone"
        r".* 'jumpsteps train",
    ):
        load_shipped("poetry", torch.device("cpu"))


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network\nlong story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ValueError,
        match=r"'someone/model' is not a folder here and could not be fetched .* \(no network\)",
    ):
        jumpsteps.load("someone/model")


def test_the_exact_model_is_built_in():
    model = jumpsteps.load("countdown-exact")
    assert model.digest == jumpsteps.load("countdown-exact").digest
    assert np.isfinite(float(model.reverse.posterior(TOKENS, 0.5).sum()))


def test_sedd_geometric_noise_and_posterior_networks_of_other_kernels(tmp_path):
    noise = {"type": "geometric", "sigma_min": 1e-3, "sigma_max": 20}
    assert noise_of(noise) == Geometric(lowest=1e-3, highest=20.0)
    forward = Gaussian(vocab_size=9, rate_sigma=2.0, q_sigma=5.0)
    config = DiTConfig(vocab_size=9, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8)
    torch.manual_seed(0)
    network, reverse = build(config, forward, "posterior")
    torch.nn.init.normal_(network.output_layer.linear.weight)
    torch.nn.init.normal_(network.sigma_map.mlp[2].weight)
    torch.nn.init.normal_(network.output_layer.adaLN_modulation.weight)
    save_native(
        tmp_path, network, forward, output="posterior", task="none", length=5, dtype=torch.float32
    )
    loaded = load(tmp_path)
    x = torch.randint(9, (3, 5), generator=torch.Generator().manual_seed(0))
    assert loaded.reverse.forward == forward
    torch.testing.assert_close(loaded.reverse.model(x, 0.3), reverse.model(x, 0.3))
    assert (
        reverse.model(x, 0.3) - reverse.model(x, 0.9)
    ).abs().max() > 1e-3  # it is conditioned on time
    with pytest.raises(
        ValueError, match="no network with output 'log-score' for the gaussian kernel"
    ):
        build(config, forward, "log-score")
