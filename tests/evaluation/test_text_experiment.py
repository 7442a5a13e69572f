"""What the experiment on text reads from its rows."""

import text as experiment


def row(name: str, nfe: float, mean: float, half: float, entropy: float = 6.0) -> list:
    return [name, nfe, "", 0.0, [mean, half], None, entropy]


def test_the_fewest_calls_that_reach_the_baseline() -> None:
    rows = [
        row("real text", 0, 3.7, 0.1),
        row("tweedie:uniform", 128, 4.9, 0.03),
        row("tweedie:uniform", 256, 4.7, 0.03),
        row("golden", 8, 4.8, 0.04),
        row("golden", 16, 4.74, 0.04),
        row("golden", 32, 4.6, 0.04),
        row("maskgit", 16, 3.0, 0.04, entropy=4.0),
    ]
    found = {name: cells for name, *cells in experiment.reach(rows)["rows"]}
    assert found == {
        "tweedie:uniform": [256, 256, 1.0],
        "golden": [32, 16, 16.0],
        "maskgit": [None, None, None],
    }
    assert experiment.reach(rows[:2])["rows"] == []
