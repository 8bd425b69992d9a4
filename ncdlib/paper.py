"""The numbers that the paper and the papers of the proxies print, from `data/paper`."""

from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parents[1] / "data" / "paper"


def numbers(place: str | None = None, **where: str) -> pd.DataFrame:
    """The paper's numbers, one a row: place, space, data, subset, proxy, method, metric, value, spread, source.

    A place that is no table of the paper names another paper. `source` is "second-hand" where public notes on a paper give
    the number, "printed" where it was read in the paper's own pages. `place` and further columns select rows, e.g.
    `numbers("Table 1", proxy="nwot")`.
    """
    table = pd.read_csv(FOLDER / "numbers.csv")
    for column, value in {**({"place": place} if place else {}), **where}.items():
        if column not in table.columns:
            raise ValueError(f"the paper's numbers have no column {column!r}: use one of {', '.join(table.columns)}")
        if value not in set(table[column]):
            raise ValueError(
                f"no number has {column} = {value!r}: there are {', '.join(sorted(set(table[column].astype(str))))}"
            )
        table = table[table[column] == value]
    return table.reset_index(drop=True)
