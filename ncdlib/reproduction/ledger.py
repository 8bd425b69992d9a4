"""The ledger: every claim of the paper, and every printed number that we can compare, beside our results.

`data/paper/claims.yaml` says which rows of which results file answer a claim, `verdicts` by which rule.
"""

from collections.abc import Mapping
from dataclasses import fields
import math
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ncdlib.reproduction import verdicts
from ncdlib.reproduction.evidence import Evidence, rows_of
from ncdlib.reproduction.numbers import data_folder, implied, numbers, select

SPECIFICATIONS = "14_specifications"
LISTED = 8  # more rows than these are counted, not named
KEYS = {"claim", "place", "notebook", "quantity", "paper", "implied", "extension", "specifications"}
KEYS |= {"because", "link", "needs", "format", "evidence", *(field.name for field in fields(Evidence))}


def contents(folder: str | Path | None = None) -> dict[str, Any]:
    """What `claims.yaml` in the data folder holds: margins, claims, numbers."""
    return yaml.safe_load((data_folder(folder) / "paper" / "claims.yaml").read_text(encoding="utf-8"))


def ledger(results: str | Path | None = None, folder: str | Path | None = None, notebook: str | None = None) -> pd.DataFrame:
    """Every claim, or each that one notebook argues, beside our results, one per row, in the order of `claims.yaml`.

    - claim, place, notebook, quantity: what is said, where, where we argue it, and what is measured.
    - printed: the paper's number or numbers, as text; ours: our number with its interval, or the range of several.
    - rows, supports, contradicts, no effect, cannot tell: how many rows of evidence there are, and what they say.
    - where: the rows behind a verdict "holds in part"; n: the number of architectures.
    - specifications: the share of settings that support the claim, nan where none were run; verdict.
    - extension: whether this is our test on another space, metric or split than the paper's.
    - because, link, needs, source: the reason, where it is argued, what a test would take, the files and rows.

    `folder` is the data folder, see `data_folder`; `results` the folder of results, by default the one in it. ValueError
    where a claim names rows or columns that a results file lacks, FileNotFoundError where there is no such file.
    """
    folder = data_folder(folder)
    results, held = Path(results or folder / "results"), contents(folder)
    entries = []
    for claim in held["claims"]:
        if notebook not in (None, claim["notebook"]):
            continue
        try:
            entries.append(_entry(claim, held["margins"], results, folder))
        except ValueError as error:
            raise ValueError(f"the claim {claim['claim']!r}: {error}") from error
    return pd.DataFrame(entries)


def _entry(claim: dict[str, Any], margins: dict[str, float], results: Path, folder: Path) -> dict[str, Any]:
    """One row of the ledger."""
    told: dict[str, Any] = {key: claim[key] for key in ("claim", "place", "notebook")}
    told |= {key: claim.get(key, "") for key in ("quantity", "because", "link", "needs")}
    told |= {"extension": claim.get("extension", False), "printed": printed_numbers(claim, folder)}
    told |= {"rows": 0, "ours": "", "n": "", "where": "", "source": "", "specifications": math.nan}
    told |= dict.fromkeys(verdicts.OUTCOMES, 0)
    sources = _evidence(claim, margins)
    if not sources:
        return told | {"verdict": "not tested here"}
    read = [rows_of(evidence, results, folder) for evidence in sources]
    table = pd.concat(read, ignore_index=True)
    said = table.outcome.tolist()
    share = supporting(claim, sources[0], results, folder)
    told |= {outcome: said.count(outcome) for outcome in verdicts.OUTCOMES}
    told |= {"rows": len(table), "ours": _ours(table, claim.get("format", "{:+.2f}")), "n": _range(table.n)}
    told |= {"specifications": share, "verdict": verdicts.robust(verdicts.verdict(said), share)}
    if told["verdict"] == "holds in part":
        settings = f"the claimed sign in {share:.0%} of the settings of notebook 14" if share < verdicts.ROBUST else ""
        told["where"] = ". ".join(filter(None, (_where(table), settings)))
    return told | {"source": "; ".join(dict.fromkeys(_source(evidence) for evidence in sources))}


