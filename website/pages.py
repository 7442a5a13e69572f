"""Which pages the site has, and where their links lead.

The sources stay where a reader of the repository looks for them, and their links work there. A page
of the site is a file of docs/, one of ``PAGES``, the card of a checkpoint, or a page of the API,
which lists the public names of a package by ``jumpsteps/__init__.py``, parsed and not imported.
"""

import ast
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "jumpsteps"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
}
"""File of the repository -> page of the site."""

LINK = re.compile(r"(!?\[)([^\]]*)(\]\()([^)#\s]+)((?:#[^)]*)?\))")


def outside_pages() -> dict[str, str]:
    """Files outside docs/ that are pages: path in the repository -> path in the site."""
    cards = {
        card.relative_to(ROOT).as_posix(): f"checkpoints/{card.parent.name}.md"
        for card in sorted(ROOT.glob("checkpoints/*/README.md"))
    }
    return PAGES | cards


def page_of(path: str) -> str | None:
    """Where the site has this file of the repository; None where it has not."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return outside_pages().get(path)


def source_of(page: str) -> str:
    """The file of the repository that a page of the site comes from."""
    for source, target in outside_pages().items():
        if target == page:
            return source
    return f"docs/{page}"


def titles_in(nav: list[dict[str, object]]) -> dict[str, str]:
    """Page -> its title in the nav of mkdocs.yml."""
    titles: dict[str, str] = {}
    for entry in nav:
        for title, inner in entry.items():
            titles |= titles_in(inner) if isinstance(inner, list) else {str(inner): title}
    return titles


def relinked(markdown: str, page: str, titles: dict[str, str] | None = None) -> str:
    """The text with its links between files of the repository as links of the site.

    A link whose text is the name of the file has the page's title in its place.
    """
    source = posixpath.dirname(source_of(page))

    def replaced(match: re.Match[str]) -> str:
        opening, text, between, link, rest = match.groups()
        target = page_of(posixpath.normpath(posixpath.join(source, link)))
        if ":" in link or target is None:
            return match[0]
        if text in (link, posixpath.basename(link), f"docs/{link}"):
            text = (titles or {}).get(target, text)
        link = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return opening + text + between + link + rest

    return LINK.sub(replaced, markdown)


def imported_names(module: Path) -> dict[str, list[str]]:
    """What a module imports from the package: the full name of a module -> names."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jumpsteps."):
            found.setdefault(str(node.module), []).extend(alias.name for alias in node.names)
    return found


def public_names() -> dict[str, list[str]]:
    """Package -> full names of what it has in ``from jumpsteps import ...``, in that order."""
    found: dict[str, list[str]] = {}
    for module, names in imported_names(PACKAGE / "__init__.py").items():
        if module in ("jumpsteps.core.interrupts", "jumpsteps.version"):
            continue
        full = [f"{module}.{name}" for name in names if name != "*"]
        if "*" in names:
            samplers = imported_names(PACKAGE / "sampling" / "registry.py")
            kinds = [f"{m}.{n}" for m, ns in samplers.items() for n in ns if ".sampling." in m]
            full = [one for one in kinds if not one.endswith(".Sampler")] + full
        found.setdefault(module.split(".")[1], []).extend(full)
    return found


def docstring_of(module: str) -> str:
    """The docstring of a module or package of ``jumpsteps``."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def api_page(package: str, names: list[str]) -> str:
    """The page of a package: each of its modules, with the public names in it."""
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, own = name.rpartition(".")
        modules.setdefault(module, []).append(own)
    parts = [f"# `jumpsteps.{package}`", docstring_of(f"jumpsteps.{package}")]
    parts.append("Everything on this page is imported by `from jumpsteps import ...`.")
    for module, own in modules.items():
        members = "".join(f"\n        - {name}" for name in own)
        parts.append(f"::: {module}\n    options:\n      members:{members}")
    return "\n\n".join(parts) + "\n"
