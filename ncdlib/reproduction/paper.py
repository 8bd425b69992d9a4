"""The numbers and the claims of the paper, from `data/paper`, and the ledger that sets our results beside them."""

from collections.abc import Mapping
import math
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

DATA = Path(__file__).resolve().parents[2] / "data"
VERDICTS = ("reproduced", "partly", "not", "not testable here")


def numbers(place: str | None = None, **where: str) -> pd.DataFrame:
    """The paper's numbers, one a row: place, space, data, subset, proxy, method, metric, value, spread, source.

    A place that is no table of the paper names another paper. `source` is "second-hand" where public notes on a paper give
    the number, "printed" where it was read in the paper's own pages. `spread` is the small number printed beside a value,
    which in supplementary Tables 1 and 2 is its lead over another column. `place` and further columns select rows, e.g.
    `numbers("Table 1", proxy="nwot")`.
    """
    table = pd.read_csv(DATA / "paper" / "numbers.csv")
    return select(table, {**({"place": place} if place else {}), **where}, "the paper's numbers")


def select(table: pd.DataFrame, where: Mapping[str, Any], name: str) -> pd.DataFrame:
    """The rows in which each column has the value given, or one of the list given. ValueError where there are none."""
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


def claims() -> list[dict[str, Any]]:
    """What the paper claims, one entry a claim, as `data/paper/claims.yaml` explains."""
    return yaml.safe_load((DATA / "paper" / "claims.yaml").read_text(encoding="utf-8"))


def verdict(side: str, null: float, printed: float, value: float, low: float, high: float) -> str:
    """Whether our number, with its interval, bears a claim that a quantity lies above, or below, a null value.

    - reproduced: the whole interval lies on the claimed side of `null`, and the paper's number, if it prints one, lies in
      the interval, or ours lies further to that side.
    - partly: the whole interval lies on the claimed side, but short of the paper's number.
    - not: anything else: the other side, not clear of `null`, or undefined.

    Side "paper" is for an entry of a table, which claims nothing but its number: reproduced where the number lies in our
    interval, and ours on the same side of `null`, else not.
    """
    if side not in ("above", "below", "paper"):
        raise ValueError(f"a claim lies above or below its null value, or where the paper's number does, not {side!r}")
    sign = 1 if side == "above" or (side == "paper" and printed > null) else -1
    met = low <= printed <= high
    if side == "paper":
        return "reproduced" if met and sign * (value - null) > 0 else "not"
    if not (sign * (low - null) > 0 and sign * (high - null) > 0):
        return "not"
    return "reproduced" if math.isnan(printed) or met or sign * value >= sign * printed else "partly"


def ledger(results: str | Path = DATA / "results") -> pd.DataFrame:
    """Every claim of the paper beside our result, one a row, in the order of `claims()`.

    - claim, place, quantity, paper: what is said, where, of what, and the paper's number if it prints one.
    - value, low, high, n: ours, where one row of a results file is the answer; least, most: over several rows.
    - null: what the claim says that it lies above, or below; nan where rows have different ones.
    - ours: the same in words; held: "3 of 7", how many of several rows bear the claim; verdict.
    - notebook; source: file and rows in `results`; needs: what a test would take; headline: whether the README shows it.

    A claim that several rows answer is reproduced where all of them are, not where none is even partly, else partly.

    Raises ValueError where a claim names rows or columns that a results file lacks, FileNotFoundError where the file does
    not stand.
    """
    return pd.DataFrame([_entry(claim, Path(results)) for claim in claims()])


def _entry(claim: dict[str, Any], results: Path) -> dict[str, Any]:
    told = {"claim": claim["claim"], "place": claim["place"], "paper": _printed(claim)}
    ours = dict.fromkeys(("value", "low", "high", "n", "null", "least", "most"), math.nan)
    ours |= {"ours": "", "held": "", "verdict": VERDICTS[-1]}
    where = {"notebook": claim["notebook"], "source": "", "needs": claim.get("needs", "")}
    where |= {"headline": claim.get("headline", False), "quantity": claim.get("quantity", "")}
    if "results" in claim:
        file, rows = f"{claim['results']}.csv", claim.get("rows", {})
        whole = pd.read_csv(results / file)
        if "beyond_rows" in claim:  # the null value stands in a row of its own
            null = select(whole, claim["beyond_rows"], file)
            claim = claim | {"beyond": float(null[claim.get("value", "rho")].item())}
        table = select(whole, rows, file)
        where["source"] = file + "".join(f", {column} = {value}" for column, value in rows.items())
        ours = _ours(claim, table, told["paper"], file)
        told["paper"] = ours.pop("paper")
    return told | ours | where


