"""The command ``jumpsteps``, also as ``python -m jumpsteps``."""

import os
import sys
from typing import TextIO, cast

from jumpsteps.cli.closed_pipe import OutputUntilClosed
from jumpsteps.cli.main import main
from jumpsteps.core.distributed import launch_of
from jumpsteps.core.interrupts import command_is_ready


def run() -> None:
    """Run the command line and exit with its code."""
    command_is_ready()
    sys.stdout = cast(TextIO, OutputUntilClosed(sys.stdout))
    code = main()
    sys.stdout.flush()
    if code == 0 and launch_of(os.environ).count > 1:
        # A thread of gloo may still hold the tensors of the last exchange. To give them up it asks
        # for the interpreter's lock, and where the interpreter has ended that aborts the process
        # (https://github.com/pytorch/pytorch/pull/179291, not merged). Destroying the process group
        # does not end these threads while anything holds it, such as FSDP's mesh.
        sys.stderr.flush()
        os._exit(0)
    sys.exit(code)


if __name__ == "__main__":
    run()
