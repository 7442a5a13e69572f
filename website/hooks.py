"""What mkdocs does beside its plugins: pages from outside docs/, links, and the API's pages."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from pages import ROOT, api_page, outside_pages, public_names, relinked

SYMBOLS = {
    r"\sim": "~",
    r"\mid": "|",
    r"\prod": "prod",
    r"\sum": "sum",
    r"\pi": "pi",
    r"\ne": "!=",
    r"\le": "<=",
    r"\ge": ">=",
}
"""Commands of TeX in docstrings, as they are read in the pages."""


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages from outside docs/ and those of the API."""
    for source, page in outside_pages().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for package, names in public_names().items():
        files.append(File.generated(config, f"api/{package}.md", content=api_page(package, names)))
    style = ROOT / "website" / "site.css"
    files.append(File.generated(config, style.name, abs_src_path=str(style)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links between files of the repository become links of the site."""
    return relinked(markdown, page.file.src_uri)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Formulas of docstrings, :math:`...`, as code without commands of TeX."""

    def plain(match: re.Match[str]) -> str:
        formula = match[1]
        for command, symbol in SYMBOLS.items():
            formula = re.sub(re.escape(command) + r"(?![a-z])", symbol, formula)
        return f"<code>{formula}</code>"

    return re.sub(r":math:<code>(.*?)</code>", plain, html, flags=re.DOTALL)


def on_post_build(config: Any) -> None:
    """Fails where a page would request something from elsewhere."""
    loaded = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(https?:|//)""")
    for path in sorted(Path(config["site_dir"]).rglob("*.html")):
        if found := loaded.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path} requests something from elsewhere: {found[0]}")
