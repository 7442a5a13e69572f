"""Models, samplers and orders of a user's own modules, named as MODULE:NAME."""

import json
import sys

import numpy as np
import pytest
import torch

import jumpsteps
from builders.command_line import run
from builders.text import save_words
from jumpsteps.cli import own_model
from jumpsteps.cli.flags import parse
from jumpsteps.cli.inputs import load_model
from jumpsteps.cli.long_runs import common_request
from jumpsteps.cli.named import sampler_named
from jumpsteps.cli.your_own import module_hint, own_instance, own_object
from jumpsteps.schedules import orders

SYMBOLS, LENGTH = 5, 8

SEVERAL = """

def of_length(length):
    return LoadedModel("mine", reverse, length, "mine", None, resized=of_length)

several = of_length(8)
twin = jumpsteps.PosteriorReverse(forward, network)
other = jumpsteps.PosteriorReverse(forward, Network().eval())
"""

MODULE = '''
from dataclasses import dataclass

import torch

import jumpsteps
from jumpsteps.core.draws import categorical
from jumpsteps.core.sample_generators import at_sites
from jumpsteps.models import LoadedModel
from jumpsteps.sampling.base import nothing_clipped


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(6, 6)

    def forward(self, x, t):
        return self.embedding(x).cumsum(1)


torch.manual_seed(0)
network = Network().eval()
forward = jumpsteps.Absorbing(vocab_size=6, noise=jumpsteps.LogLinear())
reverse = jumpsteps.PosteriorReverse(forward, network)
asked = []


def on_device(device):
    asked.append(device)
    return reverse


def loaded():
    return LoadedModel("mine", reverse, 8, "", None)


def logits(x, t):
    return network(x, t)


def fails():
    return 1 // 0


@dataclass(frozen=True)
class OneByOne(jumpsteps.Sampler):
    """A step of Tweedie's sampler that says when it is used."""

    name = "one-by-one"

    def step(self, reverse, x, step, state, *, generator):
        asked.append(step.t)
        where = reverse.forward.draw_moving(x, step.t, step.s, generator=generator)
        p = reverse.posterior(x, step.t, where)
        x_0 = categorical(p, generator=at_sites(generator, where))
        return x.masked_scatter(where, x_0), state, nothing_clipped(x)


class Raising(OneByOne):
    def step(self, reverse, x, step, state, *, generator):
        raise ValueError("mine")  # this line


@dataclass(frozen=True)
class EndsFirst(jumpsteps.RevealOrder):
    name = "ends-first-of-test"

    def keys(self, batch, length, *, generator):
        site = torch.arange(length, device=generator.device)
        return torch.minimum(site, length - 1 - site).expand(batch, -1)


class EqualSteps:
    name = "equal-steps"
    sampler = jumpsteps.Tweedie()
    max_evaluations = 0

    def find(self, reverse, paths, steps, sampler, *, generator):
        asked.append(len(paths.data))
        return {n: jumpsteps.FoundSchedule(jumpsteps.uniform(n)) for n in steps}


class Nothing:
    name = "nothing"
    sampler = jumpsteps.Tweedie()
    find = EqualSteps.find


class Nameless(EndsFirst):
    name = None


class Second(EndsFirst):
    name = "spread"


class Shy(EndsFirst):
    def __init__(self, secret):
        self.secret = secret
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the module ``parts_of_test`` and tokens; what is imported is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(orders, "ORDERS", dict(orders.ORDERS))
    (tmp_path / "parts_of_test.py").write_text(MODULE)
    tokens = np.random.default_rng(0).integers(SYMBOLS, size=(16, LENGTH))
    np.savez(tmp_path / "tokens.npz", tokens=tokens)
    yield tmp_path
    for name in ("parts_of_test", "faulty_import_of_test"):
        sys.modules.pop(name, None)


MODEL = f"parts_of_test:reverse --length {LENGTH}"


@pytest.mark.parametrize(
    "model", [MODEL, f"parts_of_test:on_device --length {LENGTH}", "parts_of_test:loaded"]
)
def test_samples_are_those_of_the_same_model_in_python(folder, capsys, model):
    code, _, err = run(capsys, f"sample {model} --nfe 3 -n 4 --seed 5 --device cpu -o x.npz")
    assert code == 0, err
    module = sys.modules["parts_of_test"]
    assert module.asked == ([torch.device("cpu")] if "on_device" in model else [])
    own = jumpsteps.SampleGenerators(5, range(4))
    expected = jumpsteps.simulate(
        module.reverse, jumpsteps.Tweedie(), jumpsteps.uniform(3), (4, LENGTH), generator=own
    )
    assert np.array_equal(np.load("x.npz")["samples"], expected.samples.numpy())


def test_a_sampler_of_ones_own_makes_the_steps(folder, capsys):
    asked = f"{MODEL} --sampler parts_of_test:OneByOne"
    assert run(capsys, f"sample {asked} --nfe 3 -n 2 -o x.npz")[0] == 0
    assert sys.modules["parts_of_test"].asked == pytest.approx([1, 2 / 3, 1 / 3])
    code, _, err = run(capsys, f"optimize {asked} --method jys --nfe 2 --data tokens.npz -o s.json")
    assert code == 0, err
    written = json.loads((folder / "s.json").read_text())["schedules"][0]
    assert written["provenance"]["sampler"] == "one-by-one"
    code, _, err = run(capsys, f"sample {MODEL} --schedule s.json --nfe 2 -n 2 -o y.npz")
    assert code == 0
    assert "note: the schedule was found for the sampler 'one-by-one', which is not built in" in err


def test_an_order_of_ones_own_is_searched_and_sampled_in(folder, capsys):
    order = "--order parts_of_test:EndsFirst"
    asked = f"optimize {MODEL} --data tokens.npz --sequences 8 --nfe 4 {order} -o s.json"
    code, out, err = run(capsys, asked)
    assert code == 0, err
    assert "in ends-first-of-test order" in out
    found = jumpsteps.load_schedules("s.json")[4]
    assert found.order == sys.modules["parts_of_test"].EndsFirst()
    asked = f"sample {MODEL} --schedule s.json --nfe 4 -n 2 -o x.npz"
    assert run(capsys, asked, order)[0] == 0
    orders.ORDERS.pop("ends-first-of-test")  # As in a new process.
    code, _, err = run(capsys, asked)
    assert code == 1
    assert "name one of your own with --order MODULE:NAME" in err
    other = "--order parts_of_test:Shy"
    assert (
        "needs the arguments secret; name a jumpsteps.RevealOrder" in run(capsys, asked, other)[2]
    )


def test_uniform_counts_in_an_order_of_ones_own(folder, capsys):
    order = "--order parts_of_test:EndsFirst"
    asked = f"compare {MODEL} --data tokens.npz --nfe 2 -n 4 --schedules uniform {order} -o r.json"
    code, _, err = run(capsys, asked)
    assert code == 0, err
    assert json.loads((folder / "r.json").read_text())["order"] == "parts_of_test:EndsFirst"


def test_a_search_of_ones_own(folder, capsys):
    search = "parts_of_test:EqualSteps"
    data = "--data tokens.npz --sequences 8 --nfe 2 4"
    code, out, err = run(capsys, f"optimize {MODEL} {data} --method {search} -o s.json")
    assert code == 0, err
    assert "0 model calls on 8 sequences" in out
    found = jumpsteps.load_schedules("s.json")
    assert [found[n].times for n in (2, 4)] == [jumpsteps.uniform(n).times for n in (2, 4)]
    assert found[2].provenance.method == "equal-steps"
    asked = f"compare {MODEL} {data} -n 4 --schedules uniform {search} -o r.json"
    code, out, err = run(capsys, asked)
    assert code == 0, err
    assert f"{search}: 0 model calls on 8 sequences for all its schedules" in out
    uniform, own = (
        [row["metric"] for row in json.loads((folder / "r.json").read_text())["rows"]][i::2]
        for i in (0, 1)
    )
    assert uniform == own
    assert sys.modules["parts_of_test"].asked == [8, 8]
    code, _, err = run(capsys, f"optimize {MODEL} {data} --method parts_of_test:Nothing")
    assert (code, err.count("\n")) == (1, 1)
    assert (
        "is of the type Nothing; name a search, with name, sampler, max_evaluations and fi" in err
    )
    other = f"optimize {MODEL} {data} --method {search} --order spread"
    assert f"method {search} does not search in spread order" in run(capsys, other)[2]


def test_a_model_of_several_lengths_and_with_a_tokenizer(folder):
    """A digest that a model brings is kept; one without is that of its weights and its module."""
    save_words(folder, ["[UNK]", "v0", "v1"])
    with open("parts_of_test.py", "a") as file:
        file.write(SEVERAL)
    device = torch.device("cpu")

    def loaded(words):
        return load_model(parse(f"sample {words} --nfe 3".split()).model, device)

    longer = loaded("parts_of_test:several --length 9 --tokenizer .")
    assert (longer.length, longer.digest) == (9, "mine")
    assert longer.text.encode("v1 v0") == [2, 1]
    assert loaded("parts_of_test:several").text is None
    own, alone = loaded("parts_of_test:loaded"), loaded(MODEL)
    assert own.digest == loaded("parts_of_test:loaded --length 8").digest != ""
    assert (own.name, own.task, alone.task) == ("mine", None, None)
    digests = {
        name: loaded(f"parts_of_test:{name} --length 8").digest for name in ("twin", "other")
    }
    assert digests["twin"] != digests["other"]
    assert alone.digest == digests["twin"]


def test_code_of_a_tokenizer_is_fetched_and_run_where_it_is_trusted(folder, monkeypatch):
    asked = []

    def find(name, files, what):
        asked.append((name, "*.py" in files, "tokenizer.json" in files or "*token*.json" in files))
        return folder

    def read(path, *, trusted):
        asked.append((path, trusted))
        raise ValueError("read")

    monkeypatch.setattr(own_model, "find_folder", find)
    monkeypatch.setattr(own_model, "read_tokenizer", read)
    for flag in ("", "--trust-remote-code"):
        options = parse(f"sample {MODEL} --tokenizer some/one --nfe 3 {flag}".split()).model
        with pytest.raises(ValueError, match="read"):
            load_model(options, torch.device("cpu"))
    found = [(("some/one", trusted, True), (folder, trusted)) for trusted in (False, True)]
    assert asked == [one for pair in found for one in pair]


def test_the_current_folder_comes_first_and_arguments_with_a_default_are_left_out(folder):
    """Also before an installed module of the same name; it is still there for later imports."""
    (folder / "installed").mkdir()
    for place, value in ((folder / "installed", 1), (folder, 2)):
        code = f"value = {value}\n\ndef made(width=3, *args, **kwargs):\n    return width + value\n"
        (place / "faulty_import_of_test.py").write_text(code)
    sys.path.insert(0, str(folder / "installed"))
    assert own_object("--x", "faulty_import_of_test:value", "mine:x") == 2
    assert sys.path[0] == str(folder / "installed")
    assert str(folder) in sys.path[1:]
    assert own_instance("--x", "faulty_import_of_test:made", int, "a number", "mine:x") == 5


def test_a_network_of_ones_own_is_cast(folder):
    device = torch.device("cpu")
    asked = parse(f"sample {MODEL} --nfe 3 --dtype bfloat16".split())
    network = load_model(asked.model, device).reverse.model
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    with open("parts_of_test.py", "a") as file:
        file.write("plain = jumpsteps.PosteriorReverse(forward, lambda x, t: logits(x, t))\n")
    sys.modules.pop("parts_of_test")
    for flag in ("--dtype bfloat16", "--compile"):
        asked = parse(f"sample parts_of_test:plain --length 8 --nfe 3 {flag}".split())
        with pytest.raises(ValueError, match=r"is no torch.nn.Module; leave out --dtype and --com"):
            load_model(asked.model, device)


def test_a_divided_network_of_ones_own_is_made_whole(folder):
    """As ``--shard-model`` asks for it; a process then keeps its part."""
    model = load_model(parse(f"sample {MODEL} --nfe 3".split()).model, torch.device("meta"))
    assert {p.device.type for p in model.reverse.model.parameters()} == {"cpu"}


def test_a_run_of_another_module_is_another_request(folder):
    asked = f"sample {MODEL} --sampler parts_of_test:OneByOne --nfe 3".split()
    device = torch.device("cpu")

    def request():
        options = parse(asked)
        model = load_model(options.model, device)
        sampler_named(options.sampler, options.order)
        return common_request(options, model, device, None)

    before = request()
    assert request() == before
    with open("parts_of_test.py", "a") as file:
        file.write("CHANGED = True\n")
    after = request()
    assert {key for key in before if before[key] != after[key]} == {"set of modules", "model"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere_at_all:f", "MODEL nowhere_at_all:f: there is no module 'nowhere_at_all', neith"),
        ("parts_of_test.py:reverse", "MODEL takes MODULE:NAME such as mine:model, without .py"),
        ("parts_of_test:", "MODEL takes MODULE:NAME"),
        ("parts_of_test:revers", "has no 'revers'; did you mean reverse?"),
        ("parts_of_test:logits", "needs the arguments x, t; name a reverse process such as"),
        ("parts_of_test:network", "is of the type Network; name a reverse process such as"),
        ("parts_of_test:SYMBOLS", "has no 'SYMBOLS'"),
        ("builtins:dict", "is of the type dict; name a reverse process"),
        ("parts_of_test:forward", "is of the type Absorbing; name a reverse process"),
        ("parts_of_test:fails", "raised ZeroDivisionError: integer division or modulo by zero at "),
        ("parts_of_test:reverse", "is a reverse process, for sequences of any length; pass --leng"),
        ("parts_of_test:loaded --length 9", "for sequences of 8 tokens, and --length is 9; leave"),
        (f"{MODEL} --mask-id 3", "names its MASK; leave out --mask-id"),
        (
            "toy-uniform --sampler parts_of_test:Network",
            "is of the type Network; name a jumpsteps.S",
        ),
        (
            f"{MODEL} --sampler parts_of_test:EndsFirst",
            "is of the type EndsFirst; name a jumpsteps",
        ),
        (f"{MODEL} --order parts_of_test:Nameless", "has no name; give its class one"),
        (f"{MODEL} --order parts_of_test:Second", "its name 'spread' is that of another order"),
        (
            f"{MODEL} --order parts_of_test:EndsFirst --sampler parts_of_test:OneByOne",
            "does not reveal tokens in parts_of_test:EndsFirst order; use k-gillespie",
        ),
    ],
)
def test_mistakes_are_one_line(folder, capsys, arguments, message):
    code, _, err = run(capsys, f"sample {arguments} --nfe 2 -n 2 -o x.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert message in err
    assert not (folder / "x.npz").exists()


HINT = "; for one that the module parts_of_test defines pass parts_of_test:NAME\n"
MODULE_ALONE = [
    ("parts_of_test", HINT),
    ("parts_of_test.py", HINT),
    ("./parts_of_test.py", HINT),
    ("pkg_of_test/inner.py", HINT.replace("parts_of_test", "pkg_of_test.inner")),
    ("pkg_of_test.inner", HINT.replace("parts_of_test", "pkg_of_test.inner")),
    ("package_of_test", HINT.replace("parts_of_test", "package_of_test")),
    ("numpy", HINT.replace("parts_of_test", "numpy")),
    ("toy-uniform --sampler parts_of_test", HINT),
    ("toy-absorbing --sampler k-gillespie --order parts_of_test", HINT),
    ("toy-uniform --schedule parts_of_test", HINT),
]


@pytest.mark.parametrize(("arguments", "hint"), MODULE_ALONE)
def test_a_module_without_a_name_of_what_is_in_it(folder, capsys, arguments, hint):
    (folder / "pkg_of_test").mkdir()
    (folder / "package_of_test").mkdir()
    (folder / "package_of_test" / "__init__.py").touch()
    (folder / "pkg_of_test" / "inner.py").write_text("raise SystemError  # Nothing is imported.")
    code, _, err = run(capsys, f"sample {arguments} --nfe 2 -o x.npz")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: there is no ")
    assert err.endswith(hint)
    code, _, err = run(capsys, "optimize toy-absorbing --nfe 2 --method parts_of_test")
    assert (code, err[-len(HINT) :]) == (1, HINT)


def test_a_file_of_code_elsewhere_and_names_of_no_module(folder, capsys):
    (folder / "below").mkdir()
    code, _, err = run(capsys, f"sample {folder / 'parts_of_test.py'} --nfe 2")
    assert code == 1
    assert err.endswith("pass parts_of_test:NAME in the folder of this file\n")
    for name in ("nowhere_at_all", "nowhere.at.all", "parts_of_test.nothing", "below/c.py", ""):
        assert module_hint(name) == ""
    assert module_hint("below") == ""  # A folder without code is a module for Python.


def test_an_error_of_ones_own_code_names_its_line(folder, capsys):
    code, _, err = run(capsys, f"sample {MODEL} --sampler parts_of_test:Raising --nfe 2 -o x.npz")
    line = 1 + MODULE[: MODULE.index("# this line")].count("\n")
    assert (code, err) == (1, f"error: mine ({folder / 'parts_of_test.py'}:{line})\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import nowhere_at_all",
            "raised ModuleNotFoundError: No module named 'nowhere_at_all' at",
        ),
        ("x = 1\ny =", "raised SyntaxError: invalid syntax at "),
        ("undefined", "raised NameError: name 'undefined' is not defined at "),
        ("import sys\nsys.exit(2)", "the module exits when it is imported; put what it runs under"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['x'])", "the module exits"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(folder, capsys, code, message):
    (folder / "faulty_import_of_test.py").write_text(code)
    status, _, err = run(capsys, "sample faulty_import_of_test:model --nfe 2")
    assert status == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: MODEL faulty_import_of_test:model")
    assert message in last


def test_a_function_may_import_from_the_folder_later(folder, capsys):
    (folder / "faulty_import_of_test.py").write_text("from parts_of_test import reverse\n")
    late = "\ndef late():\n    import faulty_import_of_test as other\n    return other.reverse\n"
    with open("parts_of_test.py", "a") as file:
        file.write(late)
    code, _, err = run(capsys, f"sample parts_of_test:late --length {LENGTH} --nfe 2 -n 2 -o x.npz")
    assert code == 0, err
