"""Copy the README, all notebooks, slides and an explorer of the scores to `site/`, as pages for disk, screen and phone.

Formulas become MathML, which browsers draw by themselves, and pictures are in the pages: no font, no network, and no script
but those of the explorer and the slides, which the content policy of their pages names by a hash. The new pages replace the
old ones when all are written.
"""

import argparse
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import hashlib
from html import escape
import importlib
import mimetypes
from pathlib import Path
import posixpath
import shutil
from string import Template
import sys
from textwrap import shorten
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
import nbformat
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
WEB = Path(__file__).with_name("web")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
OUTPUTS = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]  # what runs no script
SCRIPTED = {"explorer.html": "explorer", "slides.html": "slides"}  # pages with a script, and the module that builds each
SHORT = 15  # lines of code that are not folded
WORDY = 40  # characters in a cell of a table from which on a phone shows each row as a list

Say = Callable[[str], object]


@dataclass(frozen=True)
class Page:
    """A page of the site: its place there, its title, and the file that it shows."""

    place: str
    title: str
    source: Path

    def to(self, other: str) -> str:
        """The relative address of another place."""
        return posixpath.relpath(other, posixpath.dirname(self.place) or ".")


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


def notebook(path: Path, say: Say) -> str:
    """The HTML of a notebook: its text, code and outputs as they are in the file; an error among them is told first."""
    content = nbformat.read(path, as_version=4)
    errors = [o for cell in content.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        filters={"markdown2html": markdown},
        config=Config({"NbConvertBase": {"display_data_priority": OUTPUTS}}),
    )
    html = exporter.from_notebook_node(content)[0]
    if not errors:
        return html
    say(f"{path.name} stopped with an error, and its page says so: {errors[0].ename}")
    told = f"This notebook stopped with an error ({errors[0].ename}). What comes after it is missing, or of an earlier run."
    return notice(told) + html


def notice(text: str) -> str:
    """A paragraph that says what is wrong with a page."""
    return f'<p class="notice">{escape(text)}</p>'


def found(root: Path) -> list[Page]:
    """All pages of a repository, in reading order."""
    numbered = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    others = sorted(set((root / "notebooks").glob("*.ipynb")) - set(numbered))
    texts = [
        path for path in [*sorted(root.glob("*.md")), *sorted((root / "notebooks").glob("*.md"))] if path.name != "README.md"
    ]
    pages = [Page("index.html", "ncdlib", root / "README.md")]
    pages += [Page(place, name, Path(__file__).with_name(f"{name}.py")) for place, name in SCRIPTED.items()]
    for path in [*texts, *numbered, *others]:
        place = path.relative_to(root).with_suffix(".html").as_posix()
        pages.append(Page(place, path.stem.replace("_", " "), path))
    return pages


@contextmanager
def replacing(site: Path) -> Iterator[Path]:
    """A new folder that takes the place of `site` once it is whole; where building fails, `site` stays as it was."""
    new, old = site.with_name("site.partial"), site.with_name("site.old.partial")
    if old.exists() and not site.exists():  # a build was killed between the two renames below
        old.rename(site)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        if site.exists():
            site.rename(old)
        new.rename(site)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def build(root: Path, say: Say = print) -> bool:
    """Build the pages of the repository `root` anew in `root/site`; whether all could be built.

    Of a page that cannot be built, that of an earlier build stays; without one, the page says why. What a page refers to and
    is not there, is told.
    """
    pages, failed = found(root), 0
    with replacing(root / "site") as site:
        for page in pages:
            target, earlier = site / page.place, root / "site" / page.place
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                scripted = page.place in SCRIPTED
                body, script = with_script(page, root, say) if scripted else (shown(page, pages, root, site, say), "")
            except (nbformat.ValidationError, ValueError, OSError, ImportError) as error:
                failed += 1
                stays = "its earlier page stays" if earlier.is_file() else "its page says so"
                say(f"{page.place} could not be built, {stays}: {error or type(error).__name__}")
                if earlier.is_file():
                    shutil.copyfile(earlier, target)
                    continue
                body, script = notice(f"This page could not be built: {error or type(error).__name__}"), ""
            target.write_text(whole(page, pages, body, script), "utf-8")
    return not failed


def with_script(page: Page, root: Path, say: Say) -> tuple[str, str]:
    """The body and the script of the explorer or of the slides."""
    builder = importlib.import_module(SCRIPTED[page.place])  # here, because the other pages need none of its libraries
    return builder.page(root, say)


def whole(page: Page, pages: list[Page], body: str, script: str) -> str:
    """The page around a body: the way to other pages, its contents, and a policy that allows its script and nothing else."""
    at = pages.index(page)
    near = {"previous": pages[at - 1] if at else None, "next": pages[at + 1] if at + 1 < len(pages) else None}
    links = {rel: f'<a rel="{rel[:4]}" href="{page.to(to.place)}">' for rel, to in near.items() if to}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("friendly", "github-dark"))
    return Template((WEB / "page.html").read_text("utf-8")).substitute(
        policy=POLICY + f"; script-src 'sha256-{digest}'" * bool(script),
        title=page.title,
        style=f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{(WEB / 'style.css').read_text('utf-8')}",
        home=page.to("index.html"),
        pages="".join(f'<a href="{page.to(to.place)}"{" aria-current=page" * (to is page)}>{to.title}</a>' for to in pages),
        turn="".join(f"{link}{rel.capitalize()}</a>" for rel, link in links.items()),
        named="".join(f"{link}{rel.capitalize()}: {near[rel].title}</a>" for rel, link in links.items()),
        contents=contents(body) if page.place not in SCRIPTED else "",
        body=body,
    )


