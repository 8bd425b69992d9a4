"""The static pages: whole, for any width, and nothing in them asks the network for anything."""

import base64
import importlib.util
from pathlib import Path
import re

from bs4 import BeautifulSoup
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
README = """\
# A title

![Bars](figures/01_bars.png) and [the first](notebooks/01_first.ipynb#Bars), [its numbers](data/results/01.csv),
[the paper](https://arxiv.org/abs/2006.04647), [nothing](data/none.csv), [outside](../secret.txt);
`help(x)` at $0 < \\alpha$.

| a | b |
| --- | --- |
| 1 | 2 |
"""
TEXT = r"""# First

## Bars

Inline $\mu^{o} = \sum_{c} w_{c} \bar x_{c}$, and [the other](02_second.ipynb).

$$\log |K_{ij}| < \frac{1}{m}$$

\begin{align} a &= b \\ c &= d \end{align}

![the same](../figures/01_bars.png) ![lost](../figures/none.png)
"""
HTML = '<script src="https://cdn.example.org/x.js"></script><table class="dataframe"><tr><td>0.5</td></tr></table>'

spec = importlib.util.spec_from_file_location("site_builder", REPOSITORY / "notebooks" / "pages.py")
builder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builder)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repository of two notebooks, its pages, and what was said while they were built."""
    root = tmp_path_factory.mktemp("outer") / "repository"
    outputs = [
        new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure>"}),
        new_output("display_data", {"application/javascript": "fetch('https://example.org')", "text/plain": "a widget"}),
        new_output("execute_result", {"text/html": HTML, "text/plain": "0.5"}),
        new_output("stream", text="rho = -0.3 < 0\n"),
    ]
    first = [new_markdown_cell(TEXT), new_code_cell("x = 1 if 2 < 3 else 4", outputs=outputs)]
    for name, cells in {"01_first": first, "02_second": [new_markdown_cell("# Second")]}.items():
        (root / "notebooks").mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")
    for name, content in {"figures/01_bars.png": base64.b64decode(PIXEL), "data/results/01.csv": b"a,b\n1,2\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root.parent / "secret.txt").write_text("private")
    (root / "README.md").write_text(README)
    (root / "site/notebooks").mkdir(parents=True)
    (root / "site/notebooks/00_gone.html").touch()  # of a notebook that is no more
    said = []
    index = builder.build(root, said.append)
    pages = {path.relative_to(root / "site").as_posix(): path for path in (root / "site").rglob("*.html")}
    assert index == pages["index.html"]
    return root, {name: BeautifulSoup(path.read_text(), "html.parser") for name, path in pages.items()}, said


def test_there_is_a_page_for_the_readme_and_for_each_notebook(built):
    _, pages, _ = built
    assert set(pages) == {"index.html", "notebooks/01_first.html", "notebooks/02_second.html"}
    assert [page.title.text for _, page in sorted(pages.items())] == ["ncdlib", "01 first", "02 second"]
    text = pages["notebooks/01_first.html"].get_text()
    assert "x = 1 if 2 < 3 else 4" in text and "rho = -0.3 < 0" in text and "a widget" in text


def test_nothing_is_loaded_from_anywhere(built):
    for page in built[1].values():
        assert not page.select("script, link, iframe, object, embed, video, audio, source")
        for element in page.find_all(True):
            loading = [element[name] for name in ("src", "srcset", "poster", "background", "data") if element.has_attr(name)]
            assert all(url.startswith("data:") for url in loading)
            assert not [name for name in element.attrs if name.startswith("on")]
        styles = " ".join([style.text for style in page("style")] + [e["style"] for e in page.select("[style]")])
        assert styles and not re.search(r"url\(|@import", styles)
        policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_picture_stands_in_its_page_with_a_description(built):
    shown = {name: [(image["alt"], image["src"]) for image in page("img")] for name, page in built[1].items()}
    picture = f"data:image/png;base64,{PIXEL}"
    assert shown["index.html"] == [("Bars", picture)]
    assert [alt for alt, _ in shown["notebooks/01_first.html"]] == ["the same", "Figure: Bars"]
    assert all(base64.b64decode(url.split(",")[1]) == base64.b64decode(PIXEL) for _, url in shown["notebooks/01_first.html"])


def test_links_lead_to_pages_and_copies_and_dead_ones_are_told(built):
    root, pages, said = built
    for name, page in pages.items():
        for link in page.select("a[href]"):
            path = link["href"].partition("#")[0]
            assert link["href"].startswith("https://") or not path or (root / "site" / name).parent.joinpath(path).is_file()
    links = {link.text: link["href"] for link in pages["index.html"].main("a")}
    assert links["the first"] == "notebooks/01_first.html#Bars"
    assert links["its numbers"] == "data/results/01.csv" and links["the paper"] == "https://arxiv.org/abs/2006.04647"
    assert "nothing" not in links and "outside" not in links and not list((root / "site").rglob("secret.txt"))
    assert said == [
        "README.md links to data/none.csv, which is no file of the repository",
        "README.md links to ../secret.txt, which is no file of the repository",
        "01_first.ipynb shows ../figures/none.png, which is no file of the repository",
    ]
    assert pages["notebooks/01_first.html"].select_one("#Bars").name == "h2"


def test_formulas_are_mathml(built):
    _, pages, _ = built
    page = pages["notebooks/01_first.html"]
    assert [formula["display"] for formula in page("math")] == ["inline", "block", "block"]
    assert page.math.find("mo", string="∑") and page.math.find("mi", string="μ")
    assert page("math")[1].mfrac and len(page("math")[2]("mtr")) == 2
    assert "$" not in page.main.get_text() and "\\" not in page.main.get_text()
    assert pages["index.html"].math.find("mi", string="α")


def test_pages_fit_a_phone(built):
    for page in built[1].values():
        assert page.select_one("meta[name=viewport]")["content"] == "width=device-width, initial-scale=1"
        assert all(element.parent.get("class") == ["wide"] for element in page("table") + page("img"))
        assert re.search(r"\.wide[^{]*\{ overflow-x: auto", page.style.text)
