"""What AntiBERTy believes of masked residues beside what they cost, for docs/evidence.md.

    python experiments/calibration_figure.py docs/figures/calibration.png

The numbers are those of docs/results/antibodies-calibration.json.
"""

import argparse
import json
from pathlib import Path

from jumpsteps.evaluation.plots import COLOURS, MARKERS, new_figure, write

NUMBERS = Path(__file__).parents[1] / "docs" / "results" / "antibodies-calibration.json"


def run() -> None:
    """Draw entropy and -log p against the share of masked sites."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="the picture to write")
    args = parser.parse_args()
    rows = json.loads(NUMBERS.read_text(encoding="utf-8"))["tables"]["calibration"]["rows"]
    shares = [float(str(row[0]).removesuffix("%")) for row in rows]
    figure = new_figure(5.6, 3.2)
    axes = figure.subplots()
    for column, label in ((1, "entropy: what the model believes"), (2, "-log p of the residues")):
        axes.plot(
            shares,
            [row[column] for row in rows],
            color=COLOURS[column],
            marker=MARKERS[column],
            label=label,
        )
    axes.set_xlabel("masked residues, per cent")
    axes.set_ylabel("nats per masked residue")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    write(figure, args.out)


if __name__ == "__main__":
    run()
