"""Run the notebooks.

./run_all.sh               rebuild every figure at the paper profile; stored scores are reused, missing ones computed
./run_all.sh --fresh       the same, ignoring stored scores; what a notebook made takes its place when it succeeded
./run_all.sh quick         compute everything afresh on small samples, in a scratch folder
./run_all.sh smoke         the same on the smallest samples
./run_all.sh 03 08         some notebooks only, at any profile
./run_all.sh test          run the tests, on all cores up to four; what follows goes to pytest
./run_all.sh site          copy the README and all notebooks to site/, as pages that open from disk and load nothing
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import re
import shutil
import sys
import tempfile
import time

from ipykernel.kernelspec import write_kernel_spec
import nbformat
from nbformat import NotebookNode
import papermill
from papermill.exceptions import PapermillException, PapermillExecutionError, strip_color
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ("paper", "quick", "smoke")
PRODUCTS = ("data/scores", "data/results", "figures")
UNFINISHED = (".lock", ".partial")
# A notebook that raised, one that cannot be read (two kinds), a kernel that died (RuntimeError), a disk that is full.
FAILURES = (PapermillException, nbformat.ValidationError, ValueError, RuntimeError, OSError)


@dataclass(frozen=True)
class Request:
    """What was asked for: `out` is the scratch folder, where not a temporary one."""

    notebooks: list[Path]
    profile: str
    fresh: bool
    out: Path | None


@dataclass(frozen=True)
class Result:
    """How a notebook ended: `outcome` is built, stored (it drew a stored result) or failed."""

    notebook: str
    seconds: float
    outcome: str
    remains: str = ""  # where a failed notebook lies, as far as it ran


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Do what the command line asks in the repository `root`; the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "NCDLIB_DATA_DIR" in os.environ:  # a relative path holds from here, not from where the kernels start
        os.environ["NCDLIB_DATA_DIR"] = str(Path(os.environ["NCDLIB_DATA_DIR"]).expanduser().resolve())
    if argv[:1] == ["test"]:
        os.chdir(root)
        os.execv(sys.executable, [sys.executable, "-m", "pytest", "-n", "auto", "--maxprocesses", "4", *argv[1:]])
    if argv[:1] == ["site"]:
        os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("pages.py")), *argv[1:]])
    return run(parse(argv, root), root)


def parse(argv: Sequence[str], root: Path) -> Request:
    """The request of a command line; an error ends the program with the usage and status 2."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        usage="./run_all.sh [paper | quick | smoke] [NUMBER ...] [--fresh] [--out DIR]\n"
        "       ./run_all.sh test [...]\n       ./run_all.sh site",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="PROFILE or NUMBER", help="what to run; all at `paper` by default")
    parser.add_argument("--fresh", action="store_true", help="ignore stored scores; quick and smoke always do")
    parser.add_argument("--out", type=Path, metavar="DIR", help="scratch folder, new or empty; a temporary one by default")
    asked = parser.parse_intermixed_args(argv)

    there = {int(path.name[:2]): path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    if not there:
        parser.error(f"there are no notebooks NN_name.ipynb in {root / 'notebooks'}")
    profiles, numbers = [], []
    for word in asked.words:
        if word in PROFILES:
            profiles.append(word)
        elif not word.isdecimal():
            parser.error(f"unknown argument {word!r}: give {', '.join(PROFILES)} or a number, or begin with test or site")
        elif int(word) not in there:
            parser.error(f"there is no notebook {word}, only {', '.join(path.stem for path in there.values())}")
        else:
            numbers.append(int(word))
    if len(profiles) > 1:
        parser.error(f"one profile at a time, not {' and '.join(profiles)}")
    profile = profiles[0] if profiles else "paper"
    if asked.out and profile == "paper" and not asked.fresh:
        parser.error("--out names a scratch folder, and paper works in place: use it with quick, smoke or --fresh")
    if asked.out and asked.out.exists() and not (asked.out.is_dir() and not any(asked.out.iterdir())):
        parser.error(f"--out {asked.out} is not empty, and its files would be reused or overwritten: name a new folder")
    return Request([there[n] for n in sorted(set(numbers) or there)], profile, asked.fresh, asked.out)


def run(request: Request, root: Path) -> int:
    """Run the notebooks one after another and print the closing table; 0 where none failed."""
    root = root.resolve()
    if request.out:
        request.out.mkdir(parents=True, exist_ok=True)
    scratch = (request.out or Path(tempfile.mkdtemp(prefix=f"ncdlib-{request.profile}-"))).resolve()
    in_place = request.profile == "paper"
    if in_place and request.fresh and (root / "data/results").is_dir():  # some notebooks read what others found
        shutil.copytree(root / "data/results", scratch / "data/results")

    results: list[Result] = []
    with kernels():
        for i, path in enumerate(request.notebooks, start=1):
            print(f"[{i}/{len(request.notebooks)}] {path.stem} ({request.profile})", flush=True)
            results.append(run_one(path, request, root, scratch))
            print(f"[{i}/{len(request.notebooks)}] {path.stem}: {results[-1].outcome}", flush=True)

    width = max(len("notebook"), *(len(result.notebook) for result in results))
    print(f"\n{'notebook':{width}}  seconds  outcome")
    for result in results:
        print(f"{result.notebook:{width}}  {result.seconds:7.1f}  {result.outcome:7}  {result.remains}".rstrip())
    failed = any(result.outcome == "failed" for result in results)
    if not in_place:
        print(f"\nEverything of this run lies in {scratch}")
    elif not failed:
        shutil.rmtree(scratch)
    return int(failed)


def run_one(path: Path, request: Request, root: Path, scratch: Path) -> Result:
    """Execute one notebook in the scratch folder; put it and, after --fresh, what it made in place if it succeeded."""
    in_place = request.profile == "paper"
    executed = scratch / "notebooks" / path.name
    executed.parent.mkdir(exist_ok=True)
    before = products(scratch)
    start = time.perf_counter()
    try:
        notebook = execute(path, executed, request.profile, ".." if in_place and not request.fresh else str(scratch))
        outcome = "stored" if draws_stored_result(notebook) else "built"
        text = nbformat.writes(cleaned(notebook, {str(root): "..", str(scratch): "..", **private_places()})) + "\n"
        if in_place and request.fresh:
            made = [name for name, state in products(scratch).items() if before.get(name) != state]
            for name in made:
                replace(root / name, (scratch / name).read_bytes())
        replace(path if in_place else executed, text.encode())
    except FAILURES as error:
        remains = str(executed) if executed.exists() else ""
        print("\n".join(["", *last_lines(error)]), f"The notebook as far as it ran: {remains or 'not at all'}", sep="\n")
        return Result(path.stem, time.perf_counter() - start, "failed", remains)
    return Result(path.stem, time.perf_counter() - start, outcome)


def execute(path: Path, executed: Path, profile: str, workspace: str) -> NotebookNode:
    """Execute `path` from its own folder with its two parameters set; `executed` grows with every cell."""
    source = nbformat.read(path, as_version=4)
    if not any("parameters" in cell.metadata.get("tags", []) for cell in source.cells):
        raise ValueError(f"{path.name} has no cell tagged `parameters`: it needs one that sets profile and root")
    return papermill.execute_notebook(
        str(path),
        str(executed),
        parameters={"profile": profile, "root": workspace},
        kernel_name="ncdlib",
        language="python",
        stderr_file=sys.stderr,  # the notebook's own progress bars
        start_timeout=300,
        cwd=str(path.parent),
        config=Config(KernelManager={"transport_encryption": "auto"}),
    )


@contextmanager
def kernels() -> Iterator[None]:
    """While open, the kernel `ncdlib` is this very Python, and the user's own IPython settings play no part."""
    with tempfile.TemporaryDirectory(prefix="ncdlib-kernel-") as folder:
        write_kernel_spec(Path(folder, "kernels", "ncdlib"))
        changed = {
            "JUPYTER_PATH": os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")])),
            "IPYTHONDIR": str(Path(folder, "ipython")),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        kept = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)
        try:
            yield
        finally:
            for name, value in kept.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def draws_stored_result(notebook: NotebookNode) -> bool:
    """Whether a cell printed the line of `Workspace.mark_stored`."""
    from ncdlib.reproduction.workspace import (
        STORED,  # here, because the package loads torch: seconds that a usage error need not cost
    )

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return any(line.startswith(STORED) for output in outputs for line in output.get("text", "").splitlines())


def cleaned(notebook: NotebookNode, places: dict[str, str]) -> NotebookNode:
    """The notebook as it is committed: nothing in it tells when, where or how fast it ran.

    Away go the injected parameters, timings, the state of widgets, stderr (progress bars and warnings, which were seen
    while it ran) and memory addresses; a folder of `places` turns into what it maps to.
    """
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
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
    """Folders of this user that an output may show, and what stands for them."""
    places = {str(Path.home()): "~", os.environ.get("NCDLIB_DATA_DIR", ""): "$NCDLIB_DATA_DIR"}
    return {place: short for place, short in places.items() if len(place) > 1}  # a home of "/" would be everywhere


def products(folder: Path) -> dict[str, tuple[int, int]]:
    """The scores, results and figures in `folder`, each with what tells that it changed."""
    files = [path for product in PRODUCTS for path in (folder / product).rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in files
        if path.suffix not in UNFINISHED
    }


def replace(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def last_lines(error: Exception, n: int = 12) -> list[str]:
    """The end of what a failed notebook said."""
    text = "\n".join(error.traceback) if isinstance(error, PapermillExecutionError) else f"{type(error).__name__}: {error}"
    return strip_color(text).splitlines()[-n:]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped: what was put in place before stands, the notebook that was running is as it was")
