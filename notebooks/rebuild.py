"""Execute notebooks side by side, put what changed in place, and say how each ended."""

import ast
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
import os
from pathlib import Path
import re
import shutil
import sys
import tempfile
import time
from typing import Any

from ipykernel.kernelspec import write_kernel_spec
import joblib
import nbformat
from nbformat import NotebookNode
from outputs import cleaned, draws_stored_result, private_places, settled, unchanged
import papermill
from papermill.exceptions import PapermillException, PapermillExecutionError, strip_color
from traitlets.config import Config

from ncdlib.scoring.file import written

PRODUCTS = ("data/scores", "data/results", "figures")
UNFINISHED = (".lock", ".partial")
BAR_SECONDS = 10.0  # a progress bar is shown once in so many seconds
# A notebook that raised, one that cannot be read (three kinds), a kernel that died (RuntimeError), a disk that is full.
FAILURES = (PapermillException, nbformat.ValidationError, SyntaxError, ValueError, RuntimeError, OSError)


@dataclass(frozen=True)
class Run:
    """One run of the engine: on which repository, with which scratch folder, at which profile."""

    root: Path
    scratch: Path
    profile: str
    fresh: bool

    @property
    def in_place(self) -> bool:
        """Whether what a notebook makes replaces what is committed."""
        return self.profile == "paper"


@dataclass(frozen=True)
class Result:
    """How a notebook ended: `outcome` is built, stored (it drew a stored result) or failed."""

    notebook: str
    seconds: float
    outcome: str
    remains: str = ""  # where a failed notebook is, as far as it ran


def rebuild(notebooks: list[Path], profile: str, fresh: bool, out: Path | None, root: Path) -> int:
    """Run the notebooks and print the closing table; 0 where none failed."""
    scratch = (out or Path(tempfile.mkdtemp(prefix=f"ncdlib-{profile}-"))).resolve()
    (scratch / "notebooks").mkdir()
    run, results = Run(root, scratch, profile, fresh), []
    at_once, workers = shares(run, len(notebooks))
    with kernels(workers), chdir(root / "notebooks"):
        for result in side_by_side(notebooks, at_once, run):
            results.append(result)
            done = f"[{len(results)}/{len(notebooks)}]"
            print(f"{done} {result.notebook}: {result.outcome} after {result.seconds:.0f} s ({profile})", flush=True)

    width = max(len("notebook"), *(len(result.notebook) for result in results))
    print(f"\n{'notebook':{width}}  seconds  outcome")
    for result in sorted(results, key=lambda result: result.notebook):
        print(f"{result.notebook:{width}}  {result.seconds:7.1f}  {result.outcome:7}  {result.remains}".rstrip())
    failed = any(result.outcome == "failed" for result in results)
    if not run.in_place:
        print(f"\nEverything of this run is in {scratch}")
    elif not failed:
        shutil.rmtree(scratch)
    return int(failed)