def _evidence(claim: Mapping[str, Any], margins: Mapping[str, float]) -> list[Evidence]:
    """The evidence of a claim: one entry of `evidence` each, over what the claim itself says of all of them."""
    if unknown := claim.keys() - KEYS:
        raise ValueError(f"unknown keys {', '.join(map(str, unknown))}: use those that claims.yaml explains")
    common = {field.name: claim[field.name] for field in fields(Evidence) if field.name in claim}
    common.setdefault("margin", margins.get(claim.get("quantity", ""), 0.0))
    entries = claim.get("evidence", [{}] if "results" in claim else [])
    if any({"results", "side"} - common.keys() - entry.keys() for entry in entries):
        raise ValueError("its evidence needs the keys results and side")
    return [Evidence(**{**common, **entry}) for entry in entries]


def supporting(claim: Mapping[str, Any], first: Evidence, results: Path, folder: Path) -> float:
    """The share of specifications whose value lies on the claimed side; nan where the claim names none or none were run."""
    if "specifications" not in claim or not (results / f"{SPECIFICATIONS}.csv").is_file():
        return math.nan
    asked = {"side": first.side, "threshold": first.threshold, "margin": first.margin if first.side == "equal" else 0.0}
    table = rows_of(Evidence(SPECIFICATIONS, **{**asked, **claim["specifications"], "exact": True}), results, folder)
    return float((table.outcome == "supports").mean())


def number_ledger(results: str | Path | None = None, folder: str | Path | None = None) -> pd.DataFrame:
    """Every printed number that we compare, one per row: what it is, printed, ours, and whether they agree.

    Columns: place, space, data, subset, proxy, method, metric, printed, spread, ours, low, high (our interval, or with a
    printed spread that of the difference), verdict, source (second-hand or printed), notebook, needs. Errors as `ledger`.
    """
    folder = data_folder(folder)
    results = Path(results or folder / "results")
    entries = contents(folder)["numbers"]
    return pd.concat([_compared(entry, results, folder) for entry in entries], ignore_index=True)


def _compared(entry: dict[str, Any], results: Path, folder: Path) -> pd.DataFrame:
    """The rows of one entry of `numbers` in `claims.yaml`."""
    printed = numbers(folder=folder, **entry["paper"]).rename(columns={"value": "printed"})
    printed["notebook"], printed["needs"] = entry["notebook"], entry.get("needs", "")
    if "results" not in entry:
        return printed.assign(ours=math.nan, low=math.nan, high=math.nan, verdict="not tested here")
    file, names = f"{entry['results']}.csv", entry.get("names", {})
    table = pd.read_csv(results / file)
    told = []
    for row in printed.to_dict("records"):
        matched = {ours: names.get(row[theirs], row[theirs]) for theirs, ours in entry.get("match", {}).items()}
        mine = select(table, {**entry.get("rows", {}), **matched}, file)
        if len(mine) != 1:
            raise ValueError(f"{file}: {len(mine)} rows answer {row['place']}, {matched}: name more columns")
        told.append(_agreement(entry, row, mine.iloc[0]))
    return printed.join(pd.DataFrame(told))


def _agreement(entry: Mapping[str, Any], printed: Mapping[str, Any], mine: pd.Series) -> dict[str, Any]:
    """Our number beside a printed one: by Welch's interval where both have a spread over runs, else by ours alone."""
    ours = float(mine[entry.get("value", "rho")])
    if "runs" in entry:
        both = (ours, float(mine[entry["sd"]]), entry["ours"]), (printed["printed"], printed["spread"], entry["runs"])
        low, high = verdicts.welch(*both)
        said = verdicts.agreement(low, high, entry["tolerance"])
    else:
        low, high = (float(mine[entry.get(end, end)]) for end in ("low", "high"))
        said = verdicts.agreement(low, high, entry["tolerance"], printed["printed"])
    return {"ours": ours, "low": low, "high": high, "verdict": said}


def printed_numbers(claim: Mapping[str, Any], folder: Path) -> str:
    """The paper's numbers that belong to a claim, or the share of searches won that they imply, as text."""
    if "implied" in claim:
        return ", ".join(f"{share:.0%}" for share in implied(folder=folder, **claim["implied"]))
    return ", ".join(f"{value:g}" for value in numbers(folder=folder, **claim["paper"]).value) if "paper" in claim else ""


