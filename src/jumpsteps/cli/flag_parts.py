"""What the flags of several commands are made of."""

import argparse

from jumpsteps.cli.options import Options

__all__ = ["ShowDefaults", "Subparsers", "command", "positive"]

Subparsers = argparse._SubParsersAction  # the type of add_subparsers() has no public name


LARGEST = 2**31 - 1
"""The largest number that a flag takes."""


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    if value > LARGEST:
        raise argparse.ArgumentTypeError(f"must be at most {LARGEST}, got {value}")
    return value


class ShowDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that ends in the default, where that is a number or a name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = isinstance(action.default, str) or type(action.default) is int
        return super()._get_help_string(action) if shown else action.help


def command(
    commands: "Subparsers[argparse.ArgumentParser]", name: str, options: type[Options], text: str
) -> argparse.ArgumentParser:
    """A command with this help, and the flag that all commands have."""
    about = text[0].upper() + text[1:] + "."
    made = commands.add_parser(name, help=text, description=about, formatter_class=ShowDefaults)
    made.set_defaults(options=options)
    made.add_argument("--device", help="torch device; by default cuda if there is one, else cpu")
    return made
