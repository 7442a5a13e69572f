"""The report as one HTML file that needs nothing else: no server, no script or font from elsewhere.

Needs jinja2, which torch brings. The templates are beside this module.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jumpsteps.core.files import replacing
from jumpsteps.evaluation.page.charts import (
    confidence_chart,
    cost_chart,
    entropy_chart,
    known_costs,
    quality_chart,
    schedule_strips,
    swatch,
)
from jumpsteps.evaluation.page.films import (
    MOST_CELLS,
    Gallery,
    Panel,
    film,
    order_panels,
    text_gallery,
)
from jumpsteps.evaluation.page.wording import cell, cost_cell, finding, value_and_half
from jumpsteps.evaluation.results import Results
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.serialise import noise_from_text
from jumpsteps.schedules.conversion import counts_between, masked_sites
from jumpsteps.schedules.orders import Random
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.version import __version__

__all__ = ["merged", "render_report", "write_report"]

SHOWN_NFE = 8
"""Schedules and samples are shown at the number of model calls nearest to this."""

FACTS = {
    "model": "model",
    "kernel": "kernel",
    "noise": "noise schedule",
    "task": "data",
    "length": "sites",
    "symbols": "symbols",
    "sampler": "sampler",
    "samples": "samples per point",
    "seed": "seed",
    "device": "device",
    "torch": "torch",
    "version": "jumpsteps",
}
"""What a file of results knows -> its name on the page."""

PROVENANCE = {
    "method": "method",
    "sampler": "sampler",
    "data": "data",
    "sequences": "sequences",
    "held_out": "held out",
    "seed": "seed",
    "model_calls": "model calls",
    "version": "jumpsteps",
}
"""Fields of a schedule's provenance -> their names on the page."""

GalleryOf = Callable[[Mapping[str, Any]], Gallery]


