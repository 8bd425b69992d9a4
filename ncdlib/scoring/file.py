"""The score file: one tidy row per score, readable at any moment, written by one run at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import hashlib
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any
import warnings

from filelock import FileLock, Timeout
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

KEYS = ("space", "arch", "proxy", "alpha", "norm", "activation", "init", "input", "batch", "seed")
TORCH = torch.__version__.partition("+")[0]
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
    `defaults` are the entries that a setting which is a dictionary may leave out.
    """

    def __init__(
        self, path: str | Path | None, settings: dict[str, Any], defaults: Mapping[str, dict] = MappingProxyType({})
    ) -> None:
        if not isinstance(path, str | Path | None):
            raise ValueError(f"scores are written to a file: give its path, which ends in .parquet, not {path!r}")
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.suffix != ".parquet":
            there = self.path.parent / f"{self.path.stem or 'scores'}.parquet"
            raise ValueError(f"scores are written as parquet: use {there}, not {str(path)!r}")
        self.settings = json.loads(json.dumps(settings))
        stands = self.path is not None and self.path.exists()
        self.rows = read(self.path) if stands else SCHEMA.empty_table().to_pandas()
        self.keys = set(zip(*(self.rows[key].tolist() for key in KEYS), strict=True))
        self.made_by = str(self.rows.attrs.get("torch", TORCH))
        stored = self.rows.attrs.get("settings", self.settings)
        stored = stored | {name: entries | stored.get(name, {}) for name, entries in defaults.items()}
        if stored != self.settings:
            changed = [k for k in sorted(stored.keys() | self.settings.keys()) if stored.get(k) != self.settings.get(k)]
            difference = "; ".join(f"{k} = {stored.get(k)!r} there, {self.settings.get(k)!r} asked for" for k in changed)
            raise ValueError(f"{self.path} holds scores of other settings ({difference}): write to another file")

    def missing(self, keys: Iterable[tuple]) -> list[tuple]:
        """Those of the keys that have no row."""
        return [key for key in keys if key not in self.keys]

    def add(self, rows: list[tuple]) -> None:
        """Append rows, each a key and a score."""
        new = pd.DataFrame(rows, columns=SCHEMA.names)
        self.rows = new if self.rows.empty else pd.concat([self.rows, new], ignore_index=True)
        self.keys.update(row[:-1] for row in rows)
        self.made_by = ", ".join(sorted({*self.made_by.split(", "), TORCH}))
        self.write()

    def sort(self) -> None:
        """Bring the rows into the order of their keys, so that the file does not depend on how the work was divided."""
        ordered = self._ordered()
        if not ordered.equals(self.rows):
            self.rows = ordered
            self.write()

    def is_complete(self, keys: Sequence[tuple]) -> bool:
        """Whether a run that wants these keys has nothing to write."""
        return len(keys) <= len(self.rows) and not self.missing(keys) and self._ordered().equals(self.rows)

    def write(self) -> None:
        """Write the table, with its settings and a checksum; the file is whole at any moment."""
        if self.path is None:
            return
        table = pa.Table.from_pandas(self.rows, schema=SCHEMA, preserve_index=False)
        metadata = {"settings": self.settings, "torch": self.made_by}
        told = json.dumps(metadata | {"checksum": checksum(table, metadata)})
        with written(self.path) as partial:
            pq.write_table(table.replace_schema_metadata({"ncdlib": told}), partial, compression="zstd")

    def _ordered(self) -> pd.DataFrame:
        return self.rows.sort_values(list(KEYS), ignore_index=True)


@contextmanager
def locked(path: str | Path, message: str) -> Iterator[None]:
    """Hold the lock of a file, `PATH.lock` beside it; RuntimeError with this message where another run holds it.

    Two names of one file share its lock. The operating system frees the lock of a process that is killed. ValueError where
    the folder takes no file.
    """
    name = Path(f"{Path(path).resolve()}.lock")
    try:
        name.touch()
        lock = FileLock(name).acquire(timeout=0)
    except Timeout:
        raise RuntimeError(message) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): choose another place") from error
    with lock:
        yield


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
def opened(
    path: str | Path | None,
    settings: dict[str, Any],
    defaults: Mapping[str, dict] = MappingProxyType({}),
    wanted: Sequence[tuple] = (),
) -> Iterator[ScoreFile]:
    """A score file that belongs to this run until the end; without a lock where it holds all rows that are `wanted`.

    Raises ValueError where the file cannot be written there or holds something else, RuntimeError where another run
    writes it.
    """
    file = ScoreFile(path, settings, defaults)
    if path is None or (wanted and file.is_complete(wanted)):
        yield file
        return
    folder = Path(path).resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({folder}: {error.strerror}): choose another place") from error
    with locked(path, f"another run is writing {path}: wait for it to end, or write to another file"):
        file = ScoreFile(path, settings, defaults)
        if file.made_by != TORCH:
            warnings.warn(
                f"{path} holds scores made by torch {file.made_by}, this is {TORCH}: bits may differ", stacklevel=4
            )
        yield file
        file.sort()


def read(path: str | Path) -> pd.DataFrame:
    """The score table of a file; its settings are in `.attrs["settings"]`.

    Raises ValueError where the file is damaged or is not a score table. A file without a checksum is read as it is.
    """
    content = Path(path).read_bytes()  # opened once: a run may replace the file meanwhile
    try:
        table = pq.read_table(pa.BufferReader(content))
        names, metadata = table.schema.names, json.loads((table.schema.metadata or {}).get(b"ncdlib", b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as parquet; move it away and score again ({error})") from error
    if names != SCHEMA.names or table.schema.types != SCHEMA.types:
        raise ValueError(f"{path} is not a score table: it has columns {names}, not {SCHEMA.names}")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("settings"), dict):
        raise ValueError(f"{path} does not say with which settings its scores were made: move it away and score again")
    expected = metadata.pop("checksum", None)
    if expected is not None and expected != checksum(table, metadata):
        raise ValueError(f"{path} is damaged: its rows do not have the checksum in it; move it away and score again")
    rows = table.to_pandas()
    twice = rows.duplicated(list(KEYS))
    if twice.any():
        key = ", ".join(f"{name} = {rows[name][twice.idxmax()]}" for name in KEYS)
        raise ValueError(f"{path} holds {twice.sum()} rows twice, e.g. {key}: move it away and score again")
    rows.attrs = metadata
    return rows


def checksum(table: pa.Table, metadata: dict[str, Any]) -> str:
    """A digest of the values of a table and of what is said of them, whatever the encoding of the file."""
    digest = hashlib.blake2b(json.dumps(metadata).encode(), digest_size=16)
    for column in table.columns:
        values = column.combine_chunks()
        if pa.types.is_string(column.type):
            encoded = values.dictionary_encode()  # numbered as they first appear
            digest.update(repr(encoded.dictionary.cast(pa.binary()).to_pylist()).encode())
            values = encoded.indices
        digest.update(values.to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()