def shares(run: Run, notebooks: int) -> tuple[int, int]:
    """How many notebooks run at once, and how many worker processes each may start.

    Scores that are computed at the published sizes use all cores by themselves, and the workers of many notebooks would
    not fit the memory. A sample of the smoke profile takes less time than starting a worker.
    """
    cores = joblib.cpu_count()
    if run.in_place:
        return (min(notebooks, 2) if run.fresh else min(notebooks, cores)), cores
    at_once = min(notebooks, cores)
    return at_once, 1 if run.profile == "smoke" else max(1, cores // at_once)


def side_by_side(notebooks: list[Path], at_once: int, run: Run) -> Iterator[Result]:
    """Results as notebooks end; a notebook starts when those that it names in `after` have ended, failed or not."""
    order = TopologicalSorter({path: predecessors(path, notebooks) for path in notebooks})
    order.prepare()  # raises CycleError, a ValueError
    pool, running = ThreadPoolExecutor(at_once), {}
    try:
        while order.is_active():
            running |= {pool.submit(run_one, path, run): path for path in order.get_ready()}
            ended: set[Future[Result]] = wait(running, return_when=FIRST_COMPLETED).done
            for future in ended:
                order.done(running.pop(future))
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def predecessors(path: Path, notebooks: list[Path]) -> list[Path]:
    """The notebooks of this run whose results `path` reads: its metadata give their numbers, or say "all"."""
    try:
        after = nbformat.read(path, as_version=4).metadata.get("ncdlib", {}).get("after", [])
    except FAILURES:  # the notebook fails when its turn comes
        return []
    others = [other for other in notebooks if other != path]
    return others if after == "all" else [other for other in others if other.name[:2] in after]


def run_one(path: Path, run: Run) -> Result:
    """Execute one notebook in the scratch folder and, at the paper profile, put what changed in place if it succeeded."""
    executed = run.scratch / "notebooks" / path.name
    start = time.perf_counter()
    try:
        workspace = prepared(path, run)
        before, original = products(workspace), path.read_bytes()
        notebook = execute(path, executed, run.profile, workspace)
        outcome = "stored" if draws_stored_result(notebook) else "built"
        notebook = cleaned(notebook, {str(run.root): "..", str(workspace): "..", **private_places()})
        if not run.in_place:
            write_notebook(executed, notebook)
        elif path.read_bytes() != original:
            raise RuntimeError(f"{path.name} was edited while it ran, and is left as it is: run it again")
        else:
            made = [name for name, state in products(workspace).items() if before.get(name) != state]
            put_in_place(workspace, run.root, made, outcome)
            if outcome == "built":
                write_notebook(path, settled(notebook, nbformat.read(path, as_version=4)))
            shutil.rmtree(workspace)
    except FAILURES as error:
        remains = str(executed) if executed.exists() else ""
        said = [f"{path.stem} failed:", *last_lines(error), f"The notebook as far as it ran: {remains or 'not at all'}"]
        print("\n".join(said), flush=True)
        return Result(path.stem, time.perf_counter() - start, "failed", remains)
    return Result(path.stem, time.perf_counter() - start, outcome)


def prepared(path: Path, run: Run) -> Path:
    """The folder that a notebook gets as its `root`.

    Quick and smoke notebooks share the scratch folder. At the paper profile each has its own, with a copy of the committed
    results, some of which it may read, and the committed scores themselves, which grow as it runs, except after --fresh.
    """
    if not run.in_place:
        return run.scratch
    workspace = run.scratch / path.stem
    if (run.root / "data/results").is_dir():
        shutil.copytree(run.root / "data/results", workspace / "data/results")
    if not run.fresh:
        (run.root / "data/scores").mkdir(parents=True, exist_ok=True)
        (workspace / "data").mkdir(parents=True, exist_ok=True)
        (workspace / "data/scores").symlink_to(run.root / "data/scores", target_is_directory=True)
    return workspace


def products(workspace: Path) -> dict[str, tuple[int, int]]:
    """The scores, results and figures in a folder, each with what tells that it changed; not those of a linked folder."""
    folders = [workspace / product for product in PRODUCTS]
    files = [path for folder in folders if not folder.is_symlink() for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(workspace).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in files
        if path.suffix not in UNFINISHED
    }


def put_in_place(workspace: Path, root: Path, made: list[str], outcome: str) -> None:
    """Copy the files that a notebook made to the repository, except those that say the same as the committed ones.

    A notebook that drew stored results adds files and replaces none but scores.
    """
    changed = [
        name
        for name in made
        if not unchanged(workspace / name, root / name)
        and (outcome == "built" or name.startswith("data/scores") or not (root / name).exists())
    ]
    for name in changed:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with written(root / name) as partial:
            shutil.copyfile(workspace / name, partial)


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook, if the file says something else."""
    text = nbformat.writes(notebook) + "\n"
    if path.read_text(encoding="utf-8") != text:
        with written(path) as partial:
            partial.write_text(text, encoding="utf-8")


def execute(path: Path, executed: Path, profile: str, workspace: Path) -> NotebookNode:
    """Execute a notebook with the parameters of the profile; `executed` grows with every cell."""
    return papermill.execute_notebook(
        str(path),
        str(executed),
        parameters=parameters(nbformat.read(path, as_version=4), profile, workspace),
        kernel_name="ncdlib",
        language="python",
        progress_bar=False,
        stderr_file=Progress(path.name[:2]),
        start_timeout=300,
        config=Config(KernelManager={"transport_encryption": "auto"}),
    )


def parameters(notebook: NotebookNode, profile: str, workspace: Path) -> dict[str, Any]:
    """What is set after the cell tagged `parameters`: its root, whether it is published, the profile's other values.

    The cell has the values of the paper profile; the metadata `ncdlib` give what differs at quick and smoke. ValueError
    where a name is not assigned in the cell.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"the notebook has {len(tagged)} cells tagged `parameters`: it needs one, which sets root")
    assigned = {
        target.id
        for statement in ast.parse(tagged[0].source).body
        for target in getattr(statement, "targets", [getattr(statement, "target", None)])
        if isinstance(target, ast.Name)
    }
    given = {"root": str(workspace), **notebook.metadata.get("ncdlib", {}).get(profile, {})}
    if missing := sorted(given.keys() - assigned):
        raise ValueError(f"the cell tagged `parameters` does not assign {', '.join(missing)}, which {profile} sets")
    return given | {k: v for k, v in {"published": profile == "paper", "profile": profile}.items() if k in assigned}


class Progress:
    """The stderr of a notebook as the user sees it: its number before each line, and few of its progress bars."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.shown = 0.0

    def write(self, text: str) -> None:
        for line in filter(str.strip, re.split(r"[\r\n]+", text)):
            now = time.monotonic()
            if "%|" not in line or now - self.shown > BAR_SECONDS:
                self.shown = now if "%|" in line else self.shown
                sys.stderr.write(f"{self.number}: {strip_color(line)}\n")

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def kernels(workers: int) -> Iterator[None]:
    """While open, the kernel `ncdlib` is this very Python on one thread, without the user's own IPython settings."""
    with tempfile.TemporaryDirectory(prefix="ncdlib-kernel-", ignore_cleanup_errors=True) as folder:
        history = "--HistoryManager.enabled=False"  # kernels that run side by side would wait for one database
        write_kernel_spec(Path(folder, "kernels", "ncdlib"), extra_arguments=[history])
        changed = {
            "JUPYTER_PATH": os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")])),
            "IPYTHONDIR": str(Path(folder, "ipython")),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_NUM_THREADS": "1",
            "LOKY_MAX_CPU_COUNT": str(workers),
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


def last_lines(error: Exception, n: int = 12) -> list[str]:
    """The end of what a failed notebook said."""
    text = "\n".join(error.traceback) if isinstance(error, PapermillExecutionError) else f"{type(error).__name__}: {error}"
    return strip_color(text).splitlines()[-n:]