def write_report(path: Path | str, results: Sequence[Results], gallery_of: GalleryOf) -> None:
    """Write the report of some results to one HTML file.

    Args:
        gallery_of: how samples are shown, from what the results say of their model and task.

    Raises:
        ValueError: no results.
    """
    text = render_report(results, gallery_of)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render_report(results: Sequence[Results], gallery_of: GalleryOf) -> str:
    """The HTML of ``write_report``.

    Raises:
        ValueError: no results.
    """
    if not results:
        raise ValueError("there are no results to report; pass at least one file")
    environment = Environment(
        loader=PackageLoader("jumpsteps.evaluation.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    chapters = [
        Chapter(f"part{i}", each, gallery_of).context() for i, each in enumerate(results, 1)
    ]
    page = environment.get_template("report.html")
    return page.render(chapters=chapters, version=__version__)


@dataclass(frozen=True)
class Chapter:
    """One file of results on the page.

    Attributes:
        id: of its heading.
        results: what is shown.
        gallery_of: as ``write_report``.
    """

    id: str
    results: Results
    gallery_of: GalleryOf

    @property
    def names(self) -> list[str]:
        """The schedules, in the order of the rows."""
        rows = [row.schedule for row in self.results.rows]
        return list(dict.fromkeys([*rows, *self.results.schedules]))

    @property
    def budgets(self) -> list[int]:
        """All numbers of model calls."""
        found = [n for each in self.results.schedules.values() for n in each]
        return sorted({*(row.nfe for row in self.results.rows), *found})

    @property
    def shown_nfe(self) -> int:
        return min(self.budgets, key=lambda n: (abs(n - SHOWN_NFE), n))

    @property
    def percent(self) -> bool:
        return bool(self.results.about.get("percent", True))

    @property
    def metric(self) -> str:
        name = str(self.results.about.get("metric", "metric"))
        return f"{name}, %" if self.percent else name

    def schedule(self, name: str, nfe: int) -> Schedule | None:
        return self.results.schedules.get(name, {}).get(nfe)

    def context(self) -> dict[str, Any]:
        """What the template shows."""
        about = self.results.about
        facts = [(FACTS[key], about[key]) for key in FACTS if about.get(key) not in (None, "")]
        return {
            "id": self.id,
            "title": about.get("model") or "Results",
            "facts": facts,
            "command": about.get("command"),
            "task": about.get("task"),
            "nfe": self.shown_nfe,
            "legend": [(i, name, swatch(i)) for i, name in enumerate(self.names)],
            "quality": self.quality() if self.results.rows else None,
            "measures": self.measures(),
            "strips": self.strips(),
            "orders": self.orders(),
            "cost": self.cost(),
            "calibration": self.calibration(),
            "samples": self.samples(),
            "provenance": self.provenance(),
        }

    def quality(self) -> dict[str, Any]:
        """The metric against model calls: a chart, a table and a sentence."""
        about, rows, scale = self.results.about, self.results.rows, 100.0 if self.percent else 1.0
        shown = [row for row in rows if row.nfe == self.shown_nfe]
        names = [name for name in self.names if any(row.schedule == name for row in rows)]
        budgets = sorted({row.nfe for row in rows})
        at = {(row.nfe, row.schedule): row for row in rows}
        best = [min(row.metric.mean for row in rows if row.nfe == n) for n in budgets]
        lines = [
            (
                self.names.index(name),
                [
                    cell(at.get((n, name)), mean, scale)
                    for n, mean in zip(budgets, best, strict=True)
                ],
            )
            for name in names
        ]
        return {
            "metric": self.metric,
            "chart": quality_chart(rows, names, self.metric, scale),
            "budgets": budgets,
            "lines": lines,
            "level": round(100 * rows[0].metric.level),
            "finding": finding(shown, str(about.get("metric", "metric")), self.percent),
        }

    def measures(self) -> dict[str, Any] | None:
        """What stands beside the metric, a line for each row and one for the data; and the metric
        itself, where the data have one.
        """
        metric = str(self.results.about.get("metric"))
        of_data = self.results.about.get("data_measures", {})
        lines: list[tuple[int | None, str, Mapping[str, Sequence[float]]]] = [
            (None, name, measured) for name, measured in of_data.items()
        ]
        marked = any(metric in measured for *_, measured in lines)
        for row in self.results.rows:
            own = {metric: (row.metric.mean, row.metric.high - row.metric.mean)} if marked else {}
            number = self.names.index(row.schedule)
            lines.append((number, f"{row.schedule}, NFE {row.nfe}", {**own, **row.measures}))
        titles = list(dict.fromkeys(title for *_, measured in lines for title in measured))
        shown = [
            (number, name, [value_and_half(measured.get(title)) for title in titles])
            for number, name, measured in lines
        ]
        return {"titles": titles, "lines": shown} if titles else None

    def strips(self) -> list[tuple[int, str]]:
        """The schedules at each number of model calls, the one that is shown first."""
        drawn = []
        for nfe in sorted(self.budgets, key=lambda n: (n != self.shown_nfe, n)):
            steps = {
                row.schedule: (row.times, self.schedule(row.schedule, nfe))
                for row in self.results.rows
                if row.nfe == nfe
            }
            for name, found in self.results.schedules.items():
                if nfe in found and name not in steps:
                    steps[name] = (shares_left(found[nfe]), found[nfe])
            if steps:
                drawn.append((nfe, schedule_strips(steps)))
        return drawn

    def orders(self) -> Mapping[str, object] | None:
        """The sites that each step reveals, with the counts of one schedule.

        Counts in an order of their own come first, then counts in random order, then those that
        times expect.
        """
        counts = [self.schedule(name, self.shown_nfe) for name in self.names]
        found = [one for one in counts if isinstance(one, CountSchedule)]
        found.sort(key=lambda one: one.order.name == Random.name)
        if not found:
            times = [row.times for row in self.results.rows if row.nfe == self.shown_nfe]
            found = [one for t in times if (one := expected_counts(t, self.results.about))]
        if not found or found[0].total > MOST_CELLS:
            return None
        return film(order_panels(found[0]), found[0].steps, f"{self.id}-orders")

    def cost(self) -> dict[str, Any] | None:
        """What few steps cost, by the schedules' own evidence."""
        chart = cost_chart(self.results.schedules, self.names)
        if not chart:
            return None
        found = {name: known_costs(each) for name, each in self.results.schedules.items()}
        budgets = sorted({nfe for each in found.values() for nfe, *_ in each})
        lines = []
        for name in self.names:
            cells = {one[0]: cost_cell(*one[1:]) for one in found.get(name, [])}
            if cells:
                lines.append((self.names.index(name), [cells.get(n) for n in budgets]))
        certified = any(limit is not None for each in found.values() for *_, limit in each)
        return {"chart": chart, "budgets": budgets, "lines": lines, "certified": certified}

    def calibration(self) -> dict[str, Any] | None:
        """The charts of the calibration, if it was measured."""
        curve = self.results.calibration
        if curve is None or not curve.levels or not all(isfinite(one.nll) for one in curve.levels):
            return None
        masked = self.results.about.get("kernel") == Absorbing.name
        return {
            "entropy": entropy_chart(curve, "masked" if masked else "corrupted"),
            "confidence": confidence_chart(curve),
            "sequences": curve.sequences,
        }

    def samples(self) -> Mapping[str, object] | None:
        """The first samples of every schedule at the shown number of model calls."""
        rows = [r for r in self.results.rows if r.nfe == self.shown_nfe and r.examples]
        panels, most = [], 1
        for row in rows:
            examples = row.examples
            if examples is None:
                continue
            steps = max(max(map(max, examples.steps)), 1)
            gallery = self.gallery_of(self.results.about)
            if examples.pieces:
                gallery = text_gallery
            content, note = gallery(examples, steps)
            panels.append(Panel(row.schedule, content, note, self.names.index(row.schedule)))
            most = max(most, steps)
        return film(panels, most, f"{self.id}-samples") if panels else None

    def provenance(self) -> list[tuple[str, list[tuple[str, object]]]]:
        """Where each schedule came from."""
        shown = []
        for name in self.names:
            found = self.results.schedules.get(name)
            if not found:
                continue
            known = found[min(found, key=lambda n: abs(n - self.shown_nfe))].provenance
            facts = known.facts()
            lines = [(PROVENANCE[key], facts[key]) for key in PROVENANCE]
            kept = [(label, value) for label, value in lines if value not in (None, "")]
            shown.append((name, kept or [("method", "fixed")]))
        return shown


def shares_left(schedule: Schedule) -> tuple[float, ...]:
    """The times of a schedule; for counts, the shares of sites that are left."""
    if not isinstance(schedule, CountSchedule):
        return schedule.times
    shares = [1.0]
    for count in schedule.counts:
        shares.append(shares[-1] - count / schedule.total)
    return (*shares[:-1], 0.0)


def expected_counts(times: Sequence[float], about: Mapping[str, Any]) -> CountSchedule | None:
    """The counts that times of the absorbing kernel expect; None for other kernels."""
    if about.get("kernel") != Absorbing.name:
        return None
    try:
        noise = noise_from_text(str(about.get("noise")))
        masked = masked_sites(times, int(about.get("length", 0)), noise)
        return CountSchedule(counts_between(masked))
    except ValueError:
        return None


def merged(results: Sequence[Results]) -> list[Results]:
    """The results, with schedules of a file of their own put to a comparison of the same model."""
    kept: list[Results] = []
    for each in results:
        model = each.about.get("model_hash")
        hosts = [
            k for k, one in enumerate(kept) if one.rows and one.about.get("model_hash") == model
        ]
        if each.rows or not (model and hosts):
            kept.append(each)
            continue
        host = kept[hosts[0]]
        kept[hosts[0]] = replace(host, schedules={**host.schedules, **each.schedules})
    return kept
