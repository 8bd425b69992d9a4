"""Run the notebooks.

./run_all.sh               rebuild every figure at the paper profile; stored scores are reused, missing ones computed
./run_all.sh --fresh       the same without the stored scores; the new ones replace them where a notebook succeeded
./run_all.sh quick         compute everything afresh on small samples, in a scratch folder
./run_all.sh smoke         the same on the smallest samples
./run_all.sh 03 08         some notebooks only, at any profile
./run_all.sh test          run the tests, on all cores up to four; further arguments go to pytest
./run_all.sh site          copy the README, all notebooks and an explorer to site/: pages that open from disk, load nothing
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import sys
import tempfile

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ("paper", "quick", "smoke")


@dataclass(frozen=True)
class Request:
    """What the command line asks for; without `out`, the scratch folder is a temporary one."""

    notebooks: list[Path]
    profile: str
    fresh: bool
    out: Path | None


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Do what the command line asks in the repository `root`; the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "NCDLIB_DATA_DIR" in os.environ:  # a relative path is relative to this folder, not to that of the kernels
        os.environ["NCDLIB_DATA_DIR"] = str(Path(os.environ["NCDLIB_DATA_DIR"]).expanduser().resolve())
    if argv[:1] == ["test"]:
        os.chdir(root)
        os.execv(sys.executable, [sys.executable, "-m", "pytest", "-n", "auto", "--maxprocesses", "4", *argv[1:]])
    if argv[:1] == ["site"]:
        os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("pages.py")), *argv[1:]])
    request = parse(argv, root.resolve())

    from rebuild import rebuild  # here, because it loads papermill and torch: seconds that a usage error need not cost

    return rebuild(**vars(request), root=root.resolve())


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

    known = {int(path.name[:2]): path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    if not known:
        parser.error(f"there are no notebooks NN_name.ipynb in {root / 'notebooks'}")
    profiles, numbers = [], []
    for word in asked.words:
        if word in PROFILES:
            profiles.append(word)
        elif not word.isdecimal():
            parser.error(f"unknown argument {word!r}: give {', '.join(PROFILES)} or a number, or begin with test or site")
        elif int(word) not in known:
            parser.error(f"there is no notebook {word}, only {', '.join(path.stem for path in known.values())}")
        else:
            numbers.append(int(word))
    if len(profiles) > 1:
        parser.error(f"one profile at a time, not {' and '.join(profiles)}")
    profile = profiles[0] if profiles else "paper"
    if asked.out and profile == "paper" and not asked.fresh:
        parser.error("--out names a scratch folder, and paper works in place: use it with quick, smoke or --fresh")
    if asked.out:
        make_scratch(asked.out, parser)
    return Request([known[n] for n in sorted(set(numbers) or known)], profile, asked.fresh, asked.out)


def make_scratch(folder: Path, parser: argparse.ArgumentParser) -> None:
    """Make the folder that `--out` names; an error of the command line where it holds files or cannot be written."""
    if folder.is_dir() and any(folder.iterdir()):
        parser.error(f"--out {folder} is not empty, and its files would be reused or overwritten: name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        parser.error(f"--out {folder} cannot be written ({error.strerror}): name another folder")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped: the notebooks that had ended are in place, the others are as they were", file=sys.stderr, flush=True)
        os._exit(130)  # at once: threads still wait for kernels, which end when they see that this process is gone
