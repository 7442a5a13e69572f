"""What flags become: a model with all of its options, batches, observed sites, data."""

from dataclasses import replace

import pytest
import torch

from builders.command_line import EXACT
from jumpsteps import load
from jumpsteps.cli import inputs
from jumpsteps.cli.flags import parse
from jumpsteps.cli.inputs import batch_size, load_model, observed_sites, samples_by_default
from jumpsteps.cli.options import ObservedOptions
from jumpsteps.denoiser.conditioning import Given

CPU = torch.device("cpu")


def test_a_model_is_loaded_with_all_that_its_flags_say(monkeypatch):
    asked = []
    monkeypatch.setattr(inputs, "load", lambda name, **options: asked.append((name, options)))
    device = torch.device("meta")
    flags = "--dtype bfloat16 --compile --trust-remote-code --mask-id 4 --length 7 --tokenizer t"
    for words in ("folder", f"folder {flags}"):
        load_model(parse(f"sample {words} --nfe 1".split()).model, device)
    plain = {"device": device, "dtype": None, "compile": False, "trust_remote_code": False}
    plain |= {"mask_id": None, "length": None, "tokenizer": None}
    given = {"device": device, "dtype": torch.bfloat16, "compile": True, "trust_remote_code": True}
    given |= {"mask_id": 4, "length": 7, "tokenizer": "t"}
    assert asked == [("folder", plain), ("folder", given)]


@pytest.mark.parametrize(("available", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_the_device_where_there_is_one(monkeypatch, available, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert inputs.device_named(None) == torch.device(chosen)
    assert inputs.device_named("cpu") == CPU


def test_batches_are_smaller_on_a_cpu():
    other = torch.device("meta")
    assert [batch_size(None, device) for device in (CPU, other)] == [16, 256]
    assert [batch_size(5, device) for device in (CPU, other)] == [5, 5]


def test_nothing_is_said_of_fewer_samples_where_nobody_listens(capsys):
    model = replace(load(EXACT), length=900)
    network = torch.nn.Linear(10_000, 500, device="meta")
    model = replace(model, reverse=replace(model.reverse, model=network))
    assert samples_by_default(model, CPU, said=False) == 64
    assert capsys.readouterr().err == ""
    assert samples_by_default(model, CPU, said=True) == 64
    assert "5 million parameters runs on a CPU; -n 256 takes 4 times as" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["prompt", "suffix"])
def test_text_for_a_model_without_a_tokenizer_is_refused(monkeypatch, flag):
    """One of a user's may get one; a built-in one of text lacks a library only."""

    def missing():
        raise ValueError("pip install 'jumpsteps[text]'")

    options = ObservedOptions(
        **({"prompt": None, "suffix": None} | {flag: "a"}), given=None, template=None
    )
    monkeypatch.setattr(inputs, "transformers", missing)
    model = load("toy-absorbing")
    with pytest.raises(ValueError, match=f"^--{flag} is text, .* no tokenizer; pass token ids"):
        observed_sites(model, options, CPU)
    with pytest.raises(ValueError, match="'mine' has no tokenizer; pass --tokenizer, or token ids"):
        observed_sites(replace(model, name="mine"), options, CPU)
    with pytest.raises(ValueError, match="pip install"):
        observed_sites(replace(model, name="text-small"), options, CPU)


def test_what_reading_observed_sites_has_changed_is_said(capsys):
    given = Given(torch.zeros(4, dtype=torch.int64), torch.arange(4) < 2, ("cut", "moved"))
    model = load("toy-absorbing")
    model = replace(model, task=replace(model.task, read_given=lambda path, length: given))
    options = ObservedOptions(prompt=None, suffix=None, given="song.mid", template=None)
    found = observed_sites(model, options, CPU)
    assert torch.equal(found.mask, given.mask)
    assert capsys.readouterr().err == "note: cut\nnote: moved\n"
