"""CountDown (Park et al. 2025, Sec. 4.1): violation rate against the number of model calls, five schedules.

    python experiments/countdown.py OUT [--device cuda]

Writes OUT/<model>.json and OUT/<model>.png. The exact model takes about 10 minutes on two cores; the network 2 minutes on a GPU
and more than an hour on two cores.
"""

import argparse
import sys
from pathlib import Path

from jumpsteps.cli import main

NFE = ["2", "4", "8", "16", "32", "64"]
SCHEDULES = ["uniform", "cosine", "jys", "shortest-path", "shortest-path-spread"]

# Violations in per cent at NFE 4 to 64 of uniform, JYS, shortest path, the same in spread order; intervals: docs/countdown.md.
EXPECTED = {
    "countdown-exact": "22.4 9.81 4.31 1.97 0.99   10.7 4.17 1.79 0.89 0.47   9.03 3.46 1.46 0.73 0.41   2.50 0.09 0.09 0.10 0.10",
    "countdown": "22.4 9.89 4.37 1.99 1.02   10.7 4.21 1.84 0.95 0.45   9.04 3.49 1.49 0.74 0.41   2.51 0.09 0.09 0.10 0.09",
}


def run() -> int:
    """Both models, one after the other; the exit code is that of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for model, expected in EXPECTED.items():
        files = ["-o", str(args.out / f"{model}.json"), "--picture", str(args.out / f"{model}.png")]
        options = ["--nfe", *NFE, "--schedules", *SCHEDULES, "-n", "1024", "--batch", "128", "--device", args.device]
        print(f"{model}; expected: {expected}")
        if code := main(["compare", model, *options, *files]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(run())
