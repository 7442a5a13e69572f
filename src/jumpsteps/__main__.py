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
        # Threads of gloo live as long as anything holds the process group, such as FSDP's mesh. One
        # that still holds tensors when the interpreter ends aborts the process, in our reading of
        # https://github.com/pytorch/pytorch/pull/179291, which was given up.
        sys.stderr.flush()
        os._exit(0)
    sys.exit(code)


if __name__ == "__main__":
    run()
