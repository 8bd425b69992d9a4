"""What the tests of the engine share: small notebooks, and a run of them with what it printed."""

from dataclasses import dataclass
import hashlib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
import run as command

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PARAMETERS = "root = None\npublished = False\nsize = 100"


def write(root, name, *cells, parameters=PARAMETERS, **metadata):
    first = [new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    notebook = new_notebook(cells=[new_markdown_cell("# A notebook"), *first, *map(new_code_cell, cells)])
    if metadata:
        notebook.metadata["ncdlib"] = metadata
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def texts(path):
    """What each code cell printed or returned."""
    outputs = [cell.outputs for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [[o.get("text") or o.data["text/plain"] for o in each] for each in outputs]


def fingerprints(*folders):
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Ended:
    before: dict  # fingerprints of the repository
    status: int
    lines: list
    table: dict  # notebook -> outcome and, where it failed, what remains


def run(root, *argv, capsys):
    before = fingerprints(root)
    status = command.main(argv, root)
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("notebook "))
    rows = [line.split() for line in lines[start + 1 :] if line[:2].isdigit()]
    return Ended(before, status, lines, {row[0]: row[2:] for row in rows})
