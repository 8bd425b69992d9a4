"""The static pages: whole, for any width, and nothing in them asks the network for anything."""

import base64
import re

from browser import browser, needs_browser
from bs4 import BeautifulSoup
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
import pages as builder
import pytest

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
README = """\
# A title

![Bars](figures/01_bars.png) and [the first](notebooks/01_first.ipynb#Bars), [its numbers](data/results/01.csv),
[the paper](https://arxiv.org/abs/2006.04647), [nothing](data/none.csv), [outside](../secret.txt);
`help(x)` at $0 < \\alpha$.

| a | b |
| --- | --- |
| 1 | 2 |

| claim | verdict |
| --- | --- |
| A sentence of more than forty characters, which no phone shows in a column | holds |
| <img src="figures/01_bars.png" alt="A thumbnail" width="240"> | [a word](notebooks/words.md#b-part) |
"""
TEXT = r"""# First

## Bars

Inline $\mu^{o} = \sum_{c} w_{c} \bar x_{c}$, and [the other](02_second.ipynb).

$$\log |K_{ij}| < \frac{1}{m}$$

\begin{align} a &= b \\ c &= d \end{align}

![the same](../figures/01_bars.png) ![lost](../figures/none.png)

## Second part

Look at the height of the bars: the left one is higher.
"""
LONG = "x = 1\n" * 16 + "y = " + " + ".join(["something_long"] * 20)
PAGES = [("index.html", "ncdlib"), ("explorer.html", "explorer"), ("slides.html", "slides")]
PAGES += [("notebooks/words.html", "words")]
PAGES += [(f"notebooks/{name}.html", name.replace("_", " ")) for name in ("01_first", "02_second", "solutions")]
HTML = '<script src="https://cdn.example.org/x.js"></script><table class="dataframe"><tr><td>0.5</td></tr></table>'


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
    first = [new_markdown_cell(TEXT), new_code_cell("x = 1 if 2 < 3 else 4", outputs=outputs), new_code_cell(LONG)]
    failed = [
        new_markdown_cell("# Second"),
        new_code_cell("y", outputs=[new_output("error", ename="NameError", evalue="y")]),
    ]
    for name, cells in {"01_first": first, "02_second": failed, "solutions": [new_markdown_cell("# Answers")]}.items():
        (root / "notebooks").mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")
    for name, content in {"figures/01_bars.png": base64.b64decode(PIXEL), "data/results/01.csv": b"a,b\n1,2\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root.parent / "secret.txt").write_text("private")
    (root / "README.md").write_text(README)
    (root / "notebooks/words.md").write_text("# Words\n\nA [cell](01_first.ipynb#Bars) is one.\n\n## B part\n")
    (root / "site/notebooks").mkdir(parents=True)
    (root / "site/notebooks/00_gone.html").touch()  # of a notebook that is no more
    said = []
    assert not builder.build(root, said.append)  # it has no scores for an explorer
    pages = {path.relative_to(root / "site").as_posix(): path for path in (root / "site").rglob("*.html")}
    return root, {name: BeautifulSoup(path.read_text(), "html.parser") for name, path in pages.items()}, said


def test_there_is_a_page_for_the_readme_and_for_each_notebook(built):
    _, pages, _ = built
    assert {name: page.title.text for name, page in pages.items()} == dict(PAGES)
    text = pages["notebooks/01_first.html"].get_text()
    assert "x = 1 if 2 < 3 else 4" in text and "rho = -0.3 < 0" in text and "a widget" in text


def test_nothing_is_loaded_from_anywhere(built):
    for name, page in built[1].items():
        if name == "slides.html":  # it has a script: test_slides
            continue
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
    assert shown["index.html"] == [("Bars", picture), ("A thumbnail", picture)]
    described = "Figure: Second part. Look at the height of the bars: the left one is higher."
    assert [alt for alt, _ in shown["notebooks/01_first.html"]] == ["the same", described]
    assert builder.described(BeautifulSoup("<p>Text</p><img>", "html.parser").img) == "Figure. Text"
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
    assert links["a word"] == "notebooks/words.html#b-part" and pages["notebooks/words.html"].select_one("h2#b-part")
    assert said[:2] == [
        "README.md links to data/none.csv, which is no file of the repository",
        "README.md links to ../secret.txt, which is no file of the repository",
    ]
    assert "01_first.ipynb shows ../figures/none.png, which is no file of the repository" in said
    missing = pages["notebooks/01_first.html"].select_one(".notice").text
    assert missing == "The figure ../figures/none.png is missing: lost"
    assert pages["notebooks/01_first.html"].select_one("#Bars").name == "h2"


def test_formulas_are_mathml(built):
    _, pages, _ = built
    page = pages["notebooks/01_first.html"]
    assert [formula["display"] for formula in page("math")] == ["inline", "block", "block"]
    assert page.math.find("mo", string="∑") and page.math.find("mi", string="μ")
    assert page("math")[1].mfrac and len(page("math")[2]("mtr")) == 2
    assert "$" not in page.main.get_text() and "\\" not in page.main.get_text()
    assert pages["index.html"].math.find("mi", string="α")


def test_every_page_leads_to_the_others_and_to_its_sections(built):
    order = [name for name, _ in PAGES]
    for name, page in built[1].items():
        at = order.index(name)
        near = {"prev": order[at - 1 : at], "next": order[at + 1 : at + 2]} if at else {"prev": [], "next": order[1:2]}
        for rel, wanted in near.items():
            links = [link["href"] for link in page.select(f"a[rel={rel}]")]
            assert [builder.posixpath.normpath(f"{name}/../{link}") for link in links] == wanted * 2  # above and below
        assert [link.text for link in page.select(".pages a")] == [title for _, title in PAGES]
        assert page.select_one(".pages [aria-current=page]").text == dict(PAGES)[name]
    page = built[1]["notebooks/01_first.html"]
    assert [(link["href"], link.text) for link in page.select(".contents a")] == [
        ("#Bars", "Bars"),
        ("#Second-part", "Second part"),
    ]


def test_code_folds_and_long_code_is_folded_at_first(built):
    folds = built[1]["notebooks/01_first.html"].select("details.fold")
    assert [(fold.summary.text, fold.has_attr("open")) for fold in folds] == [
        ("Code, 1 line", True),
        ("Code, 17 lines", False),
    ]
    assert all(fold.select_one(".highlight pre") for fold in folds)


def test_a_notebook_that_failed_and_an_explorer_without_scores_say_so(built):
    _, pages, said = built
    assert "(NameError)" in pages["notebooks/02_second.html"].select_one(".notice").text
    assert "02_second.ipynb stopped with an error, and its page says so: NameError" in said
    assert "explorer.csv" in pages["explorer.html"].select_one(".notice").text
    assert [line for line in said if line.startswith("explorer.html could not be built, its page says so: ")]


@pytest.fixture
def small(tmp_path):
    """A repository of one page, built once."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text("# One")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# First")]), tmp_path / "notebooks/01_first.ipynb")
    builder.build(tmp_path, lambda _: None)
    return tmp_path


def test_a_notebook_that_cannot_be_read_keeps_its_earlier_page(small):
    page, said = small / "site/notebooks/01_first.html", []
    (small / "notebooks/01_first.ipynb").write_text("{ half of a noteb")
    (small / "README.md").write_text("# Two")
    assert not builder.build(small, said.append)
    assert "First" in page.read_text() and "Two" in (small / "site/index.html").read_text()
    assert [line for line in said if line.startswith("notebooks/01_first.html could not be built, its earlier page stays: ")]


def test_a_build_that_fails_leaves_the_site_as_it_was(small, monkeypatch):
    before = {path: path.read_bytes() for path in (small / "site").rglob("*.html")}
    monkeypatch.setattr(builder, "whole", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        builder.build(small, lambda _: None)
    assert {path: path.read_bytes() for path in (small / "site").rglob("*.html")} == before
    assert not list(small.glob("*.partial"))
    monkeypatch.undo()
    (small / "site").rename(small / "site.old.partial")  # killed between two renames
    (small / "notebooks/01_first.ipynb").write_text("{")
    builder.build(small, lambda _: None)
    assert "First" in (small / "site/notebooks/01_first.html").read_text() and not list(small.glob("*.partial"))


def test_rows_of_words_become_lists_on_a_phone(built):
    plain, wordy = built[1]["index.html"]("table")
    assert "stack" not in plain.get("class", []) and wordy["class"] == ["stack"]
    assert [entry.get("data-label") for entry in wordy("td")] == ["claim", "verdict", None, "verdict"]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_a_phone_and_a_screen(built, width):
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 844})
        for name in built[1]:
            page.goto((built[0] / "site" / name).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("header").bounding_box()["height"] < 60
            for details in page.locator("main details").all():
                details.evaluate("element => element.open = true")
            overflows = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"
            assert width > 400 or not page.eval_on_selector_all("pre", overflows)
            page.click(".pages summary")
            assert page.locator(".pages a").first.is_visible()
        page.goto((built[0] / "site/index.html").as_uri())
        thumbnail = page.locator("td img").bounding_box()
        assert thumbnail["width"] == thumbnail["height"] == 240  # as it is, not cropped
        verdict = page.locator(".stack td[data-label=verdict]").first.bounding_box()
        assert verdict["x"] >= 0 and verdict["x"] + verdict["width"] <= width
