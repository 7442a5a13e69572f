"""What the pages name exists: files, modules, names in modules; their tables are the results."""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import jumpsteps
import pages
import tables

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FOLDERS = "src|tests|experiments|benchmarks|docs|checkpoints"
FILES = (".bin", ".html", ".json", ".md", ".npz", ".pt", ".py", ".safetensors", ".yaml")


def found_modules() -> list[str]:
    walked = pkgutil.walk_packages(jumpsteps.__path__, "jumpsteps.")
    return [m.name for m in walked if not m.name.endswith("__main__")]


MODULES = found_modules()


def code_of(page: Path) -> list[str]:
    """What stands between backticks, without longer blocks and the old names of the changelog."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    if page.name == "CHANGELOG.md":
        text = "\n".join(line for line in text.splitlines() if not line.startswith("| `"))
    return re.findall(r"`([^`\n]+)`", text)


def modules_called(name: str) -> list[str]:
    """The modules whose dotted name ends with this one, and those of a package with this name."""
    own = [m for m in MODULES if f".{m}".endswith(f".{name}")]
    return own + [m for m in MODULES if any(m.startswith(f"{package}.") for package in own)]


def has(module: ModuleType, name: str) -> bool:
    """Whether the module, or a class in it, has the attribute."""
    classes = [thing for thing in vars(module).values() if isinstance(thing, type)]
    return any(hasattr(thing, name) for thing in (module, *classes))


def resolves(name: str) -> bool:
    """`module`, `module.attribute`, `package.attribute` or `jumpsteps.name`."""
    if hasattr(jumpsteps, name.removeprefix("jumpsteps.")):
        return True
    parts = name.removeprefix("jumpsteps.").split(".")
    for i in range(len(parts), 0, -1):
        if modules := modules_called(".".join(parts[:i])):
            wanted = parts[i:]
            return not wanted or any(has(importlib.import_module(m), wanted[-1]) for m in modules)
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    paths = {p for code in code_of(page) for p in re.findall(rf"\b(?:{FOLDERS})/[\w./-]*\w", code)}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_names_that_a_page_names_exist(page):
    """Dotted names whose first part is a module or a package; `model` stands for a loaded model."""
    dotted = {m[0] for code in code_of(page) if (m := re.match(r"[a-z_]+(?:\.\w+)+", code))}
    known = {part for module in MODULES for part in module.split(".")} - {"model"}
    ours = [d for d in dotted if not d.endswith(FILES) and d.split(".")[0] in known]
    example = {"jumpsteps.Renoise"}  # the sampler that a reader adds
    assert [name for name in sorted(set(ours) - example) if not resolves(name)] == []


def test_the_messages_of_the_page_are_those_of_the_code():
    """What stands between the dots of a message occurs in one literal, which may span lines."""
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("src/jumpsteps/**/*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| .* \|$", page.split("## Messages")[1], re.M)[1:]
    assert len(rows) >= 10
    patterns = [r"\{.+?\}".join(map(re.escape, re.split(r"\.\.\.", row))) for row in rows]
    missing = [row for row, p in zip(rows, patterns, strict=True) if not re.search(p, code)]
    assert missing == []


def test_a_name_that_does_not_exist_is_noticed():
    assert resolves("exact.Enumerable")
    assert resolves("search.costs.correction.ErrorCorrection")
    assert not resolves("exact.Enumerated")
    assert not resolves("search.costs.correction.NoSuchThing")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert tables.rendered(text, ROOT / "docs" / "results") == text, "run 'make tables'"


def in_nav(part: object) -> list[str]:
    """The pages that a part of mkdocs.yml's nav names."""
    if isinstance(part, str):
        return [part]
    parts = part.values() if isinstance(part, dict) else part
    return [page for one in parts for page in in_nav(one)]


def test_every_page_is_in_the_nav_of_the_site_once():
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    api = {f"api/{package}.md" for package in pages.public_names()}
    site = docs | api | set(pages.outside_pages().values())
    entries = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    nav = in_nav(entries)
    assert set(pages.titles_in(entries)) == set(nav)
    assert sorted(site - set(nav)) == [], "add these pages to nav in mkdocs.yml"
    assert sorted(set(nav) - site) == [], "nav in mkdocs.yml names pages that are not there"
    assert len(nav) == len(set(nav))


def test_links_lead_to_the_same_page_on_the_site():
    text = "[a](docs/orders.md#x) ![b](docs/figures/c.png) [d](LICENSE) [e](https://x.org/y.md)"
    expected = "[a](orders.md#x) ![b](figures/c.png) [d](LICENSE) [e](https://x.org/y.md)"
    assert pages.relinked(text, "index.md") == expected
    card = "[a card](../checkpoints/countdown/README.md), [the start](../README.md)"
    moved = "[a card](checkpoints/countdown.md), [the start](index.md)"
    assert pages.relinked(card, "models.md") == moved
    titled = pages.relinked("[docs/orders.md](docs/orders.md)", "index.md", {"orders.md": "Orders"})
    assert titled == "[Orders](orders.md)"
    back = pages.relinked("[a](../../docs/piano.md)", "checkpoints/countdown.md")
    assert back == "[a](../piano.md)"


def test_the_api_has_every_public_name():
    listed = {name.rsplit(".", 1)[1] for names in pages.public_names().values() for name in names}
    assert set(jumpsteps.__all__) - listed == {"__version__"}
