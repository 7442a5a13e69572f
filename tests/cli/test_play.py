"""``jumpsteps play``: what a pane draws, what it refuses, and the page in a browser."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from builders.browser import CHROMIUM, Browser
from builders.command_line import EXACT, run
from builders.page_code import small_countdown
from jumpsteps.cli import play
from jumpsteps.cli.play import OF_SCHEDULE, OWN, Pane, draw, observed
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
