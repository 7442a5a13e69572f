"""Extractors are read back as they were written, and refuse what is none."""

import json
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from builders.statistics import seeded
from jumpsteps.evaluation.features import extract, frechet_distance
from jumpsteps.models.extractors import load_classifier, load_extractor, save_classifier
from jumpsteps.models.networks.image_classifier import ClassifierConfig, ImageClassifier

SMALL = ClassifierConfig(classes=3, widths=(4, 4, 8, 8))


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    network = ImageClassifier(SMALL)
    network(images(8, seed=3))  # Running statistics that are not those of the start.
    return network.eval()


def images(n, seed):
    return torch.randint(256, (n, 3072), generator=seeded(seed))


def test_the_default_is_small_enough_to_ship():
    with torch.device("meta"):
        network = ImageClassifier(ClassifierConfig())
    assert 2 * sum(p.numel() for p in network.parameters()) < 5e6


def test_a_written_extractor_is_read_back(classifier, tmp_path):
    """Features differ by bfloat16's rounding of parameters, one part in 256 of each."""
    save_classifier(tmp_path, classifier, data="noise")
    extractor, x = load_extractor(tmp_path), images(5, seed=1)
    features = extract(extractor, x)
    assert not extractor(x).requires_grad
    assert features.shape == (5, 8)
    assert torch.allclose(features, classifier.features(x).double(), rtol=0.02, atol=0.02)
    assert json.loads((tmp_path / "config.json").read_text())["data"] == "noise"
    names = {name for name, _ in classifier.named_parameters()}
    for name, value in load_file(tmp_path / "model.safetensors").items():
        own = classifier.state_dict()[name]
        assert value.dtype == (torch.bfloat16 if name in names else own.dtype)


def test_features_are_the_mean_of_the_last_layer(classifier):
    """Of a constant image the layers' inner pixels are equal, so only their mean is left."""
    x = images(2, seed=4)
    layers = classifier.layers(2 * x.view(2, 3, 32, 32) / 255 - 1)
    assert layers.shape == (2, 8, 4, 4)
    assert torch.allclose(classifier.features(x), layers.mean((2, 3)), atol=1e-6)
    assert torch.equal(classifier.features(x.to(torch.uint8)), classifier.features(x))
    assert torch.equal(classifier(x), classifier.head(classifier.features(x)))


def test_the_distance_tells_noise_from_noise_of_another_size(classifier, tmp_path):
    save_classifier(tmp_path, classifier)
    extractor = load_extractor(tmp_path)
    same, again, faint = (
        extract(extractor, part)
        for part in (images(200, 5), images(200, 6), images(200, 7) // 4 + 96)
    )
    assert frechet_distance(same, again) < 0.1 * frechet_distance(same, faint)


def test_errors_say_what_to_do(classifier, tmp_path):
    with pytest.raises(ValueError, match="name the folder of an extractor"):
        load_extractor("inception")
    save_classifier(tmp_path, classifier)
    with pytest.raises(ValueError, match=r"reads images \[B, 3072\], got shape \[2, 5\]"):
        load_extractor(tmp_path)(torch.zeros(2, 5, dtype=torch.int64))
    other = ImageClassifier(replace(SMALL, classes=4))
    save_classifier(tmp_path / "other", other)
    (tmp_path / "config.json").write_text((tmp_path / "other/config.json").read_text())
    with pytest.raises(ValueError, match="belong together"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": "jumpsteps-classifier"}))
    with pytest.raises(ValueError, match="damaged"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": "jumpsteps-model"}))
    with pytest.raises(ValueError, match="holds no extractor"):
        load_classifier(tmp_path)


@pytest.mark.slow
def test_the_shipped_extractor_tells_noise_from_noise_of_another_size():
    extractor = load_extractor("cifar10-features")
    same, again, faint = (
        extract(extractor, part) for part in (images(64, 5), images(64, 6), images(64, 7) // 4 + 96)
    )
    assert same.shape == (64, 304)
    assert frechet_distance(same, again) < 0.2 * frechet_distance(same, faint)


class Inception(torch.nn.Module):
    """The interface of torch-fidelity's network: uint8 [B, 3, H, W] -> a tuple of one [B, D]."""

    def __init__(self, name, features, feature_extractor_weights_path):
        super().__init__()
        assert (name, features) == ("inception-v3-compat", ["2048"])
        self.layer = torch.nn.Linear(3, 4)
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, x):
        assert x.dtype == torch.uint8
        assert x.shape[1:] == (3, 32, 32)
        return (self.layer(x.float().mean((2, 3))),)


def test_a_file_of_weights_is_inceptions(tmp_path, monkeypatch):
    layer, path = torch.nn.Linear(3, 4), tmp_path / "inception.pth"
    torch.save({f"layer.{name}": value for name, value in layer.state_dict().items()}, path)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match="pip install torch-fidelity"):
        load_extractor(path)
    module = SimpleNamespace(FeatureExtractorInceptionV3=Inception)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    x = images(5, seed=1)
    expected = layer(x.view(5, 3, -1).float().mean(2)).double()
    assert not load_extractor(path)(x).requires_grad
    assert torch.allclose(extract(load_extractor(path), x), expected, atol=1e-4)
    torch.save({"layer.weight": torch.zeros(1, 1)}, path)
    with pytest.raises(ValueError, match="holds no weights of Inception"):
        load_extractor(path)
    path.write_bytes(pickle.dumps(SimpleNamespace(), 2))
    with pytest.raises(ValueError, match="holds no weights of Inception"):
        load_extractor(path)
