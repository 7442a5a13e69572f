"""The command ``jumpsteps``, also as ``python -m jumpsteps``."""

import sys

from jumpsteps.cli.main import main
from jumpsteps.core.interrupts import command_is_ready


def run() -> None:
    """Run the command line and exit with its code."""
    command_is_ready()
    sys.exit(main())


if __name__ == "__main__":
    run()