def _ours(table: pd.DataFrame, form: str) -> str:
    """One number with its interval, or the range of several."""
    if len(table) > 1:
        return f"{form} to {form}".format(table.value.min(), table.value.max())
    row = table.iloc[0]
    return form.format(row.value) + (f" [{form}, {form}]".format(row.low, row.high) if row.low < row.high else "")


def _range(values: pd.Series) -> str:
    """The least and the greatest of some counts, as text; nothing where there are none."""
    counts = sorted({int(n) for n in values.dropna()})
    return "" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _where(table: pd.DataFrame) -> str:
    """Which rows say what, e.g. "supports nwot: 1, 2; contradicts swap: 1"; those that support only if they are few."""
    parts = []
    for outcome, rows in table.groupby("outcome", sort=False):
        groups: dict[str, list[str]] = {}
        for labels in rows.labels:
            groups.setdefault(labels[0] if labels else "", []).append(" ".join(labels[1:]))
        named = (f"{first}: {', '.join(rest)}" if any(rest) else first for first, rest in groups.items())
        if outcome != "supports" or 2 * len(rows) <= len(table):
            parts.append(f"{outcome} {'; '.join(named) if len(rows) <= LISTED else f'{len(rows)} rows'}")
    return ". ".join(sorted(parts, key=lambda part: part.split()[0], reverse=True))


def _source(evidence: Evidence) -> str:
    """The file and the rows of evidence, as text."""
    told = evidence.file + "".join(f", {column} = {value}" for column, value in evidence.rows.items())
    return told + "".join(f", against {column} = {value}" for column, value in evidence.against.items())


def in_notebook(number: str, results: str | Path | None = None, folder: str | Path | None = None) -> pd.DataFrame:
    """The claims that the notebook with this number argues: what, where in the paper, our answer, and the verdict.

    ValueError where it argues none.
    """
    argue = sorted({claim["notebook"] for claim in contents(folder)["claims"]})
    if number not in argue:
        raise ValueError(f"no claim belongs to notebook {number!r}; there are {', '.join(argue)}")
    mine = ledger(results, folder, number)
    rows = mine["supports"].astype(str) + " of " + mine["rows"].astype(str)
    told = pd.DataFrame({"the paper's claim": mine.claim, "place": mine.place, "printed": mine.printed, "ours": mine.ours})
    told["rows that support it"] = rows.where(mine.rows > 0, "")
    told["verdict"] = mine.verdict.where(~mine.extension, mine.verdict + " (our extension)")
    told["where, or why"] = [
        " ".join(filter(None, row)) for row in zip(mine["where"], mine.because, mine.needs, strict=True)
    ]
    return told.reset_index(drop=True)


def counts(ledger: pd.DataFrame) -> str:
    """How many claims have which verdict, our extensions apart, as a sentence."""
    plural = ("hold", "hold in part", "show no effect", "are contradicted", "remain open", "are not tested here")
    single = ("holds", "holds in part", "shows no effect", "is contradicted", "remains open", "is not tested here")
    told = []
    parts = {"claims of the paper": ledger[~ledger.extension], "hypotheses of our own": ledger[ledger.extension]}
    for name, part in parts.items():
        numbers = [(part.verdict == verdict).sum() for verdict in verdicts.VERDICTS]
        each = [f"{n} {(one if n == 1 else many)}" for n, one, many in zip(numbers, single, plural, strict=True) if n]
        told.append(f"Of {len(part)} {name}, " + ", ".join(each) + ".")
    return " ".join(told)


def rewritten(text: str, name: str, content: str) -> str:
    """`text` with what lies between the marks `<!-- NAME -->` and `<!-- /NAME -->` replaced. ValueError without them."""
    head, opening, rest = text.partition(f"<!-- {name} -->")
    _, closing, tail = rest.partition(f"<!-- /{name} -->")
    if not (opening and closing):
        raise ValueError(f"the text has no marks <!-- {name} --> and <!-- /{name} -->: put them where the table belongs")
    return f"{head}{opening}\n{content}\n{closing}{tail}"
