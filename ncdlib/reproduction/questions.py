"""The questions that the README answers: for each one number of ours, with its interval, beside the paper's."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from ncdlib.reproduction.evidence import Evidence, rows_of
from ncdlib.reproduction.ledger import contents, printed_numbers, supporting
from ncdlib.reproduction.numbers import data_folder


def questions(results: str | Path | None = None, folder: str | Path | None = None) -> pd.DataFrame:
    """One row per question of `claims.yaml`: question, answer, what, ours, n, printed, specifications, notebook.

    An answer is written by hand, so it names the `outcome` of the row that it rests on. ValueError where the row says
    something else, or where several rows answer: the answer is then out of date.
    """
    folder = data_folder(folder)
    results = Path(results or folder / "results")
    return pd.DataFrame([_answered(entry, results, folder) for entry in contents(folder)["questions"]])


def _answered(entry: dict[str, Any], results: Path, folder: Path) -> dict[str, Any]:
    asked = Evidence(**{field.name: entry[field.name] for field in fields(Evidence) if field.name in entry})
    found = rows_of(asked, results, folder)
    if len(found) != 1:
        raise ValueError(f"{entry['question']!r}: {len(found)} rows of {asked.file} answer, name more columns")
    row, expected = found.iloc[0], entry.get("outcome", "supports")
    if row.outcome != expected:
        raise ValueError(f"{entry['question']!r}: the answer rests on {expected!r}, the numbers say {row.outcome!r}")
    form = entry.get("format", "{:+.2f}")
    interval = f" [{form}, {form}]".format(row.low, row.high) if row.low < row.high else ""
    told = {name: entry[name] for name in ("question", "answer", "what", "notebook")}
    told |= {"ours": form.format(row.value) + interval, "n": entry.get("n", row.n)}
    return told | {"printed": printed_numbers(entry, folder), "specifications": supporting(entry, asked, results, folder)}


def in_markdown(table: pd.DataFrame) -> str:
    """The questions as a table in markdown."""
    lines = ["| question | answer | our number | n | the paper | settings that agree | where |", "|" + " --- |" * 7]
    for row in table.itertuples():
        n = "" if pd.isna(row.n) else f"{row.n:,.0f}"
        share = "" if pd.isna(row.specifications) else f"{row.specifications:.0%}"
        place = f"[{row.notebook[:2]}](notebooks/{row.notebook}.ipynb)"
        ours = f"{row.what}: {row.ours}"
        lines.append(f"| {row.question} | {row.answer} | {ours} | {n} | {row.printed} | {share} | {place} |")
    return "\n".join(lines)
