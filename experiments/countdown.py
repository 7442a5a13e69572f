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

# Violations in per cent at NFE 4, 8, 16, 32, 64 of uniform, JYS and shortest path; intervals are in docs/countdown.md.
EXPECTED = {
    "countdown-exact": "22.5 9.68 4.28 1.92 0.99   10.7 4.33 1.8 0.913 0.499   8.93 3.49 1.45 0.747 0.433",
    "countdown": "22.2 9.91 4.36 2.01 1.02   10.8 4.16 1.85 0.942 0.463   8.86 3.56 1.54 0.759 0.415",
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
