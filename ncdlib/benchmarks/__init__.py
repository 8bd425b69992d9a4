"""Ground truth: tables of accuracies, their sources, checksums and loaders.

`load(name)` gives a table, `names()` lists them, `describe(name)` says what the columns mean. The files come from their
public addresses into `folder()` on first use; `python -m ncdlib.benchmarks` lists, fetches and verifies them.
"""

from dataclasses import asdict

import pandas as pd

from ncdlib.benchmarks import files, readers
from ncdlib.benchmarks.files import MissingData, fetch, folder
from ncdlib.benchmarks.registry import TABLES, Metric, Table

__all__ = ["Metric", "MissingData", "Table", "describe", "fetch", "files", "folder", "get", "load", "names"]


def names() -> list[str]:
    """The names of all tables."""
    return list(TABLES)


def get(name: str) -> Table:
    """What the registry says of a table. No file is read."""
    if name not in names():
        raise ValueError(f"unknown benchmark {name!r}: use one of {', '.join(TABLES)}")
    return TABLES[name]


def load(name: str, *, progress: bool = False) -> pd.DataFrame:
    """The table of this name: columns that name the architecture, then one column per metric.

    `attrs` holds the facts: name, space, split, licence, citation, labels and metrics, the last as in `describe`. The
    AutoFormer tables take further metrics from a user's own file in `folder()` (see `readers.with_own`).

    Raises ValueError for an unknown name or a file that is not as published, `MissingData` for an absent file that cannot be
    downloaded.
    """
    facts = get(name)
    paths = [fetch(file, progress=progress) for file in facts.files]
    table = getattr(readers, facts.reader)(*paths, **facts.options)[[*facts.labels, *facts.metrics]]
    metrics = dict(facts.metrics)
    own = folder() / facts.own if facts.own else None
    if own is not None and own.exists():
        table = readers.with_own(table, own)
        metrics |= {
            column: Metric("as in the file", "higher", f"from {facts.own}") for column in table.columns[1 + len(metrics) :]
        }
    table.attrs = {
        "name": name,
        "space": facts.space,
        "split": facts.split,
        "licence": facts.licence,
        "citation": facts.citation,
        "labels": dict(facts.labels),
        "metrics": {column: asdict(metric) for column, metric in metrics.items()},
    }
    return table


def describe(name: str) -> pd.DataFrame:
    """One row per metric of a table: metric, unit, direction (which is better: higher, lower or none), description."""
    return pd.DataFrame([{"metric": column, **asdict(metric)} for column, metric in get(name).metrics.items()])
