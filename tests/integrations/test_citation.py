"""What to cite: every sampler, kernel, order and search has a source that is known."""

import re

import pytest

import jumpsteps as js
from jumpsteps.core.references import OWN, REFERENCES
from jumpsteps.integrations.citation import CITABLE, cite
from jumpsteps.schedules.orders import ORDERS
from jumpsteps.search.closed_form import ClosedForm


def years(thing):
    return [reference.year for reference in cite(thing).references]


def titles(thing):
    return " ".join(reference.title for reference in cite(thing).references)


@pytest.mark.parametrize("name", CITABLE)
def test_everything_by_name_has_a_citation(name):
    citation = cite(name)
    assert citation.references
    assert citation.line.count("\n") == 0
    assert citation.bibtex.count("@") == len(citation.references)


def test_every_public_class_of_these_kinds_has_a_source():
    kinds = (js.Sampler, js.ForwardProcess, js.RevealOrder)
    bases = (*kinds, js.MatrixKernel)  # What one's own are made from.
    public = [getattr(js, name) for name in js.__all__]
    classes = [c for c in public if isinstance(c, type) and issubclass(c, kinds) and c not in bases]
    assert len(classes) > 20
    assert [c for c in classes if not c.source] == []
    sources = [c.source for c in [*classes, *ORDERS.values(), js.JYS, js.ShortestPath]]
    labels = {label.strip() for source in sources for label in source.split(";")}
    assert sorted(labels - set(REFERENCES)) == []


def test_labels_and_keys_agree_with_the_references():
    for label, reference in REFERENCES.items():
        assert label == OWN or label.endswith(f" {reference.year}")
        surname = label.split(" ")[0]
        assert label == OWN or surname in reference.authors[0].split(" ")[-1]
        assert reference.year is None or reference.key.count(str(reference.year)) == 1
    assert len({reference.key for reference in REFERENCES.values()}) == len(REFERENCES)


def test_bibtex_is_balanced_and_has_what_it_needs():
    for reference in REFERENCES.values():
        text = reference.bibtex
        assert text.count("{") == text.count("}")
        kind, key = re.match(r"@(\w+)\{(\w+),\n", text).groups()
        assert key == reference.key
        assert "  title = {{" in text
        assert (" booktitle =" in text) == (kind == "inproceedings")
        assert (" journal =" in text) == (kind == "article")
        assert "others" not in reference.authors


def test_a_sampler_by_object_class_and_name():
    for thing in (js.Tweedie(), js.Tweedie, "tweedie"):
        assert years(thing) == [2024, 2023]
    assert "Jump Your Steps" in titles("jys")
    text = str(cite("jys"))
    assert text.startswith("Yong-Hyun Park, Chieh-Hsin Lai")
    assert "@inproceedings{park2025jump," in text
    assert "https://arxiv.org/abs/2410.07761" in text


def test_parts_are_cited_once():
    corrector = js.PredictorCorrector(js.Euler())
    assert years(corrector) == [2022, 2024]  # Campbell et al., then the predictor's Lou et al.
    found = titles(js.ShortestPath(order=js.Dilated()))
    assert "Dilated Scheduling" in found
    assert found == titles("shortest-path-dilated")
    assert "few-step sampling for discrete diffusion" in titles(js.Golden())
    assert years(ClosedForm("equal-entropy", js.equal_entropy)) == [2026]


def test_a_schedule_is_cited_by_its_order_and_its_provenance():
    about = js.Provenance(method="jys", sampler="k-gillespie")
    schedule = js.CountSchedule([1, 3], order=js.Dilated(), provenance=about)
    found = titles(schedule)
    for word in ("Jump Your Steps", "Informed Correctors", "Dilated Scheduling"):
        assert word in found


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("jus", "nothing called 'jus' to cite; known: absorbing, uniform"),
        (3, "3 names no source; pass a sampler"),
        (ClosedForm("mine", lambda profile, n: None), "names no source"),
    ],
)
def test_what_has_no_source_is_said(thing, message):
    with pytest.raises(ValueError, match=message):
        cite(thing)


def test_an_unknown_source_is_named():
    class Mine(js.RevealOrder):
        name, source = "mine", "this page"

        def keys(self, batch, length, *, generator):
            raise NotImplementedError

    with pytest.raises(ValueError, match="'this page' is not among the references"):
        cite(Mine())