def contents(body: str) -> str:
    """Links to the sections of a page; none where it has one or none."""
    headings = BeautifulSoup(body, "html.parser").select(":is(h2, h3)[id]")
    links = "".join(f'<a class="{h.name}" href="#{h["id"]}">{escape(h.get_text().removesuffix("¶"))}</a>' for h in headings)
    if len(headings) < 2:
        return ""
    return f'<details class="contents"><summary>On this page</summary><nav aria-label="On this page">{links}</nav></details>'


def shown(page: Page, pages: list[Page], root: Path, site: Path, say: Say) -> str:
    """The body of a page that shows a notebook or a text."""
    path = page.source
    html = notebook(path, say) if path.suffix == ".ipynb" else markdown(path.read_text("utf-8"))
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select("script, iframe, object, embed, link"):
        element.decompose()
    if path.suffix == ".md":  # sections are named as GitHub names them, in lower case
        for link in soup.select("a.anchor-link"):
            link["href"], link.parent["id"] = link["href"].lower(), link.parent["id"].lower()
    for link in soup.select("a[href]"):
        settle(link, page, pages, root, site, say)
    for image in soup.select("img"):
        inline(image, path, say)
    for code in soup.select(".input .highlight"):
        fold(code)
    for table in soup.select("table"):
        label(table)
        table.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    for image in soup.select("img"):
        if not image.find_parent("td"):
            image.wrap(soup.new_tag("div", attrs={"class": "wide"}))
    return str(soup)


def settle(link: Tag, page: Page, pages: list[Page], root: Path, site: Path, say: Say) -> None:
    """Lead a relative link to the page of a file or to a copy of the file; one that leads nowhere becomes plain text."""
    url, path = urlsplit(link["href"]), page.source
    if url.scheme or url.netloc or not url.path:
        return
    target = (path.parent / unquote(url.path)).resolve()
    places = {other.source.resolve(): other.place for other in pages}
    if not (target.is_file() and target.is_relative_to(root.resolve())):
        say(f"{path.name} links to {url.path}, which is no file of the repository")
        link.unwrap()
    elif target in places:
        link["href"] = url._replace(path=page.to(places[target])).geturl()
    else:
        copy = site / target.relative_to(root.resolve())
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, copy)


def inline(image: Tag, path: Path, say: Say) -> None:
    """Put a picture into the page; the heading and the text above it describe it where the page says no more."""
    if image.get("alt", "").startswith("No description"):
        image["alt"] = described(image)
    source = path.parent / unquote(image["src"])
    if image["src"].startswith("data:"):
        return
    if source.is_file():
        image["src"] = f"data:{mimetypes.guess_type(source)[0]};base64,{base64.b64encode(source.read_bytes()).decode()}"
    else:
        say(f"{path.name} shows {image['src']}, which is no file of the repository")
        text = f"The figure {image['src']} is missing: {image.get('alt') or 'no description'}"
        image.replace_with(BeautifulSoup(notice(text), "html.parser"))


def described(image: Tag) -> str:
    """What a picture shows: the heading above it, and the text below that heading which is nearest to the picture."""
    text = ""
    for above in image.find_all_previous(["h1", "h2", "h3", "p"]):
        words = " ".join(above.get_text().removesuffix("¶").split())
        if above.name != "p":
            return f"Figure: {words if not text or words.endswith(('?', '!')) else words + '.'} {text}".strip()
        text = text or shorten(words, 300, placeholder=" ...")
    return f"Figure. {text}".strip()


def fold(code: Tag) -> None:
    """Let a reader fold a cell's code away; a long one is folded at first."""
    lines = code.get_text().strip().count("\n") + 1
    soup = BeautifulSoup("", "html.parser")
    attributes = {"class": "fold"} | ({"open": ""} if lines <= SHORT else {})
    details = code.wrap(soup.new_tag("details", attrs=attributes))
    details.insert(0, soup.new_tag("summary", string=f"Code, {lines} line{'s' * (lines > 1)}"))


def label(table: Tag) -> None:
    """Name each entry of a table of words by its column: on a phone, every row is then a list."""
    heads = [[head.get_text().strip() for head in row(["th", "td"])] for row in table.select("thead tr")]
    wordy = any(len(entry.get_text()) > WORDY or entry.img for entry in table.select("tbody :is(th, td)"))
    if len({len(head) for head in heads}) != 1 or not wordy or table.select("[colspan], [rowspan]"):
        return
    names = ["".join(parts) for parts in zip(*heads, strict=True)]  # pandas names the index in a row of its own
    table["class"] = [*table.get("class", []), "stack"]
    for row in table.select("tbody tr"):
        for name, entry in zip(names, row(["th", "td"]), strict=False):
            if name and not entry.img:
                entry["data-label"] = name


if __name__ == "__main__":
    argparse.ArgumentParser(prog="./run_all.sh site", description=__doc__).parse_args()
    built = build(ROOT)
    print(f"Open {ROOT / 'site' / 'index.html'}")
    sys.exit(not built)
