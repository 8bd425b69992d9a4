"""What `import ncdlib` loads, and that imports between its parts run one way."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ncdlib"
SLOW = ("matplotlib", "networkx", "scipy", "seaborn", "sklearn", "PIL", "torchvision", "ipywidgets", "IPython")
LAYERS = (  # each may import from those before it, and from its own modules
    {"activations"},
    {"masking", "rescaling", "images", "spaces", "benchmarks"},
    {"proxies", "theory"},
    {"scoring", "statistics"},
    {"search", "training"},
    {"reproduction"},
)
SIBLINGS = [("proxies", "spaces"), ("spaces", "proxies"), ("spaces", "benchmarks"), ("benchmarks", "spaces")]


@pytest.mark.parametrize("statement", ["import ncdlib", "import ncdlib.reproduction.workspace"])
def test_what_takes_seconds_to_import_is_imported_where_it_is_used(statement):
    source = f"{statement}\nimport sys\nprint(*sorted(set({SLOW!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def imported(path):
    """The parts of ncdlib that a module imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("ncdlib."))


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if part(path) != "__init__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = part(path)
    level = next(i for i, layer in enumerate(LAYERS) if own in layer)
    allowed = set().union(*LAYERS[: level + 1])
    for name in imported(path):
        assert name in allowed, f"{path.relative_to(PACKAGE)} imports {name}"
        assert (own, name) not in SIBLINGS, f"{path.relative_to(PACKAGE)} imports {name}"
