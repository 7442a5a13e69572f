"""CountDown (Park et al. 2025, Sec. 4.1): violation rates of five schedules at NFE 2 to 64.

    python experiments/countdown.py OUT [--device cuda]

Writes OUT/<model>.json and OUT/<model>.png, and the tables of docs/countdown.md as
OUT/results/countdown.json. The exact model takes about 10 minutes on two cores; the network takes
2 minutes on a GPU and more than an hour on two cores.
"""

import argparse
import json
import sys
from pathlib import Path

from jumpsteps.cli.main import main
from results import Table, by_nfe, device_name, write_results

NFE = ["2", "4", "8", "16", "32", "64"]
TITLES = {
    "uniform": "uniform",
    "cosine": "cosine",
    "jys": "JYS",
    "shortest-path": "shortest path",
    "shortest-path-spread": "shortest path, spread order",
}
MODELS = ("countdown-exact", "countdown")
SAMPLES = 1024


def compare(model: str, out: Path, device: str) -> int:
    """The exit code of `jumpsteps compare`."""
    options = ["--nfe", *NFE, "--schedules", *TITLES, "-n", str(SAMPLES), "--batch", "128"]
    options += ["--measure", "model"]
    files = ["-o", str(out / f"{model}.json"), "--picture", str(out / f"{model}.png")]
    return main(["compare", model, *options, "--device", device, *files])


def run() -> int:
    """Both models, one after the other; the exit code is that of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    tables: dict[str, Table] = {}
    for model in MODELS:
        if code := compare(model, args.out, args.device):
            return code
        rows = json.loads((args.out / f"{model}.json").read_text(encoding="utf-8"))["rows"]
        tables[model] = by_nfe(rows, TITLES)
    command = f"python experiments/countdown.py OUT --device {args.device}"
    write_results(
        args.out / "results" / "countdown.json",
        __file__,
        tables,
        command=command,
        device=device_name(args.device),
        samples=SAMPLES,
        sequences=64,
        search_seed=0,
        sampling_seed=1,
    )
    return 0


if __name__ == "__main__":
    sys.exit(run())
