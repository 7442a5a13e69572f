"""The flags of the commands that make pages for a browser."""

import argparse

from jumpsteps.cli.flag_parts import ShowDefaults, Subparsers, add_loading, command, positive
from jumpsteps.cli.options import PlayOptions, ReportOptions

__all__ = ["add_play", "add_report"]


def add_report(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "write one HTML page of the results of comparisons, to be opened in a browser"
    report = commands.add_parser(
        "report", help=text, description=f"{text.capitalize()}.", formatter_class=ShowDefaults
    )
    report.set_defaults(options=ReportOptions)
    report.add_argument(
        "results",
        metavar="RESULTS",
        nargs="+",
        help="files of 'jumpsteps compare' or 'jumpsteps optimize', or folders with a "
        "results.json; schedules of a model that is compared in another file are shown beside it",
    )
    report.add_argument("-o", "--out", default="report.html", help="HTML file")


def add_play(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    text = "open a page in the browser with two runs side by side, at equal model calls"
    play = command(commands, "play", PlayOptions, text)
    add_loading(play, default="countdown")
    play.add_argument("--port", type=positive, default=7860, help="where the page is served")
    play.add_argument("--no-browser", action="store_true", help="only serve the page")
