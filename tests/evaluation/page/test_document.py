"""The page: what it says of results, what it leaves out, and that it is complete in itself."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from builders.results import interval, small_results
from jumpsteps.evaluation.examples import Examples
from jumpsteps.evaluation.page.document import merged, render_report, write_report
from jumpsteps.evaluation.page.svg import RAMP
from jumpsteps.evaluation.results import Results
from jumpsteps.schedules.schedule import CountSchedule
from jumpsteps.tasks.galleries import gallery_of

VOID = {"meta", "link", "input", "img"}


class Nesting(HTMLParser):
    """Elements that are not closed in order, and all addresses and ids."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.ids, self.addresses = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in ("src", "href") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def sections(text):
    return re.findall(r"<h3[^>]*>(.*?)</h3>", text)


def test_the_page_shows_all_that_the_results_know():
    text = render_report([small_results()], gallery_of)
    assert sections(text) == [
        "Quality against model calls",
        "Where the steps are",
        "Which sites each step reveals",
        "Samples",
        "What few steps cost",
        "Calibration",
        "Provenance",
    ]
    assert "With 4 model calls golden has the lowest violation rate, 1.0% (0.0 to 2.0)" in text
    assert "uniform has 10.0% (6.0 to 14.0)" in text
    assert "overlap" not in text
    assert "at most 0.71" in text
    assert "1 of 3 pairs broken" in text
    assert "jumpsteps compare countdown --nfe 2 4" in text


def test_the_page_is_well_formed_and_loads_nothing():
    made = small_results()
    page = Nesting(render_report([made, made], gallery_of))
    assert (page.open, page.wrong) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("#", "data:")) for address in page.addresses)


def luminance(colour):
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_on_the_colour_of_every_step():
    """A contrast of 4.5 (WCAG 2.2, 1.4.3), in light and in dark colours."""
    colour = r"(#\w+|light-dark\((#\w+), (#\w+)\))"
    rule = re.compile(rf"\.(c\d|given) {{ --r: {colour}; --on: {colour}; }}")
    rules = rule.findall(render_report([small_results()], gallery_of))
    assert [name for name, *_ in rules] == [*(f"c{i}" for i in range(RAMP)), "given"]
    for name, back, back_light, back_dark, on, on_light, on_dark in rules:
        for pair in ((back_light or back, on_light or on), (back_dark or back, on_dark or on)):
            low, high = sorted(map(luminance, pair))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, pair)


def test_names_are_escaped():
    made = small_results()
    rows = tuple(replace(row, schedule=f"<b>{row.schedule}</b>") for row in made.rows)
    text = render_report([replace(made, rows=rows, schedules={})], gallery_of)
    assert "<b>uniform" not in text
    assert "&lt;b&gt;uniform" in text
    assert "countdown &lt;&amp;&gt; more" in text


def test_old_results_have_a_chart_a_table_and_the_times_alone():
    made = small_results()
    rows = tuple(replace(row, examples=None) for row in made.rows)
    text = render_report([Results({}, rows)], {})
    assert sections(text) == ["Quality against model calls", "Where the steps are", "Provenance"]


def test_schedules_alone_have_no_quality():
    made = small_results()
    text = render_report([Results(made.about, (), made.schedules)], {})
    assert "Quality against model calls" not in text
    assert "What few steps cost" in text
    assert "Which sites each step reveals" in text


def test_schedules_of_a_model_go_to_its_comparison():
    made = small_results()
    other = Results({"model_hash": "abc"}, (), {"x": made.schedules["golden"]})
    foreign = Results({"model_hash": "d"}, (), {"x": made.schedules["golden"]})
    first, last = merged([made, other, foreign])
    assert set(first.schedules) == {"uniform", "golden", "x"}
    assert last is foreign


def test_overlapping_intervals_are_named():
    made = small_results()
    rows = tuple(replace(row, metric=interval(0.1, 0.05)) for row in made.rows)
    text = render_report([replace(made, rows=rows)], gallery_of)
    assert "The interval of golden overlaps with it." in text


def test_a_metric_without_per_cent_is_shown_as_it_is():
    made = small_results()
    about = {**made.about, "percent": False, "metric": "perplexity"}
    rows = tuple(replace(row, metric=interval(31.0, 2.0)) for row in made.rows)
    text = render_report([replace(made, rows=rows, about=about)], gallery_of)
    assert "lowest perplexity, 31.0 (29.0 to 33.0)" in text


def test_text_is_shown_in_the_colours_of_its_steps():
    made = small_results()
    examples = Examples(((0, 1, 2),), ((-1, 1, 3),), (("It", " was", " <late>"),))
    rows = tuple(replace(row, examples=examples) for row in made.rows)
    text = render_report([replace(made, rows=rows, about={"task": "text"})], gallery_of)
    assert '<i class="given" data-s="0">It</i><i class="c0" data-s="1"> was</i>' in text
    assert '<i class="c9" data-s="3"> &lt;late&gt;</i>' in text


def test_long_sequences_have_no_film_of_orders():
    made = small_results()
    long = {"golden": {4: CountSchedule([1000, 2000])}}
    assert "Which sites" not in render_report([replace(made, schedules=long)], gallery_of)


def test_times_of_a_masked_model_have_a_film_of_the_counts_that_they_expect():
    made = small_results()
    about = {**made.about, "noise": "LogLinear(eps=0.001)", "length": 8}
    times = {"uniform": made.schedules["uniform"]}
    rows = made.rows[::2]
    text = render_report([replace(made, schedules=times, about=about, rows=rows)], gallery_of)
    assert "random order</b> <span>the schedule&#39;s own" in text
    assert "golden order</b> <span>the same counts" in text
    for change in ({"kernel": "uniform"}, {"noise": "Unheard()"}, {"length": 2}):
        other = replace(made, schedules=times, about=about | change, rows=rows)
        assert "Which sites" not in render_report([other], gallery_of)


def test_further_measures_stand_beside_the_metric():
    made = small_results()
    rows = [
        replace(row, measures={"entropy": (5.5,), "repeated": (1.25, 0.5)}) for row in made.rows
    ]
    of_data = {"violation rate": (0.1, 0.01), "entropy": (6.0,)}
    about = {**made.about, "data_measures": {"data (8 sequences)": of_data}}
    text = render_report([replace(made, rows=rows, about=about)], gallery_of)
    assert "Beside it" in sections(text)
    assert "data (8 sequences)</th><td>0.10 ±0.01</td><td>6.00</td><td>-</td>" in text
    assert text.count("</td><td>5.50</td><td>1.25 ±0.50</td>") == 4
    del of_data["violation rate"]
    text = render_report([replace(made, rows=rows, about=about)], gallery_of)
    assert "data (8 sequences)</th><td>6.00</td><td>-</td>" in text
    assert text.count("</th><td>5.50</td><td>1.25 ±0.50</td>") == 4
    assert "Beside it" not in sections(render_report([made], gallery_of))


def test_no_results_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no results to report"):
        write_report(tmp_path / "x.html", [], {})
