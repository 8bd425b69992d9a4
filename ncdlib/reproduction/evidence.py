"""The rows of a results file that answer a claim, and what each of them says."""

from dataclasses import dataclass, field
import math
from pathlib import Path
from typing import Any

import pandas as pd

from ncdlib.reproduction import verdicts
from ncdlib.reproduction.numbers import numbers, select

PRINTED = "printed"  # in place of a results file: the paper's own numbers


@dataclass(frozen=True)
class Evidence:
    """Rows of a results file and the rule that reads them, as `data/paper/claims.yaml` explains."""

    results: str
    side: str
    rows: dict[str, Any] = field(default_factory=dict)
    against: dict[str, Any] = field(default_factory=dict)
    value: str = "rho"
    low: str = "low"
    high: str = "high"
    exact: bool = False
    threshold: float | str = 0.0
    margin: float = 0.0
    label: str = ""

    @property
    def file(self) -> str:
        """The name of the file, for messages."""
        return "the paper's numbers" if self.results == PRINTED else f"{self.results}.csv"


def rows_of(evidence: Evidence, results: Path, folder: Path) -> pd.DataFrame:
    """The rows of evidence: value, low, high, threshold, outcome, n, and the labels that tell one from the others."""
    is_printed = evidence.results == PRINTED
    whole = numbers(folder=folder) if is_printed else pd.read_csv(results / evidence.file)
    table = _numbers(select(whole, evidence.rows, evidence.file), evidence)
    if evidence.against:
        table = _differences(
            table, _numbers(select(whole, {**evidence.rows, **evidence.against}, evidence.file), evidence), evidence
        )
    table["outcome"] = [
        verdicts.outcome(evidence.side, row.threshold, row.low, row.high, evidence.margin)
        for row in table[["threshold", "low", "high"]].itertuples()
    ]
    both = {**evidence.rows, **{f"than {key}": value for key, value in evidence.against.items()}}
    varied = sorted((key for key, value in both.items() if isinstance(value, list)), key=lambda key: len(both[key]))
    given = [[evidence.label] * len(table)] if evidence.label else []
    columns = [*given, *(table[key].astype(str) for key in varied)]
    table["labels"] = list(zip(*columns, strict=True)) if columns else [()] * len(table)
    return table[["value", "low", "high", "threshold", "outcome", "n", "labels"]]


def _numbers(table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """The table with the columns value, low, high, threshold and n; ValueError where one is absent or has no number."""
    ends = [evidence.value] * 2 if evidence.exact else [evidence.low, evidence.high]
    wanted = [evidence.value, *ends]
    for column in [*wanted, *([evidence.threshold] if isinstance(evidence.threshold, str) else [])]:
        if column not in table.columns:
            raise ValueError(f"{evidence.file}: no column {column!r}; use one of {', '.join(table.columns)}")
    found = table[wanted].set_axis(["value", "low", "high"], axis=1).astype(float)
    own = isinstance(evidence.threshold, str)  # each row has its own
    found["threshold"] = table[evidence.threshold].astype(float) if own else evidence.threshold
    found["n"] = table.get("n", math.nan)
    if found[["value", "low", "high", "threshold"]].isna().any(axis=None):
        raise ValueError(f"{evidence.file}: some rows have no number or interval: choose others, or say `exact: true`")
    return table.drop(columns=found.columns, errors="ignore").join(found)


def _differences(mine: pd.DataFrame, others: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Each row of `mine` minus the row, or rows, of `others` that it is compared with."""
    same = [key for key in [*evidence.rows, "specification"] if key in mine and key not in evidence.against]
    how = {"on": same} if same else {"how": "cross"}
    pairs = mine.merge(others, suffixes=("", " there"), **how)
    each = math.prod(len(value) for value in evidence.against.values() if isinstance(value, list))
    if len(pairs) != len(mine) * each:
        raise ValueError(f"{evidence.file}: {len(mine)} rows have {len(pairs)} partners, not {each} each: name more columns")
    ends = ["value", "low", "high"]
    ours, theirs = pairs[ends].itertuples(index=False), pairs[[f"{end} there" for end in ends]].itertuples(index=False)
    pairs[ends] = [verdicts.difference(tuple(a), tuple(b)) for a, b in zip(ours, theirs, strict=True)]
    for key in evidence.against:
        pairs[f"than {key}"] = pairs[f"{key} there"]
    return pairs
