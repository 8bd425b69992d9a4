"""What is committed of a run: notebooks without traces of the run itself, and no file that differs in last digits alone."""

import base64
from io import BytesIO
import math
import os
from pathlib import Path
import re

import nbformat
from nbformat import NotebookNode
import numpy as np
from PIL import Image, UnidentifiedImageError

from ncdlib.reproduction.workspace import STORED
from ncdlib.scoring import file as score_file

NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
FILE_TOLERANCE = 1e-5  # relative; results have six significant digits
TEXT_TOLERANCE = 1e-4  # relative; what a notebook prints is rounded further
NOTHING = 1e-9  # absolute; a smaller number is a zero with round-off
LEVELS = 4  # of 255; an edge that moves by a hundredth of a pixel changes its pixels by 3


def draws_stored_result(notebook: NotebookNode) -> bool:
    """Whether a cell printed the line of the workspace that announces a stored result."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return any(line.startswith(STORED) for output in outputs for line in output.get("text", "").splitlines())


def cleaned(notebook: NotebookNode, places: dict[str, str]) -> NotebookNode:
    """The notebook as it is committed: nothing in it tells when, where or how fast it ran.

    Removed are the injected parameters, timings, the state of widgets, stderr (progress bars and warnings, which were seen
    while it ran) and memory addresses; a folder of `places` turns into what it maps to.
    """
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **{key: value for key, value in notebook.metadata.items() if key == "ncdlib"},
        }
    )
    count = 0
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = cleaned_outputs(cell.outputs, count, places)
    return notebook


def cleaned_outputs(outputs: list[NotebookNode], count: int, places: dict[str, str]) -> list[NotebookNode]:
    """The outputs of one cell, as `cleaned` says."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":  # where a stream is cut depends on the clock
                kept[-1].text += output.text
                continue
        elif "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        if "execution_count" in output:
            output.execution_count = count
        kept.append(output)
    for output in kept:
        if "text" in output:
            output.text = without_places(output.text, places)
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                output.data[kind] = without_places(value, places)
    return kept


def without_places(text: str, places: dict[str, str]) -> str:
    """`text` with the folders of `places` replaced, and without memory addresses."""
    for place in sorted(places, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(place)}(?![\w-])", places[place], text)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def private_places() -> dict[str, str]:
    """Folders of this user that an output may show, and what replaces them."""
    places = {str(Path.home()): "~", os.environ.get("NCDLIB_DATA_DIR", ""): "$NCDLIB_DATA_DIR"}
    return {place: short for place, short in places.items() if len(place) > 1}  # a home of "/" would be everywhere


def settled(notebook: NotebookNode, committed: NotebookNode) -> NotebookNode:
    """A cleaned notebook, with the committed outputs of each cell that still says the same; both have the same cells."""
    for cell, old in zip(notebook.cells, cleaned(committed, {}).cells, strict=True):
        if cell.cell_type == "code" and same_outputs(cell.outputs, old.outputs):
            cell.outputs = old.outputs
    return notebook


def same_outputs(new: list[NotebookNode], old: list[NotebookNode]) -> bool:
    """Whether two runs of a cell printed and showed the same."""
    if [output.output_type for output in new] != [output.output_type for output in old]:
        return False
    return all(same_data(contents(a), contents(b)) for a, b in zip(new, old, strict=True))


def contents(output: NotebookNode) -> dict[str, object]:
    """What an output shows, by kind."""
    return {"text/stream": output.text} if output.output_type == "stream" else {**output.data, "metadata": output.metadata}


def same_data(new: dict[str, object], old: dict[str, object]) -> bool:
    """Whether all kinds of two outputs are the same: text but for last digits, pictures but for shades of pixels."""
    if new.keys() != old.keys():
        return False
    for kind, value in new.items():
        if kind == "image/png":
            same = same_picture(base64.b64decode(value), base64.b64decode(old[kind]))
        elif kind.startswith("text/") or kind == "image/svg+xml":
            same = same_text(value, old[kind], TEXT_TOLERANCE)
        else:
            same = value == old[kind]
        if not same:
            return False
    return True


def unchanged(new: Path, old: Path) -> bool:
    """Whether a new file says the same as the one that is there, so that the old one is kept.

    An SVG is drawn from the same figure as the PNG of that name beside it, which decides for both.
    """
    if not old.is_file():
        return False
    if new.read_bytes() == old.read_bytes():
        return True
    if new.suffix == ".csv":
        return same_text(*(path.read_text(encoding="utf-8", errors="replace") for path in (new, old)), FILE_TOLERANCE)
    if new.suffix == ".parquet":
        return same_scores(new, old)
    pictures = [path.with_suffix(".png") for path in (new, old)]
    if new.suffix in (".png", ".svg") and all(path.is_file() for path in pictures):
        return same_picture(*(path.read_bytes() for path in pictures))
    return False


def same_text(new: str, old: str, tolerance: float) -> bool:
    """Whether two texts differ at most in spaces and in last digits of their numbers. Two whole numbers must be equal."""
    a, b = NUMBER.split(new), NUMBER.split(old)  # words and numbers in turn
    if len(a) != len(b) or any(x.split() != y.split() for x, y in zip(a[::2], b[::2], strict=True)):
        return False
    for x, y in zip(a[1::2], b[1::2], strict=True):
        if x.lstrip("-+").isdigit() and y.lstrip("-+").isdigit():
            if int(x) != int(y):
                return False
        elif not math.isclose(float(x), float(y), rel_tol=tolerance, abs_tol=NOTHING):
            return False
    return True


def same_picture(new: bytes, old: bytes) -> bool:
    """Whether two PNGs have the same size, and no channel of a pixel differs by more than a few levels."""
    try:
        a, b = (np.asarray(Image.open(BytesIO(content)).convert("RGBA"), np.int16) for content in (new, old))
    except (UnidentifiedImageError, OSError):  # no picture, or a part of one
        return False
    return a.shape == b.shape and bool(np.abs(a - b).max() <= LEVELS)


def same_scores(new: Path, old: Path) -> bool:
    """Whether two score files have the same settings and rows, and scores that differ in last digits alone."""
    try:
        a, b = score_file.read(new), score_file.read(old)
    except ValueError:  # no score file, or a part of one
        return False
    keys = list(score_file.KEYS)
    return (
        a.attrs.get("settings") == b.attrs.get("settings")
        and a[keys].equals(b[keys])
        and np.allclose(a["score"], b["score"], rtol=FILE_TOLERANCE, atol=NOTHING, equal_nan=True)
    )
