"""Decimal numbers in the prose of a notebook are those of results that it names, of its outputs, or of the paper."""

import re

from engine import NOTEBOOKS, REPOSITORY
import nbformat
import numpy as np
import pandas as pd
import pytest

DECIMAL = re.compile(r"(?<![\w./])([+-]?)(\d[\d,]*\.\d+)(?![\w/])( ?%)?")


def numbers_in(path):
    table = pd.read_csv(path)
    values = table.select_dtypes("number").to_numpy(float).ravel()
    return values[np.isfinite(values)]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def allowed(notebook, name):
    """Values that the prose may quote: of results that the notebook names or cites, of its outputs, and of the paper."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code = "\n".join(cell.source for cell in cells)
    outputs = [o.get("text") or o.get("data", {}).get("text/plain", "") for cell in cells for o in cell.outputs]
    shown = [float(number) for text in outputs for number in re.findall(r"-?\d+\.\d+", text)]
    cited = re.findall(r"notebook (\d\d)", prose(notebook))
    named = {*(f"{number}_*" for number in (name[:2], *cited)), *re.findall(r'"(\d\d_\w+)"', code)}
    files = {path for part in named for path in (REPOSITORY / "data" / "results").glob(f"{part}.csv")}
    files |= {REPOSITORY / "data" / "paper" / "numbers.csv"}
    return np.sort(np.concatenate([shown, *map(numbers_in, files)])), code


def stale(text, values, code):
    """Decimals that no value rounds to; differences of two quoted values, and percent of shares, count as values."""
    shown = re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)|Sec\. [\d.]+", " ", text)
    for sign, digits, percent in DECIMAL.findall(shown):
        number = float(digits.replace(",", "")) * (-1 if sign == "-" else 1)
        half = 0.5001 * 10.0 ** -len(digits.split(".")[1])
        candidates = [number, *([number / 100] if percent else []), *([] if sign else [-number])]
        widths = [half, *([half / 100] if percent else []), half]
        found = any(
            np.searchsorted(values, value - width) < np.searchsorted(values, value + width, side="right")
            for value, width in zip(candidates, widths, strict=False)
        )
        if not found and digits not in code:
            yield sign + digits


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_in_prose_are_in_the_results(path):
    notebook = nbformat.read(path, as_version=4)
    values, code = allowed(notebook, path.name)
    assert list(stale(prose(notebook), values, code)) == []


def test_a_stale_number_is_found():
    values = np.array([-0.628, 0.5, 93.59])
    assert list(stale("rho = -0.63, 93.6 % and 50.0 %", values, "")) == []
    assert list(stale("rho = +0.63 or -0.64; 93.5 %", values, "")) == ["+0.63", "-0.64", "93.5"]
    assert list(stale("alpha 0.95 and `0.123`", values, "alpha = 0.95")) == []
