"""``jumpsteps play``: two runs side by side in a browser, at equal model calls.

A local page of gradio (the extra ``play``). It asks no other server for anything.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import torch

from jumpsteps.cli.correcting import with_corrector
from jumpsteps.cli.inputs import device_named, load_model, seeded
from jumpsteps.cli.named_schedules import schedule_named
from jumpsteps.cli.names import FIXED, ORDERS
from jumpsteps.cli.options import CorrectorOptions, ModelOptions, PlayOptions
from jumpsteps.cli.sequence_files import given_prompt
from jumpsteps.cli.your_own import place_of
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.page.films import text_gallery
from jumpsteps.models import BUILT_IN, LoadedModel, load
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.registry import SAMPLERS, default_sampler
from jumpsteps.schedules.files import at_nfe
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.tasks.galleries import gallery_facts, gallery_of

__all__ = ["Pane", "draw", "play_command", "playground"]

OWN = "the model's own"
"""Among schedules: what came with the model."""

OF_SCHEDULE = "that of the schedule"
"""Among orders."""

MOST_CALLS = 64
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Pane:
    """What one of the two runs does differently from the other.

    Attributes:
        schedule: ``OWN`` or a fixed schedule.
        order: ``OF_SCHEDULE`` or a reveal order.
        corrections: of the model calls, those that correct.
    """

    schedule: str
    order: str
    corrections: int


def play_command(options: PlayOptions) -> None:
    device = device_named(options.model.device)
    check_free(options.port)
    page = playground(options.model, device)
    _, address, _ = page.launch(
        server_name=HOST,
        server_port=options.port,
        inbrowser=not options.no_browser,
        share=False,
        show_error=True,
        prevent_thread_lock=True,
        quiet=True,
        css=STYLE,
        footer_links=[],
    )
    print(f"the page is at {address}; Ctrl-C ends it", flush=True)
    page.block_thread()


def check_free(port: int) -> None:
    """Raises ValueError for a port where something else is served."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"port {port} cannot be used ({error}); pass another with --port"
            ) from None


def observed(model: LoadedModel, prompt: str, file: str | None) -> Given | None:
    """The observed sites of a prompt or of a file of the task's own format."""
    if prompt and model.text is not None:
        return given_prompt(prompt, model.text, model.length)
    if file and model.task is not None and model.task.read_given is not None:
        return model.task.read_given(Path(file), model.length)
    return None


def schedule_of(model: LoadedModel, pane: Pane, steps: int, given: Given | None) -> Schedule:
    """The schedule of a pane with so many steps.

    Raises:
        ValueError: the model came with none, or its schedules have an order of their own.
    """
    order = None if pane.order == OF_SCHEDULE else pane.order
    if pane.schedule == OWN:
        if order is not None:
            raise ValueError(
                "the model's own schedule has an order of its own; choose that of the schedule"
            )
        if not model.schedules:
            raise ValueError(f"{model.name} came without schedules; choose a fixed one")
        return at_nfe(model.schedules, steps, model.name)
    if order is not None and not isinstance(model.reverse.forward, Absorbing):
        raise ValueError(f"the {model.reverse.forward.name} kernel has no reveal order")
    sampler = None if order is None else KGillespie()
    return schedule_named(pane.schedule, steps, model, given, sampler=sampler, order=order)


def draw(
    model: LoadedModel,
    pane: Pane,
    calls: int,
    seed: int,
    given: Given | None,
    device: torch.device,
) -> tuple[str, int]:
    """One sample as HTML, each token in the colour of its step, and the number of steps.

    Raises:
        ValueError: a pane that the model does not allow.
    """
    steps = calls - pane.corrections
    if steps < 1:
        raise ValueError(
            f"{pane.corrections} corrections leave none of {calls} model calls for the steps; "
            "choose fewer, or more model calls"
        )
    corrector = CorrectorOptions(pane.corrections or None, None)
    schedule = schedule_of(model, pane, steps, given)
    own = SAMPLERS.get(schedule.provenance.sampler) if pane.schedule == OWN else None
    sampler = with_corrector(own or default_sampler(schedule), corrector)
    run = simulate(
        model.reverse,
        sampler,
        schedule,
        (1, model.length),
        generator=seeded(seed, device),
        given=given,
    )
    examples, steps = Examples.of(run, 1, given), len(run.moved)
    gallery = gallery_of(gallery_facts(model.task))
    if model.text is not None:
        examples, gallery = examples.with_text(model.text.decode), text_gallery
    content, note = gallery(examples, steps)
    said = f"{run.nfe} model calls, {steps} steps"
    if model.task is not None:
        value = 100 * float(model.task.metric(run.samples).mean())
        said += f", {model.task.metric_name} {value:.1f}%"
    return f'<p class="note">{said}{", " if note else ""}{note}</p>{content}', steps


