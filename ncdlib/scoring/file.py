"""The score file: one tidy row a score, readable at any moment, written by one run at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

KEYS = ("space", "arch", "proxy", "alpha", "norm", "activation", "init", "input", "batch", "seed")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("space", "arch", "proxy")),
        ("alpha", pa.float64()),
        *((name, pa.string()) for name in ("norm", "activation", "init", "input")),
        *((name, pa.int64()) for name in ("batch", "seed")),
        ("score", pa.float64()),
    ]
)


class ScoreFile:
    """Scores that were computed with the same settings, in a parquet file or, without a path, in memory.

    `settings` are what a row's key does not say (mask, size of the network, ...). Rows of other settings never mix.
    """

    def __init__(self, path: str | Path | None, settings: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.settings = json.loads(json.dumps(settings))
        self.rows = empty() if self.path is None or not self.path.exists() else read(self.path)
        stored = self.rows.attrs.get("settings", self.settings)
        if stored != self.settings:
            changed = [k for k in sorted(stored.keys() | self.settings.keys()) if stored.get(k) != self.settings.get(k)]
            difference = "; ".join(f"{k} = {stored.get(k)!r} there, {self.settings.get(k)!r} asked for" for k in changed)
            raise ValueError(f"{self.path} holds scores of other settings ({difference}): write to another file")

    def keys(self) -> set[tuple]:
        """The keys of the rows that stand."""
        return set(self.rows[list(KEYS)].itertuples(index=False, name=None))

    def add(self, rows: list[tuple]) -> None:
        """Append rows, each a key and a score."""
        new = pd.DataFrame(rows, columns=SCHEMA.names)
        self.rows = new if self.rows.empty else pd.concat([self.rows, new], ignore_index=True)
        self.write()

    def sort(self) -> None:
        """Bring the rows into the order of their keys, so that the file does not depend on how the work was divided."""
        ordered = self.rows.sort_values(list(KEYS), ignore_index=True)
        if not ordered.equals(self.rows):
            self.rows = ordered
            self.write()

    def write(self) -> None:
        """Write the table beside the file, then rename it, so that the file is whole at any moment."""
        if self.path is None:
            return
        metadata = {"ncdlib": json.dumps({"settings": self.settings, "torch": torch.__version__.partition("+")[0]})}
        table = pa.Table.from_pandas(self.rows, schema=SCHEMA, preserve_index=False).replace_schema_metadata(metadata)
        with written(self.path) as partial:
            pq.write_table(table, partial, compression="zstd")


@contextmanager
def locked(path: str | Path, message: str) -> Iterator[None]:
    """Hold the lock of a file, `PATH.lock` beside it; RuntimeError with this message where another run holds it.

    Two names of one file share its lock. The operating system frees the lock of a process that is killed.
    """
    lock = FileLock(f"{Path(path).resolve()}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(message) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """A path beside a file to write to, which takes the file's place at the end, so that the file is whole at any moment.

    After an error the file is as it was, and the path is removed. A link is followed: the file that it names is written.
    """
    target = Path(path).resolve()
    partial = target.with_name(f"{target.name}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def opened(path: str | Path | None, settings: dict[str, Any]) -> Iterator[ScoreFile]:
    """A score file that belongs to this run until the end; the operating system frees it if the process is killed."""
    if path is None:
        yield ScoreFile(None, settings)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with locked(path, f"another run is writing {path}: wait for it to end, or write to another file"):
        file = ScoreFile(path, settings)
        yield file
        file.sort()


def empty() -> pd.DataFrame:
    """A score table without rows."""
    return SCHEMA.empty_table().to_pandas()


def read(path: str | Path) -> pd.DataFrame:
    """The score table of a file; its settings stand in `.attrs["settings"]`.

    Raises ValueError where the file is truncated or is not a score table.
    """
    try:
        table = pq.read_table(pa.BufferReader(Path(path).read_bytes()))  # opened once: a run may replace it meanwhile
    except (pa.ArrowInvalid, OSError) as error:
        if not Path(path).exists():
            raise
        raise ValueError(f"{path} cannot be read as parquet; move it away and score again ({error})") from error
    if table.schema.names != SCHEMA.names or b"ncdlib" not in (table.schema.metadata or {}):
        raise ValueError(f"{path} is not a score table: it has columns {table.schema.names}, not {SCHEMA.names}")
    rows = table.to_pandas()
    rows.attrs = json.loads(table.schema.metadata[b"ncdlib"])
    return rows
