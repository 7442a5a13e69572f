"""What the flags of several commands are made of."""

import argparse

from jumpsteps.cli.names import DTYPES, choices
from jumpsteps.cli.options import Options
from jumpsteps.models import BUILT_IN

__all__ = ["ShowDefaults", "Subparsers", "add_loading", "command", "positive"]

Subparsers = argparse._SubParsersAction  # the type of add_subparsers() has no public name


OWN = "an object of your own, or a function without arguments that makes it (docs/your_own.md)"

LARGEST = 2**31 - 1
"""The largest number that a flag takes."""


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
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


def add_loading(to: argparse.ArgumentParser, default: str | None = None) -> None:
    """The flags of which model, and how it is loaded; without a default its name is required."""
    text = f"{choices(BUILT_IN)}, a folder, a hub id, or MODULE:NAME, {OWN}"
    needed = None if default is None else "?"
    to.add_argument("name", metavar="MODEL", nargs=needed, default=default, help=text)
    to.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code that comes with the model (LLaDA and Dream need it)",
    )
    to.add_argument(
        "--mask-id", type=int, help="id of MASK, for a masked language model that does not name it"
    )
    to.add_argument(
        "--length",
        type=positive,
        help="sequence length L of a masked language model, by default the longest it allows, or "
        "of a reverse process of your own",
    )
    to.add_argument(
        "--tokenizer",
        help="folder or hub id of the tokenizer; by default the one in the model's folder",
    )
    to.add_argument(
        "--dtype",
        help=f"number format of the network's parameters: {choices(DTYPES)}; by default the "
        "model's own",
    )
    to.add_argument(
        "--compile",
        action="store_true",
        help="compile the network without its head; the first calls take seconds longer",
    )
