"""What a rebuild may differ in without replacing what is committed."""

import base64
from io import BytesIO

from engine import stream
from nbformat.v4 import new_code_cell, new_notebook, new_output
import numpy as np
import outputs
from PIL import Image
import pytest

from ncdlib.scoring.file import KEYS, ScoreFile


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(20, 200, (8, 9, 3), np.uint8)


def test_cleaning_joins_streams_and_drops_widgets_and_private_places():
    view = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "8f"}})
    cell = new_code_cell(
        "x", outputs=[stream("a /home/me/r/x\n"), stream("50 %", "stderr"), view, stream("/home/me /home/men\n")]
    )
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    (cell,) = outputs.cleaned(notebook, {"/home/me": "~", "/home/me/r": ".."}).cells
    assert [output.text for output in cell.outputs] == ["a ../x\n~ /home/men\n"]
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        ("rho = 0.123456", "rho = 0.123457", True),
        ("rho = 0.1234", "rho = 0.1235", False),
        ("rho = 0.1", "rho = -0.1", False),
        ("rho = -0.0", "rho =  0.0", True),
        ("x  0.5\ny  0.25", "x 0.5\ny 0.25", True),  # a column that is wider by a sign
        ("10000 cells", "10001 cells", False),  # a count is exact
        ("+1", "1", True),
        ("1", "0.999999", True),  # %.6g writes 1.0000001 without a point
        ("1e-12", "-3e-11", True),
        ("1e-6", "2e-6", False),
        ("1e5", "1.00001e5", True),
        ("nan", "0.1", False),
        ("of NWOT", "of SWAP", False),
        ("0.1 0.2", "0.1", False),
        ("", "", True),
    ],
)
def test_texts_are_the_same_up_to_last_digits(new, old, same):
    assert outputs.same_text(new, old, 1e-4) is same
    assert outputs.same_text(old, new, 1e-4) is same


@pytest.mark.parametrize(("levels", "same"), [(0, True), (outputs.LEVELS, True), (outputs.LEVELS + 1, False)])
def test_pictures_are_the_same_up_to_a_few_levels_of_a_pixel(levels, same):
    moved = PIXELS.copy()
    moved[3, 4, 1] += levels
    assert outputs.same_picture(png(moved), png(PIXELS)) is same
    assert not outputs.same_picture(png(PIXELS[1:]), png(PIXELS))
    assert not outputs.same_picture(b"no picture", png(PIXELS))
    assert not outputs.same_picture(png(PIXELS), png(PIXELS)[:60])


def scores(path, values, **settings):
    key = ("s", "a", "nwot", 0.0, "bn", "relu", "i", "g", 32)
    assert len(key) == len(KEYS) - 1
    ScoreFile(path, settings).add([(*key, seed, value) for seed, value in enumerate(values)])


def test_files_are_compared_by_what_they_say(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    for folder, moved in ((new, 1), (old, 0)):
        folder.mkdir()
        (folder / "close.csv").write_text(f"arch,rho,n\na,{0.5 + 1e-7 * moved},3\n")
        (folder / "rho.csv").write_text(f"arch,rho,n\na,{0.5 + 1e-4 * moved},3\n")
        (folder / "n.csv").write_text(f"arch,rho,n\na,0.5,{3 + moved}\n")
        (folder / "rows.csv").write_text("arch,rho,n\n" + "a,0.5,3\n" * (1 + moved))
        scores(folder / "close.parquet", [1.5 + 1e-7 * moved, float("nan")])
        scores(folder / "score.parquet", [1.5 + 1e-4 * moved])
        scores(folder / "rows.parquet", [1.5] * (1 + moved))
        scores(folder / "settings.parquet", [1.5], mask=moved)
        (folder / "torn.parquet").write_text(f"{moved}")
        for name, levels in (("close", 2), ("moved", 100)):
            (folder / f"{name}.png").write_bytes(png(PIXELS // 2 + np.uint8(levels * moved)))
            (folder / f"{name}.svg").write_text(f'<path id="m{moved}f3"/>')
        (folder / "alone.svg").write_text(f'<path id="m{moved}f3"/>')
    (new / "only.csv").write_text("x\n")
    kept = {path.name for path in new.iterdir() if outputs.unchanged(path, old / path.name)}
    assert kept == {"close.csv", "close.parquet", "close.png", "close.svg"}
    assert outputs.unchanged(old / "alone.svg", old / "alone.svg")


def shown(**kinds):
    return new_output("display_data", {kind.replace("_", "/"): value for kind, value in kinds.items()})


def figure(pixels, plain="<Figure>"):
    return new_output("display_data", {"image/png": base64.b64encode(png(pixels)).decode(), "text/plain": plain})


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        (stream("rho = 0.50000001\n"), stream("rho = 0.5\n"), True),
        (stream("rho = 0.51\n"), stream("rho = 0.5\n"), False),
        (figure(PIXELS + np.uint8(1)), figure(PIXELS), True),
        (figure(PIXELS + np.uint8(50)), figure(PIXELS), False),
        (figure(PIXELS, "<Axes>"), figure(PIXELS), False),
        (stream("x"), figure(PIXELS), False),
        (shown(text_html="<b>0.300000001</b>"), shown(text_html="<b>0.3</b>"), True),
        (shown(text_plain="x"), shown(text_html="x"), False),
        (shown(application_json={"a": 1}), shown(application_json={"a": 2}), False),
    ],
)  # fmt: skip
def test_a_cell_keeps_its_committed_outputs_where_they_say_the_same(new, old, same):
    def notebook(output):
        return new_notebook(cells=[new_code_cell("x", id="a", outputs=[output]), new_code_cell("y", id="b")])

    kept = outputs.settled(outputs.cleaned(notebook(new), {}), notebook(old)).cells[0].outputs
    assert kept == [old if same else new]


def test_a_committed_notebook_that_was_run_by_hand_loses_its_traces():
    mine = new_code_cell("x", id="a", outputs=[stream("0.5\n"), stream("warning", "stderr")], execution_count=17)
    executed = new_notebook(cells=[new_code_cell("x", id="a", outputs=[stream("0.5\n")])])
    (cell,) = outputs.settled(outputs.cleaned(executed, {}), new_notebook(cells=[mine])).cells
    assert cell.outputs == [stream("0.5\n")] and cell.execution_count == 1
