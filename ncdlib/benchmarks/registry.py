"""What ground truth exists: for each table its space, metrics, split, licence, source and reader, from `tables.toml`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
import tomllib


@dataclass(frozen=True)
class Metric:
    """What a column of numbers means. `direction`: which is better, "higher", "lower", or "none" where neither is."""

    unit: str
    direction: str
    description: str


@dataclass(frozen=True)
class Table:
    """A table of ground truth; its first metric is the one that a study would rank by."""

    space: str
    rows: int
    files: Sequence[str]
    reader: str  # the function of `readers` that makes the table from the paths of `files` and from `options`
    metrics: dict[str, Metric]
    split: str
    licence: str
    citation: str
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=lambda: {"arch": "native string of the architecture"})
    own: str | None = None  # a file with further metrics that a user may add to the data folder (see readers.with_own)
    own_source: str = ""


def _tables() -> dict[str, Table]:
    tables = tomllib.loads(Path(__file__).with_name("tables.toml").read_text(encoding="utf-8"))
    for facts in tables.values():
        facts["metrics"] = {column: Metric(*values) for column, values in facts["metrics"].items()}
    return {name: Table(**facts) for name, facts in tables.items()}


TABLES = _tables()
