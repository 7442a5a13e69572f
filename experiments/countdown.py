"""CountDown (Park et al. 2025, Sec. 4.1): violation rate against the number of model calls, five schedules.

    python experiments/countdown.py OUT [--device cuda]

Writes OUT/<model>.json and OUT/<model>.png. The exact model takes about 10 minutes on two cores; the network 2 minutes on a GPU
and more than an hour on two cores.
"""

import argparse
import sys
from pathlib import Path

from jumpsteps.cli.main import main

NFE = ["2", "4", "8", "16", "32", "64"]
SCHEDULES = ["uniform", "cosine", "jys", "shortest-path", "shortest-path-spread"]

# Violations in per cent at NFE 4 to 64 of uniform, JYS, shortest path, the same in spread order; intervals: docs/countdown.md.
EXPECTED = {
    "countdown-exact": "22.3 9.84 4.28 1.98 0.99   11 4.19 1.85 0.90 0.48   9.07 3.53 1.48 0.71 0.40   2.5 0.09 0.09 0.09 0.08",
    "countdown": "22.4 9.9 4.36 2 1.01   11 4.18 1.87 0.88 0.50   9.08 3.55 1.51 0.72 0.40   2.5 0.09 0.09 0.10 0.08",
}


def run() -> int:
    """Both models, one after the other; the exit code is that of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for model, expected in EXPECTED.items():
        files = ["-o", str(args.out / f"{model}.json"), "--picture", str(args.out / f"{model}.png")]
        options = [
            "--nfe",
            *NFE,
            "--schedules",
            *SCHEDULES,
            "-n",
            "1024",
            "--batch",
            "128",
            "--device",
            args.device,
        ]
        print(f"{model}; expected: {expected}")
        if code := main(["compare", model, *options, *files]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(run())
