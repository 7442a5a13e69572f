"""``jumpsteps play``: what a pane draws, what it refuses, and the page in a browser."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from builders.browser import CHROMIUM, Browser
from builders.command_line import EXACT, run
from builders.page_code import small_countdown
from jumpsteps import CountSchedule, Provenance, save_schedules, simulate
from jumpsteps.cli import play
from jumpsteps.cli.flags import parse
from jumpsteps.cli.play import OF_SCHEDULE, OWN, Pane, draw, file_asked, observed
from jumpsteps.tasks import piano

CPU = torch.device("cpu")
HAS_GRADIO = importlib.util.find_spec("gradio") is not None


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small_countdown()


@pytest.mark.parametrize(
    ("pane", "steps"),
    [
        (Pane(OWN, OF_SCHEDULE, 0), 8),
        (Pane("uniform", OF_SCHEDULE, 0), 8),
        (Pane("cosine", "golden", 0), 8),
        (Pane("uniform", "spread", 3), 5),
    ],
)
def test_a_pane_shows_every_site_and_counts_its_calls(model, pane, steps):
    content, last = draw(model, pane, 8, 0, None, CPU)
    assert last == steps
    assert content.count("data-s=") == model.length
    assert f"8 model calls, {steps} steps, violation rate " in content


def test_the_seed_decides(model):
    first, again, other = (
        draw(model, Pane("uniform", OF_SCHEDULE, 0), 4, seed, None, CPU)[0] for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("pane", "calls", "message"),
    [
        (Pane(OWN, OF_SCHEDULE, 0), 4, r"holds schedules for NFE \[8\], not 4"),
        (Pane(OWN, "golden", 0), 8, "has an order of its own"),
        (Pane("uniform", OF_SCHEDULE, 4), 4, "4 corrections leave none of 4 model calls"),
    ],
)
def test_what_a_model_does_not_allow_is_named(model, pane, calls, message):
    with pytest.raises(ValueError, match=message):
        draw(model, pane, calls, 0, None, CPU)


def test_other_kernels_have_no_orders_and_some_models_no_schedules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uniform = small_countdown("uniform")
    with pytest.raises(ValueError, match="uniform kernel has no reveal order"):
        draw(uniform, Pane("uniform", "golden", 0), 4, 0, None, CPU)
    with pytest.raises(ValueError, match="came without schedules; choose a fixed one"):
        draw(uniform, Pane(OWN, OF_SCHEDULE, 0), 4, 0, None, CPU)


def test_a_song_gives_its_first_bars(model, tmp_path):
    from builders.page_code import song

    (tmp_path / "song.mid").write_bytes(song())
    pianist = replace(model, length=piano.LENGTH, task=piano.TASK)
    given = observed(pianist, "", str(tmp_path / "song.mid"))
    assert int(given.mask.sum()) == piano.GIVEN
    assert observed(model, "", str(tmp_path / "song.mid")) is None
    assert observed(model, "a prompt", None) is None


def test_a_model_of_text_takes_a_prompt_and_shows_its_words(model):
    text = SimpleNamespace(
        encode=lambda words: [ord(word) - ord("a") for word in words.split()],
        decode=lambda row: "".join(f" {'abcde'[i]}" for i in row),
        unknown=lambda words: [],
    )
    model = replace(model, text=text, task=None)
    given = observed(model, "e d c", None)
    assert given.tokens[given.mask].tolist() == [4, 3, 2]
    assert observed(model, "", None) is None
    content, _ = draw(model, Pane("uniform", OF_SCHEDULE, 0), 8, 0, given, CPU)
    assert content.startswith('<p class="note">8 model calls, 8 steps</p><p class="text">')
    assert re.findall(r'<i class="given" data-s="0">(.*?)</i>', content) == [" e", " d", " c"]
    assert content.count("data-s=") == model.length


def test_own_schedules_are_drawn_with_their_sampler(model, monkeypatch):
    """Fixed ones with that of their kind."""
    used = []

    def spy(reverse, sampler, schedule, shape, **options):
        used.append((sampler.name, options["generator"].initial_seed(), shape))
        return simulate(reverse, sampler, schedule, shape, **options)

    monkeypatch.setattr(play, "simulate", spy)
    known = Provenance(sampler="maskgit")
    save_schedules(model.schedules_file, {8: CountSchedule([4] * 8, known)})
    for name in (OWN, "uniform"):
        draw(model, Pane(name, OF_SCHEDULE, 0), 8, 5, None, CPU)
    draw(model, Pane("uniform", "golden", 0), 8, 5, None, CPU)
    shape = (1, model.length)
    assert used == [("maskgit", 5, shape), ("tweedie", 5, shape), ("k-gillespie", 5, shape)]


def test_the_command_serves_the_page_on_this_machine_alone(module, capsys, monkeypatch):
    asked = {}

    class Served:
        def launch(self, **options):
            asked.update(options)
            return None, "http://127.0.0.1:1/", None

        def block_thread(self):
            asked["blocked"] = True

    monkeypatch.setattr(play, "playground", lambda options, device: Served())
    for flag in ("--no-browser", ""):
        port = free_port()
        code, out, _ = run(capsys, f"play {module}:loaded --port {port} {flag}")
        assert (code, out) == (0, "the page is at http://127.0.0.1:1/; Ctrl-C ends it\n")
        assert (asked["server_name"], asked["server_port"]) == ("127.0.0.1", port)
        assert (asked["inbrowser"], asked["share"]) == (not flag, False)
        assert asked["show_error"] is asked["prevent_thread_lock"] is asked["blocked"] is True


def test_the_library_of_the_page_is_told_to_send_nothing(monkeypatch):
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    monkeypatch.setattr(play, "import_module", lambda name: name)
    assert play.gradio() == "gradio"
    assert os.environ.pop("GRADIO_ANALYTICS_ENABLED") == "False"


def test_without_gradio_the_command_says_what_to_install(capsys, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(play, "import_module", missing)
    code, _, err = run(capsys, f"play {EXACT} --port {free_port()}")
    assert (code, err) == (
        1,
        "error: the playground needs gradio: pip install 'jumpsteps[play]'\n",
    )


@pytest.mark.skipif(not HAS_GRADIO, reason="needs gradio")
def test_an_unknown_model_is_one_line(capsys):
    code, _, err = run(capsys, "play no-such-model --no-browser")
    assert (code, err.count("\n")) == (1, 1)


MODULE = """
from dataclasses import replace

