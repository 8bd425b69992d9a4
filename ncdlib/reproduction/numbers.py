"""The numbers that the paper prints, and where the repository keeps them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm


def data_folder(folder: str | Path | None = None) -> Path:
    """The folder `data` of the repository: the one given, or that of the checkout which this package runs from.

    FileNotFoundError where it holds no numbers of the paper: an installed package has no such folder beside it.
    """
    path = Path(folder) if folder is not None else Path(__file__).resolve().parents[2] / "data"
    if not (path / "paper" / "numbers.csv").is_file():
        raise FileNotFoundError(f"no paper/numbers.csv in {path}: give the data folder of a checkout of the repository")
    return path


def numbers(place: str | None = None, folder: str | Path | None = None, **where: object) -> pd.DataFrame:
    """The paper's numbers, one per row: place, space, data, subset, proxy, method, alpha, metric, value, spread, source.

    A place that is no table of the paper names another paper. `alpha` is the mask rate, where it is printed; `source` is
    "second-hand" where public notes on a paper give the number, "printed" where it was read in the paper's own pages.
    `spread` is the small number printed beside a value; in supplementary Tables 1 and 2 it is the lead over another column.
    `place` and further columns select rows, e.g. `numbers("Table 1", proxy="nwot")`; `folder`: see `data_folder`.
    """
    table = pd.read_csv(data_folder(folder) / "paper" / "numbers.csv")
    return select(table, {**({"place": place} if place else {}), **where}, "the paper's numbers")


def implied(place: str, better: str, than: str, folder: str | Path | None = None, **where: object) -> list[float]:
    """The share of searches in which one method finds better than another, as their printed means and spreads imply.

    Both are taken as normal and independent, the spread as the standard deviation over searches: Phi of the difference of
    the means over the root of the summed squares. One share per row that `where` selects of each method.
    """
    first, second = (numbers(place, folder, method=method, **where) for method in (better, than))
    if len(first) != len(second):
        raise ValueError(f"{place}: {len(first)} rows of {better}, {len(second)} of {than}: select as many of both")
    return norm.cdf((first.value - second.value) / np.hypot(first.spread, second.spread)).tolist()


def select(table: pd.DataFrame, where: Mapping[str, Any], name: str) -> pd.DataFrame:
    """The rows in which each column has the value given, or one of the list given. ValueError where a value is in no row."""
    for column, wanted in where.items():
        if column not in table.columns:
            raise ValueError(f"{name}: no column {column!r}; use one of {', '.join(table.columns)}")
        values = wanted if isinstance(wanted, list) else [wanted]
        for value in values:
            if value not in set(table[column]):
                there = ", ".join(sorted(set(table[column].astype(str))))
                raise ValueError(f"{name}: no row has {column} = {value!r}; there are {there}")
        table = table[table[column].isin(values)]
    return table.reset_index(drop=True)