def _ours(claim: dict[str, Any], table: pd.DataFrame, paper: float, file: str) -> dict[str, Any]:
    """What the rows of a results file say of a claim."""
    value = claim.get("value", "rho")
    columns = [value, claim.get("low", "low"), claim.get("high", "high")] if claim.get("interval", True) else [value] * 3
    null, printed = claim.get("beyond", 0.0), claim.get("paper_column", paper)  # a number, or the column that holds it
    for column in {*columns, null, printed}:
        if isinstance(column, str) and column not in table.columns:
            raise ValueError(f"{file}: no column {column!r}; use one of {', '.join(table.columns)}")
    table = table.assign(null=table[null] if isinstance(null, str) else null)
    table = table.assign(printed=table[printed] if isinstance(printed, str) else printed)
    numbers = table[["null", "printed"]].join(table[columns].set_axis(["value", "low", "high"], axis=1)).astype(float)
    if numbers[["low", "high"]].isna().any(axis=None):
        raise ValueError(f"{file}: rows of {claim['claim']!r} have no interval: choose others, or say `interval: false`")
    each = [verdict(claim["side"], **row) for row in numbers.to_dict("records")]
    form, held = claim.get("format", "{:+.2f}"), ""
    if len(table) == 1:
        row = numbers.iloc[0]
        text = form.format(row.value) + (f" [{form}, {form}]".format(row.low, row.high) if columns[1] != value else "")
    else:
        row = pd.Series(math.nan, numbers.columns)
        held = f"{each.count('reproduced')} of {len(each)}"
        text = f"{form} to {form}".format(numbers.value.min(), numbers.value.max())
    n = table["n"].iloc[0] if len(table) == 1 and "n" in table else math.nan
    said = {"paper": row.printed, "value": row.value, "low": row.low, "high": row.high, "n": n}
    said |= {"null": numbers.null.iloc[0] if numbers.null.nunique() == 1 else math.nan}
    said |= {"least": numbers.value.min(), "most": numbers.value.max(), "ours": text, "held": held}
    return said | {"verdict": each[0] if len(set(each)) == 1 else "partly"}


def _printed(claim: dict[str, Any]) -> float:
    """The one number of the paper that belongs to a claim; nan where it prints none."""
    if "paper" not in claim:
        return math.nan
    found = select(numbers(), claim["paper"], "the paper's numbers")
    if len(found) != 1:
        raise ValueError(f"{len(found)} numbers of the paper belong to the claim {claim['claim']!r}: say which one")
    return float(found.value[0])


def in_markdown(ledger: pd.DataFrame) -> str:
    """The ledger's headline claims as a table in markdown, under a line that counts all verdicts."""
    counts = ", ".join(f"{(ledger.verdict == verdict).sum()} {verdict}" for verdict in VERDICTS)
    lines = [
        f"Of {len(ledger)} claims: {counts}.",
        "",
        "| claim | place | paper | ours | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in ledger[ledger.headline].itertuples():
        ours = f"{row.held} hold: {row.ours}" if row.held else row.ours + (f", n = {row.n:.0f}" if row.n > 0 else "")
        printed = "" if math.isnan(row.paper) else f"{row.paper:g}"
        lines.append(f"| {row.claim} ({row.notebook}) | {row.place} | {printed} | {ours} | **{row.verdict}** |")
    return "\n".join(lines)


def rewritten(text: str, name: str, content: str) -> str:
    """`text` with what stands between the marks `<!-- NAME -->` and `<!-- /NAME -->` replaced. ValueError without them."""
    head, opening, rest = text.partition(f"<!-- {name} -->")
    _, closing, tail = rest.partition(f"<!-- /{name} -->")
    if not (opening and closing):
        raise ValueError(f"the text has no marks <!-- {name} --> and <!-- /{name} -->: put them where the table belongs")
    return f"{head}{opening}\n{content}\n{closing}{tail}"
