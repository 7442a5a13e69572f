"""The command ``jumpsteps``, also as ``python -m jumpsteps``."""

import sys

from jumpsteps.cli.main import main


def run() -> None:
    """Run the command line and exit with its code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