import jumpsteps
import torch
from builders.page_code import small_countdown
from jumpsteps.tasks.piano import TASK


class Network(torch.nn.Module):
    def forward(self, x, t):
        if len(x) == 1:
            raise ValueError("mine")  # this line
        return torch.zeros(*x.shape, 6)


network = Network().eval()
forward = jumpsteps.Absorbing(vocab_size=6, noise=jumpsteps.LogLinear())
reverse = jumpsteps.PosteriorReverse(forward, lambda x, t: torch.zeros(*x.shape, 6))
faulty = jumpsteps.PosteriorReverse(forward, network)
loaded = small_countdown


def pianist():
    reads = {name: getattr(TASK, name) for name in ("read_given", "given_name", "given_suffixes")}
    return replace(loaded(), task=replace(loaded().task, **reads))


def raises():
    raise RuntimeError("not today")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "played_module_of_test.py").write_text(MODULE)
    yield "played_module_of_test"
    sys.modules.pop("played_module_of_test", None)


class Component:
    """A control of a page: what it was made with, and what its events call."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs, self.calls = args, kwargs, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def event(self, function, inputs, outputs, **kwargs):
        self.calls.append((function, inputs, outputs))

    click = load = change = event


class Page(Component):
    """In place of gradio, which keeps sockets and an event loop open: its controls in a dict."""

    def __init__(self):
        super().__init__()
        self.controls = {}

    def __getattr__(self, kind):
        def made(*args, **kwargs):
            control = Component(*args, **kwargs)
            self.controls[kwargs.get("label") or kwargs.get("elem_id") or kind] = control
            return control

        return made

    class Error(Exception):
        def __init__(self, message, print_exception=True):
            self.message, self.print_exception = message, print_exception

    @staticmethod
    def update(**kwargs):
        return kwargs


@pytest.fixture
def page(module, monkeypatch):
    """The controls of the page of a model."""

    def made(name):
        library = Page()
        monkeypatch.setattr(play, "import_module", lambda _: library)
        play.playground(parse(["play", *name.split()]).model, CPU)
        return library.controls

    return made


PANES = ("uniform", OF_SCHEDULE, 0, "cosine", "golden", 2)


@pytest.mark.parametrize(("name", "has_task"), [("reverse --length 9", False), ("loaded", True)])
def test_a_model_of_ones_own_is_played_with_a_task_and_without(module, page, name, has_task):
    name = f"{module}:{name}"
    ((sample, inputs, outputs),) = page(name)["sample"].calls
    left, right, step = sample(name.split()[0], 6, None, "", None, *PANES)
    assert (len(inputs), len(outputs)) == (11, 3)
    assert left.count("data-s=") == right.count("data-s=") == (32 if has_task else 9)
    assert "6 model calls, 6 steps" in left
    assert "6 model calls, 4 steps" in right
    assert (", violation rate " in left) == has_task
    assert step.kwargs == {"maximum": 6, "value": 6}


def test_a_page_begins_with_the_schedules_that_a_model_came_with(module, page):
    controls = page(f"{module}:loaded")
    assert controls["Model"].args[0][:2] == [f"{module}:loaded", "countdown"]
    assert controls["Model"].kwargs["value"] == f"{module}:loaded"
    own, other = (controls[f"Schedule, {side}"].kwargs["value"] for side in ("left", "right"))
    assert (own, other) == (OWN, "uniform")
    controls = page(f"{module}:reverse --length 9")
    assert controls["Schedule, left"].kwargs["value"] == "cosine"
    hidden = [controls[name].kwargs["visible"] for name in ("Prompt", "Observed sites")]
    assert hidden == [False, False]
    controls = page(f"{module}:pianist")
    ((show, _, _),) = controls["Model"].calls
    prompt, file = show(f"{module}:pianist")
    assert prompt == {"visible": False}
    assert (file["visible"], file["value"]) == (True, None)  # The file of the model before.
    assert (file["label"], file["file_types"]) == (piano.TASK.given_name, [".mid", ".midi"])
    prompt, file = show("toy-absorbing")
    assert (prompt["visible"], file["visible"]) == (False, False)


def test_a_file_is_asked_for_by_what_the_task_reads(model):
    """Whatever the name of the task is."""
    task = replace(piano.TASK, name="mine", given_name="A song", given_suffixes=())
    asked = file_asked(replace(model, length=piano.LENGTH, task=task))
    assert asked == {"visible": True, "label": "A song", "file_types": None}
    assert not file_asked(replace(model, task=replace(task, read_given=None)))["visible"]
    assert not file_asked(replace(model, task=None))["visible"]


def test_the_page_says_what_a_model_refuses_and_the_line_of_ones_own_module(module, page, tmp_path):
    controls = page(f"{module}:faulty --length 9")
    sample, show = (controls[name].calls[0][0] for name in ("sample", "Model"))
    line = 1 + MODULE[: MODULE.index("# this line")].count("\n")
    with pytest.raises(Page.Error) as refused:
        sample(f"{module}:faulty", 6, 0, "", None, *PANES)
    assert refused.value.message == f"mine ({tmp_path / module}.py:{line})"
    assert not refused.value.print_exception
    for chosen in (lambda: sample("nowhere", 6, 0, "", None, *PANES), lambda: show("nowhere")):
        with pytest.raises(Page.Error) as refused:
            chosen()
        assert refused.value.message.startswith("there is no model 'nowhere'")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reverse", "is a reverse process, for sequences of any length; pass --length L"),
        ("raises", "raised RuntimeError: not today at "),
        ("network", "is of the type Network; name a reverse process such as"),
        ("lodaed", "has no 'lodaed'; did you mean loaded?"),
        ("loaded --length 33", "is for sequences of 32 tokens, and --length is 33; leave it out"),
        ("reverse --length 9 --dtype bfloat16", "is no torch.nn.Module; leave out --dtype"),
    ],
)
def test_mistakes_with_a_model_of_ones_own_are_one_line(module, capsys, monkeypatch, name, message):
    monkeypatch.setattr(play, "import_module", lambda _: Page())
    asked = f"play {module}:{name} --no-browser --device cpu --port {free_port()}"
    code, _, err = run(capsys, asked)
    assert (code, err.count("\n")) == (1, 1)
    assert message in err


def test_a_port_that_is_taken_is_named(capsys):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        code, _, err = run(capsys, f"play {EXACT} --port {port}")
    assert code == 1
    assert f"port {port} cannot be used" in err
    assert "pass another with --port" in err


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


WARNINGS_OF_GRADIO = ("svelte-i18n", "Method not implemented.")
"""A message of its translations, and its upload closing a stream that has nothing to close."""


@contextmanager
def served(name):
    """The address of a page that another process serves."""
    command = [sys.executable, "-m", "jumpsteps", "play", name, "--no-browser"]
    program = subprocess.Popen(
        [*command, "--port", str(free_port()), "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield re.search(r"http://127.0.0.1:\d+/", program.stdout.readline())[0]
    finally:
        program.terminate()
        program.wait()
        program.stdout.close()


def check_console(browser):
    assert browser.errors == []
    strange = [one for one in browser.said if not any(w in one for w in WARNINGS_OF_GRADIO)]
    assert strange == []


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GRADIO or CHROMIUM is None, reason="needs gradio and chromium")
def test_the_page_shows_two_runs_and_asks_this_machine_alone():
    with served(EXACT) as address, Browser() as browser:
        browser.open(address)
        sites = "document.querySelectorAll('#{} [data-s]').length"
        browser.wait(f"{sites.format('left')} === 256 && {sites.format('right')} === 256")
        browser.wait("document.querySelector('#step input[type=range]').max === '8'")
        browser.value("document.querySelector('#step input[type=range]').focus()")
        browser.press("ArrowLeft", 37)
        browser.wait("document.querySelectorAll('#right .later').length > 0")
        before = browser.value("document.querySelector('#right').innerText")
        browser.value("document.querySelector('[aria-label=Seed]').select()")
        browser.call("Input.insertText", text="5")
        browser.value("document.querySelector('#sample').click()")
        browser.wait(f"document.querySelector('#right').innerText !== {before!r}")
        hosts = {r.split("/")[2] for r in browser.requests if r.startswith("http")}
        assert hosts == {address.split("/")[2]}
        check_console(browser)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GRADIO or CHROMIUM is None, reason="needs gradio and chromium")
def test_an_uploaded_song_is_continued_without_an_error(tmp_path):
    from builders.page_code import song

    (tmp_path / "song.mid").write_bytes(song())
    with served("piano-absorbing") as address, Browser() as browser:
        browser.open(address)
        given = "document.querySelector('#{}').innerText.includes('given bars in grey')"
        browser.wait("document.querySelectorAll('#right [data-s]').length > 0")
        assert not browser.value(given.format("right"))
        browser.choose_file("input[type=file]", tmp_path / "song.mid")
        browser.wait("document.body.innerText.includes('song.mid')")
        browser.value("document.querySelector('#sample').click()")
        browser.wait(f"{given.format('left')} && {given.format('right')}")
        check_console(browser)