STYLE = resources.files("jumpsteps.evaluation.page").joinpath("templates/sites.css").read_text()

SHOW_STEP = """(step) => {
  for (const site of document.querySelectorAll("[data-s]")) {
    const own = Number(site.dataset.s);
    site.classList.toggle("later", own > step);
    site.classList.toggle("now", own === step && step > 0);
  }
}"""
"""What the slider does, in the browser."""


def gradio() -> Any:
    """The library, told to send nothing.

    Raises:
        ValueError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        return import_module("gradio")
    except ModuleNotFoundError:
        raise ValueError("the playground needs gradio: pip install 'jumpsteps[play]'") from None


def playground(options: ModelOptions, device: torch.device) -> Any:
    """The page, a ``gradio.Blocks``, with this model chosen first.

    Raises:
        ValueError: gradio is not installed, or there is no such model.
    """
    library, name = gradio(), options.name
    first = load_model(options, device)
    loaded = cache(lambda chosen: first if chosen == name else load(chosen, device=device))
    with library.Blocks(title="jumpsteps", analytics_enabled=False) as page:
        library.Markdown("# Two runs at equal model calls")
        with library.Row():
            names = list(dict.fromkeys([name, *BUILT_IN]))
            model = library.Dropdown(names, value=name, label="Model")
            calls = library.Slider(1, MOST_CALLS, 8, step=1, label="Model calls")
            seed = library.Number(0, precision=0, label="Seed")
        prompt = library.Textbox(label="Prompt", visible=first.text is not None)
        given = library.File(height=120, **file_asked(first))
        with library.Row():
            left = pane_of(library, "left", OWN if first.schedules else "cosine")
            right = pane_of(library, "right", "uniform")
        button = library.Button("Sample", variant="primary", elem_id="sample")
        step = library.Slider(0, 8, 8, step=1, label="Step", elem_id="step")
        with library.Row():
            shown = [library.HTML(elem_id=side) for side in ("left", "right")]

        def sample(
            chosen: str, n: int, number: int, text: str, file: str | None, *panes: Any
        ) -> list[Any]:
            with refused(library):
                one = loaded(chosen)
                known = observed(one, text, file)
                pairs = [Pane(*panes[:3]), Pane(*panes[3:])]
                drawn = [draw(one, pane, n, int(number or 0), known, device) for pane in pairs]
            most = max(steps for _, steps in drawn)
            return [drawn[0][0], drawn[1][0], library.Slider(maximum=most, value=most)]

        def show(chosen: str) -> list[Any]:
            with refused(library):
                one = loaded(chosen)
            asked = {"visible": one.text is not None}, {"value": None, **file_asked(one)}
            return [library.update(**settings) for settings in asked]

        inputs = [model, calls, seed, prompt, given, *left, *right]
        model.change(show, model, [prompt, given])
        for ready in (button.click, page.load):
            ready(sample, inputs, [*shown, step])
        step.change(None, step, None, js=SHOW_STEP)
    return page


@contextmanager
def refused(library: Any) -> Iterator[None]:
    """Errors that a command prints in one line are shown on the page."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        said = f"{error}{place_of(error)}"
        raise library.Error(said, print_exception=False) from None


def file_asked(model: LoadedModel) -> dict[str, Any]:
    """The settings of the field for a file of observed sites."""
    task = model.task
    if task is None or task.read_given is None:
        return {"visible": False, "label": "Observed sites", "file_types": None}
    types = list(task.given_suffixes) or None
    return {"visible": True, "label": task.given_name, "file_types": types}


def pane_of(library: Any, side: str, schedule: str) -> tuple[Any, Any, Any]:
    """The controls of one run."""
    with library.Column():
        named = library.Dropdown([OWN, *FIXED], value=schedule, label=f"Schedule, {side}")
        order = library.Dropdown([OF_SCHEDULE, *ORDERS], value=OF_SCHEDULE, label=f"Order, {side}")
        corrections = library.Slider(0, 32, 0, step=1, label=f"Corrections, {side}")
        return named, order, corrections
