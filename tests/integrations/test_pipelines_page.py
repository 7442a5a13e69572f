"""The Python in docs/pipelines.md runs as printed, on tiny random models."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", "0.39")
from builders.pipelines import MASK, VOCABULARY, gemma_pipeline, llada2_pipeline

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


def block(having):
    """The one block of the page that contains this text."""
    (found,) = [
        b for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if having in b
    ]
    return found


def test_llada2():
    code = block("editing_threshold=None")
    prompt = f"input_ids=torch.zeros(1, 3).long(), mask_token_id={MASK}, output_type='seq'"
    names = {"pipeline": llada2_pipeline(None), "torch": torch}
    exec(code.replace('"A prompt"', prompt), names)
    made = names["output"].sequences
    assert made.shape == (1, 64)
    assert not (made == MASK).any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("having", ["timestep_spacing", "uniform_counts"])
def test_gemma(having):
    pipeline = gemma_pipeline(None)
    names = {"pipeline": pipeline, "vocabulary": VOCABULARY}
    exec(block("import jumpsteps as js").partition("schedules")[0], names)
    exec(block(having), names)
    made = pipeline(prompt="", gen_length=16, num_inference_steps=3, confidence_threshold=None)
    assert made.sequences.shape == (1, 16)


def test_the_loop_and_the_grid():
    names = {
        "network": lambda x: torch.zeros(*x.shape, MASK + 1),
        "prompt": torch.zeros(2, 3, dtype=torch.int64),
        "mask_id": MASK,
    }
    for having in ("import jumpsteps as js", "generate(", "time_grid"):
        exec(block(having).partition("schedules =")[0], names)
    assert names["tokens"].shape == (2, 131)
    assert (names["tokens"] < MASK).all()
    assert names["grid"].tolist() == pytest.approx([0, 0.3, 0.7, 0.9, 1])
