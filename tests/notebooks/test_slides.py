"""The slides: ten figures of the repository, turned by keys, by buttons and by a finger, and nothing is asked for."""

import base64
import hashlib
import re
from types import SimpleNamespace

from browser import browser, needs_browser
from bs4 import BeautifulSoup
from engine import REPOSITORY
import pages
import pytest
import slides


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page in a file of its own, and what was said while it was built."""
    said = []
    body, script = slides.page(REPOSITORY, said.append)
    found = pages.found(REPOSITORY)
    path = tmp_path_factory.mktemp("site") / "slides.html"
    path.write_text(pages.whole(next(page for page in found if page.place == path.name), found, body, script), "utf-8")
    return SimpleNamespace(path=path, soup=BeautifulSoup(path.read_text("utf-8"), "html.parser"), script=script, said=said)


def test_ten_figures_each_with_a_finding_a_description_and_where_to_look(built):
    assert not built.said
    sections = built.soup.select("#deck > section")
    assert len(sections) == 10 and not built.soup.select("#deck .notice")
    for section in sections:
        finding, look = section.h2.text, section.find_all("p")[-1].text
        assert finding.endswith(".") and len(finding.split()) < 25 and look and len(section.img["alt"]) > 30
        assert section.img["src"].startswith("data:image/png;base64,")
        assert not re.search(r"\d\.\d", finding + look)  # numbers are in the figures, which are rebuilt


def test_the_policy_allows_this_script_and_nothing_else(built):
    digest = base64.b64encode(hashlib.sha256(built.script.encode()).digest()).decode()
    policy = built.soup.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy == f"{pages.POLICY}; script-src 'sha256-{digest}'"
    assert [element.string for element in built.soup("script")] == [built.script]
    assert not built.soup.select("link, iframe, object, embed, [onclick]")


def test_a_figure_that_is_missing_is_told_and_the_others_stay(tmp_path):
    (tmp_path / "figures").mkdir()
    first, *others = slides.SLIDES
    (tmp_path / "figures" / f"{first.figure}.png").write_bytes(b"a picture")
    said = []
    soup = BeautifulSoup(slides.page(tmp_path, said.append)[0], "html.parser")
    assert len(soup("img")) == 1 and len(soup.select(".notice")) == len(said) == len(others) == 9
    assert f"figures/{others[0].figure}.png is missing: ./run_all.sh {others[0].notebook} draws it" in said[0]


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_deck_turns_and_fits(built, width, height):
    from playwright.sync_api import expect

    requests, errors = [], []
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(built.path.as_uri())
        page.wait_for_selector("html[data-ready]")

        def shows(number):
            expect(page.locator("#count")).to_have_text(f"{number} of 10")
            box = page.locator(f"#slide-{number} h2").bounding_box()
            assert -1 <= box["x"] < width and -1 <= box["y"] < height and box["x"] + box["width"] <= width + 1
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("location.hash") == f"#slide-{number}"

        shows(1)
        keys = {"ArrowRight": 2, "PageDown": 3, "ArrowLeft": 2, "End": 10, "ArrowDown": 10, "Home": 1}
        for key, number in keys.items():
            page.keyboard.press(key)
            shows(number)
        page.click("#turn button:last-child")
        shows(2)
        if width > 640:  # as a finger does; a phone shows the slides below each other
            page.evaluate("document.getElementById('deck').scrollBy(innerWidth, 0)")
            shows(3)
            figure, look = (page.locator(f"#slide-3 {of}").bounding_box() for of in ("img", "p"))
            assert figure["height"] > 300 and look["y"] + look["height"] < height
        page.goto(built.path.as_uri() + "#slide-7")
        shows(7)
        page.goto(built.path.as_uri() + "#slide-99")
        shows(1)
        assert "no slide #slide-99" in page.text_content("#message")
    assert set(requests) == {built.path.as_uri()} and not errors
