"""The worked answers: each section runs on stored scores, answers every exercise, and says the numbers that come out."""

from itertools import pairwise
import re

from engine import NOTEBOOKS, REPOSITORY
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
import nbformat
from nbformat.v4 import new_notebook
import numpy as np
import outputs
import pytest
import rebuild
from test_prose import allowed, prose, stale

PATH = REPOSITORY / "notebooks/solutions.ipynb"


def read():
    return nbformat.read(PATH, as_version=4)


def sections(notebook):
    """The cells of each section, by the number of its notebook; the cells above the first section are left out."""
    found, number = {}, None
    for cell in notebook.cells:
        heading = re.match(r"## (\d\d) · ", cell.source)
        number = heading[1] if heading else number
        if number:
            found.setdefault(number, []).append(cell)
    return found


def printed(cell):
    """All decimal numbers in the outputs of a cell."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [float(number) for number in re.findall(r"-?\d+\.\d+", "\n".join(texts))]


@pytest.fixture(scope="module")
def executed():
    """The notebook with the outputs of this run. A table that cannot be had ends its section, in the words of the error."""
    notebook = read()
    used = {path: (PATH.parent / path).read_bytes() for path in re.findall(r'"(\.\./data/[^"]+)"', str(notebook.cells))}
    first = {id(cells[0]) for cells in sections(notebook).values()}
    where = {"metadata": {"path": str(REPOSITORY / "notebooks")}}
    client = NotebookClient(notebook, timeout=300, kernel_name="ncdlib", resources=where)
    with rebuild.kernels(1), client.setup_kernel():
        lost = False
        for i, cell in enumerate(notebook.cells):
            lost = lost and id(cell) not in first
            if lost or cell.cell_type != "code":
                continue
            try:
                client.execute_cell(cell, i)
            except CellExecutionError as error:
                if error.ename != "MissingData":
                    raise
                lost, cell.outputs = True, []
    assert used and used == {path: (PATH.parent / path).read_bytes() for path in used}  # a reader changes no stored file
    return notebook


def test_all_sections_run_and_give_the_committed_numbers(executed):
    """Within what another processor changes: round-off can turn a sign bit, and move a rank."""
    for cell, old in zip(executed.cells, read().cells, strict=True):
        if cell.cell_type == "code" and cell.outputs:
            np.testing.assert_allclose(printed(cell), printed(old), rtol=0.01, atol=0.03, err_msg=cell.source)


def test_every_exercise_of_every_notebook_has_an_answer():
    answers = sections(read())
    for path in NOTEBOOKS:
        texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        asked = next(text.partition("## Try this")[2].partition("\n## ")[0] for text in texts if "## Try this" in text)
        assert "[solutions](solutions.ipynb)" in asked, path.name
        answered = prose(new_notebook(cells=answers[path.name[:2]]))
        exercises = re.findall(r"^(\d)\. ", asked, re.MULTILINE)
        assert exercises and re.findall(r"^\*\*(\d)\. ", answered, re.MULTILINE) == exercises, path.name


@pytest.mark.parametrize("number", [path.name[:2] for path in NOTEBOOKS])
def test_answers_say_the_numbers_that_came_out(number):
    section = new_notebook(cells=sections(read())[number])
    assert list(stale(prose(section), *allowed(section, number))) == []


def test_the_file_is_as_a_clean_run_leaves_it():
    again = outputs.cleaned(read(), {str(REPOSITORY): "..", **outputs.private_places()})
    assert PATH.read_text(encoding="utf-8") == nbformat.writes(again) + "\n"
    assert ("code", "code") not in pairwise(cell.cell_type for cell in again.cells)
    code = [cell for cell in again.cells if cell.cell_type == "code"]
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= 88
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
