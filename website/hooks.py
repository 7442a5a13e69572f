"""What mkdocs does beside its plugins: pages from outside docs/, links, formulas, the API."""

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from pages import ROOT, api_page, outside_pages, public_names, relinked, titles_in

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<formula>.*?)\\[)\]]</(?P=tag)>', re.S
)


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
    return relinked(markdown, page.file.src_uri, titles_in(config["nav"]))


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, which browsers show without a script."""

    def mathml(match: re.Match[str]) -> str:
        display = "block" if match["tag"] == "div" else "inline"
        return convert(unescape(match["formula"]), display=display).replace(r"\_", "_")

    return FORMULA.sub(mathml, html)


def on_post_build(config: Any) -> None:
    """Fails where a page would request something from elsewhere, or shows a formula's source."""
    loaded = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?(https?:|//)""")
    for path in sorted(Path(config["site_dir"]).rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        if found := loaded.search(text):
            raise PluginError(f"{path} requests something from elsewhere: {found[0]}")
        if found := re.search(r':math:|\.\. math::|class="arithmatex"', text):
            raise PluginError(f"{path} shows a formula as its source: {found[0]}")
