"""Copy the README and all notebooks to `site/`, as pages that open from disk, fit a phone and load nothing.

Formulas become MathML, which browsers draw by themselves, and pictures stand in the pages: no script, no font, no network.
"""

import argparse
import base64
from collections.abc import Callable
import mimetypes
from pathlib import Path
import shutil
from string import Template
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
import nbformat
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from ncdlib.spaces import palette

ROOT = Path(__file__).resolve().parents[1]
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body><nav>$nav</nav><main>$body</main></body>
</html>
""")
STYLE = f"""
{HtmlFormatter(style="friendly").get_style_defs(".highlight")}
body {{ margin: 0 auto; max-width: 54rem; padding: 0 1rem 4rem; font: 1.0625rem/1.6 system-ui, sans-serif; color: #1f1f1f; }}
nav {{ display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .75rem 0; border-bottom: 2px solid {palette.BLUE}; }}
nav a {{ padding: .15rem 0; text-decoration: none; }}
nav [aria-current] {{ color: {palette.VERMILLION}; font-weight: 600; }}
a {{ color: {palette.BLUE}; overflow-wrap: anywhere; }}
h1, h2, h3 {{ line-height: 1.25; margin: 2.2rem 0 .6rem; }}
h1 {{ font-size: 1.8rem; margin-top: 1.5rem; }}
.anchor-link {{ visibility: hidden; padding-left: .4rem; text-decoration: none; }}
:is(h1, h2, h3):hover .anchor-link {{ visibility: visible; }}
code, pre {{ font: .875em/1.5 ui-monospace, Menlo, Consolas, monospace; }}
p code, li code, td code {{ overflow-wrap: anywhere; background: #f2f4f6; padding: .1em .25em; border-radius: 3px; }}
pre, .wide, math[display=block] {{ overflow-x: auto; }}
pre {{ font-size: .85rem; margin: .75rem 0; padding: .6rem .8rem; }}
.highlight {{ background: #f6f8fa; border-left: 3px solid {palette.SKY}; }}
.wide img {{ display: block; max-width: max(100%, 44rem); height: auto; }}
table {{ border: 0; border-collapse: collapse; font-size: .9rem; margin: .75rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .6rem; text-align: left; vertical-align: top; border: 0 solid #d8dde2; border-bottom-width: 1px; }}
.dataframe :is(th, td) {{ text-align: right; }}
math {{ font-size: 1.05em; }}
math[display=block] {{ margin: .8rem 0; padding: .2rem 0; }}
"""
OUTPUTS = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]  # what runs no script


class Renderer(IPythonRenderer):
    """Markdown as the notebooks have it, its formulas as MathML."""

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


def markdown(source: str) -> str:
    """The HTML of a text in Markdown."""
    return MarkdownWithMath(Renderer(escape=False)).render(source)


def notebook(path: Path) -> str:
    """The HTML of a notebook: its text, code and outputs as they stand in the file."""
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        filters={"markdown2html": markdown},
        config=Config({"NbConvertBase": {"display_data_priority": OUTPUTS}}),
    )
    return exporter.from_notebook_node(nbformat.read(path, as_version=4))[0]


def build(root: Path, say: Callable[[str], object] = print) -> Path:
    """Build the pages of the repository `root` anew in `root/site`; what a page refers to and is not there, is told."""
    site = root / "site"
    shutil.rmtree(site, ignore_errors=True)
    notebooks = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for path in [root / "README.md", *notebooks]:
        soup = BeautifulSoup(notebook(path) if path in notebooks else markdown(path.read_text("utf-8")), "html.parser")
        for element in soup.select("script, iframe, object, embed, link"):
            element.decompose()
        for link in soup.select("a[href]"):
            settle(link, path, root, say)
        for image in soup.select("img"):
            inline(image, path, say)
        for element in soup.select("img, table"):
            element.wrap(soup.new_tag("div", attrs={"class": "wide"}))
        up = "../" if path in notebooks else ""
        names = {f"{up}index.html": "ncdlib"} | {f"{up}notebooks/{n.stem}.html": n.stem.replace("_", " ") for n in notebooks}
        own = f"{up}notebooks/{path.stem}.html" if path in notebooks else "index.html"
        nav = "".join(f'<a href="{to}"{" aria-current=page" * (to == own)}>{name}</a>' for to, name in names.items())
        page = site / own.removeprefix(up)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(PAGE.substitute(title=names[own], style=STYLE, nav=nav, body=soup), "utf-8")
    return site / "index.html"


def settle(link: Tag, page: Path, root: Path, say: Callable[[str], object]) -> None:
    """Lead a relative link to the page of a notebook or to a copy of the file; one that leads nowhere becomes plain text."""
    url = urlsplit(link["href"])
    if url.scheme or url.netloc or not url.path:
        return
    target = (page.parent / unquote(url.path)).resolve()
    if not (target.is_file() and target.is_relative_to(root.resolve())):
        say(f"{page.name} links to {url.path}, which is no file of the repository")
        link.unwrap()
    elif target.suffix == ".ipynb":
        link["href"] = url._replace(path=url.path.removesuffix(".ipynb") + ".html").geturl()
    else:
        copy = root / "site" / target.relative_to(root.resolve())
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, copy)


def inline(image: Tag, page: Path, say: Callable[[str], object]) -> None:
    """Put a picture into the page; what it shows is told by the heading above it where the page says no more."""
    path = page.parent / unquote(image["src"])
    if image["src"].startswith("data:"):
        pass
    elif path.is_file():
        image["src"] = f"data:{mimetypes.guess_type(path)[0]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    else:
        say(f"{page.name} shows {image['src']}, which is no file of the repository")
        image.replace_with(image.get("alt", ""))
        return
    if image.get("alt", "").startswith("No description"):
        heading = image.find_previous(["h1", "h2", "h3"])
        image["alt"] = f"Figure: {heading.get_text().removesuffix('¶')}" if heading else "Figure"


if __name__ == "__main__":
    argparse.ArgumentParser(prog="./run_all.sh site", description=__doc__).parse_args()
    print(f"Open {build(ROOT)}")
