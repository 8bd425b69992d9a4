"""`python -m ncdlib.benchmarks`: list, fetch and verify the public files."""

import argparse
from collections.abc import Sequence
import sys

from tqdm import tqdm

from ncdlib.benchmarks import MissingData, fetch, files, folder
from ncdlib.benchmarks.registry import TABLES

TABLE_FILES = list(dict.fromkeys(name for table in TABLES.values() for name in table.files))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 1 where a file is not as published or cannot be downloaded."""
    parser = argparse.ArgumentParser(prog="python -m ncdlib.benchmarks", description="Ground truth: list, fetch, verify.")
    commands = parser.add_subparsers(dest="command", metavar="list | fetch | verify")
    commands.add_parser("list", help="the tables: space, rows, metrics, and whether their files are here (the default)")
    fetched = commands.add_parser("fetch", help="download what is absent, verify what is here")
    verified = commands.add_parser(
        "verify", help="compare checksums without network; unless named, an absent file is no failure"
    )
    for command in (fetched, verified):
        command.add_argument("names", nargs="*", help="tables or files (default: all; fetch leaves out the images)")
    chosen = parser.parse_args(arguments)
    try:
        folder()
    except ValueError as error:
        parser.error(str(error))
    if chosen.command in (None, "list"):
        print(listing())
        return 0
    unknown = [name for name in chosen.names if name not in TABLES and name not in files.names()]
    if unknown:
        parser.error(f"unknown name {unknown[0]!r}: use tables ({', '.join(TABLES)}) or files ({files.known()})")
    named = [file for name in chosen.names for file in (TABLES[name].files if name in TABLES else (name,))]
    wanted = list(dict.fromkeys(named)) or (TABLE_FILES if chosen.command == "fetch" else files.names())
    return check(wanted, download=chosen.command == "fetch", must_be_here=bool(named))


def listing() -> str:
    """The tables as text, aligned, then the folder and the files that only a person can add to it."""
    rows = [("name", "space", "rows", "here", "metrics")]
    for name, table in TABLES.items():
        here = "yes" if all(_here(file) for file in table.files) else "no"
        rows.append((name, table.space, str(table.rows), here, ", ".join(table.metrics)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    own = [
        f"{table.own}: {'here' if (folder() / table.own).exists() else f'absent; {table.own_source}'}"
        for table in TABLES.values()
        if table.own
    ]
    return "\n".join([*lines, "", f"folder: {folder()} (NCDLIB_DATA_DIR chooses another)", "yours to add:", *own])


def check(files: Sequence[str], *, download: bool, must_be_here: bool) -> int:
    """Verify files, one line each. What is absent is downloaded where `download`, else a failure where `must_be_here`."""
    failed = 0
    for name in tqdm(files, unit="file", leave=False):
        if not download and not _here(name):
            tqdm.write(f"absent  {name}")
            failed += must_be_here
            continue
        try:
            fetch(name, progress=download)
        except (OSError, ValueError) as error:
            tqdm.write(f"FAILED  {name}: {error}")
            failed += 1
        else:
            tqdm.write(f"ok      {name}")
    return int(failed > 0)


def _here(name: str) -> bool:
    try:
        return files.location(name).exists()
    except MissingData:  # the package that brings it is not installed
        return False


if __name__ == "__main__":
    sys.exit(main())
