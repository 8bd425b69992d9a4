"""The ledger: hand-made claims for each verdict, and that the committed one follows from the committed results."""

import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ncdlib.reproduction import ledger, verdicts

ROOT = Path(__file__).resolve().parents[2]
BOTH = ["nwot", "swap"]
NUMBERS = "place,space,data,subset,proxy,method,alpha,metric,value,spread,source\n"


@pytest.fixture
def folder(tmp_path):
    """A data folder with one results file and some printed numbers."""
    (tmp_path / "paper").mkdir()
    (tmp_path / "results").mkdir()
    printed = [
        "Table 9,a,x,all,nwot,plain,,rho,0.5,,printed",
        "Table 9,a,x,all,nwot,NCD,,rho,0.9,,printed",
        "Table 8,a,x,all,nwot,plain,,accuracy,92,2,printed",
        "Table 8,a,x,all,nwot,NIR,,accuracy,93,1.5,printed",
    ]
    (tmp_path / "paper" / "numbers.csv").write_text(NUMBERS + "\n".join(printed))
    rows = [
        ("nwot", "plain", -0.5, -0.6, -0.4, 64),
        ("nwot", "NCD", 0.5, 0.4, 0.6, 64),
        ("swap", "plain", 0.0, -0.01, 0.02, 60),
        ("swap", "NCD", 0.3, -0.1, 0.6, 60),
    ]
    found = pd.DataFrame(rows, columns=["proxy", "method", "rho", "low", "high", "n"])
    found.assign(sd=2.0, all=0.45).to_csv(tmp_path / "results" / "found.csv", index=False)
    return tmp_path


def one(folder, numbers=(), **claim):
    """The ledger of one claim over the rows of `found.csv`."""
    claim = {"claim": "c", "place": "p", "notebook": "01", **claim}
    held = {"margins": {"rho": 0.05}, "claims": [claim], "numbers": list(numbers)}
    (folder / "paper" / "claims.yaml").write_text(yaml.safe_dump(held, sort_keys=False))
    return ledger.ledger(folder=folder).iloc[0]


def found(**claim):
    return {"results": "found", "side": "above", "quantity": "rho", **claim}


@pytest.mark.parametrize(
    ("claim", "verdict", "ours"),
    [
        (found(rows={"proxy": "nwot", "method": "NCD"}), "holds", "+0.50 [+0.40, +0.60]"),
        (found(rows={"proxy": "nwot", "method": "plain"}), "contradicted", "-0.50 [-0.60, -0.40]"),
        (found(rows={"proxy": "nwot", "method": "plain"}, side="below"), "holds", "-0.50 [-0.60, -0.40]"),
        (found(rows={"proxy": "swap", "method": "plain"}), "no effect", "+0.00 [-0.01, +0.02]"),
        (found(rows={"proxy": "swap", "method": "plain"}, margin=0.0), "cannot tell", "+0.00 [-0.01, +0.02]"),
        (found(rows={"proxy": "swap", "method": "NCD"}), "cannot tell", "+0.30 [-0.10, +0.60]"),
        (found(rows={"proxy": "nwot", "method": "NCD"}, threshold=0.4), "cannot tell", "+0.50 [+0.40, +0.60]"),
        (found(rows={"proxy": "nwot", "method": "NCD"}, threshold="all", exact=True), "no effect", "+0.50"),
        (found(rows={"proxy": "nwot", "method": "NCD"}, threshold="all", exact=True, margin=0), "holds", "+0.50"),
        (found(rows={"method": "plain"}), "contradicted", "-0.50 to +0.00"),
        (found(rows={"method": "NCD"}), "holds in part", "+0.30 to +0.50"),
        (
            found(rows={"proxy": ["nwot", "swap"], "method": "NCD"}, against={"method": "plain"}),
            "holds in part",
            "+0.30 to +1.00",
        ),
        ({"needs": "ImageNet"}, "not tested here", ""),
    ],
)
def test_each_verdict(claim, verdict, ours, folder):
    row = one(folder, **claim)
    assert (row.verdict, row.ours) == (verdict, ours)


def test_a_claim_that_holds_in_part_says_where(folder):
    row = one(folder, **found(rows={"proxy": ["nwot", "swap"], "method": ["NCD", "plain"]}))
    assert row["where"] == "supports nwot: NCD. no effect swap: plain. contradicts nwot: plain. cannot tell swap: NCD"
    assert [row[outcome] for outcome in verdicts.OUTCOMES] == [1, 1, 1, 1] and row["rows"] == 4
    assert row.n == "60 to 64"
    assert row.source == "found.csv, proxy = ['nwot', 'swap'], method = ['NCD', 'plain']"


def test_evidence_from_several_rows_of_different_rules(folder):
    """Each entry of `evidence` overrides what the claim says of all."""
    entries = [{"rows": {"proxy": "nwot", "method": "NCD"}, "label": "up"}]
    entries += [{"rows": {"proxy": "nwot", "method": "plain"}, "side": "below", "label": "down"}]
    assert one(folder, **found(evidence=entries)).verdict == "holds"
    entries[1]["side"] = "above"
    row = one(folder, **found(evidence=entries))
    assert (row.verdict, row["where"]) == ("holds in part", "supports up. contradicts down")


def test_differences_pair_rows_that_agree_in_all_other_columns(folder):
    claim = found(rows={"proxy": "nwot", "method": "NCD"}, against={"method": "plain"})
    assert one(folder, **claim).ours == "+1.00 [+0.86, +1.14]"  # 0.1 and 0.1 add as squares: 0.141
    several = found(rows={"proxy": "nwot", "method": "NCD"}, against={"proxy": ["nwot", "swap"], "method": "plain"})
    assert one(folder, **several)["rows"] == 2
    same = found(rows={"method": "NCD"}, against={"proxy": "nwot", "method": "plain"})
    assert one(folder, **same)["rows"] == 2  # both are compared with the one row of nwot
    with pytest.raises(ValueError, match="found.csv: 2 rows have 4 partners, not 1 each: name more columns"):
        one(folder, **found(rows={"n": 64}, against={"n": 60}))


def test_printed_numbers_can_be_the_evidence(folder):
    claim = found(results="printed", rows={"place": "Table 9", "method": "NCD"}, against={"method": "plain"})
    assert one(folder, **claim, value="value", exact=True).ours == "+0.40"
    shown = one(folder, needs="much", paper={"place": "Table 9"})
    assert shown.printed == "0.5, 0.9"


def test_the_share_of_searches_won_that_means_and_spreads_imply(folder):
    """Means one apart, spreads 1.5 and 2: Phi(1 / 2.5) = 0.655."""
    implied = {"place": "Table 8", "better": "NIR", "than": "plain"}
    assert one(folder, needs="much", implied=implied).printed == "66%"


def specifications(folder, values):
    rows = [{"specification": i, "method": "plain", "rho": value} for i, value in enumerate(values)]
    pd.DataFrame(rows).to_csv(folder / "results" / "14_specifications.csv", index=False)


@pytest.mark.parametrize(
    ("values", "share", "verdict"),
    [([1.0] * 9 + [-1.0], 0.9, "holds"), ([1.0] * 8 + [-1.0] * 2, 0.8, "holds in part"), (None, math.nan, "holds")],
)
def test_a_claim_that_depends_on_settings(values, share, verdict, folder):
    if values:
        specifications(folder, values)
    claim = found(rows={"proxy": "nwot", "method": "NCD"}, specifications={"rows": {"method": "plain"}})
    row = one(folder, **claim)
    assert row.verdict == verdict and row.specifications == pytest.approx(share, nan_ok=True)


def test_differences_of_specifications_are_taken_within_each(folder):
    rows = [(i, method, rho) for i in range(3) for method, rho in (("plain", i), ("NCD", i + (1 if i else -1)))]
    frame = pd.DataFrame(rows, columns=["specification", "method", "rho"])
    frame.to_csv(folder / "results" / "14_specifications.csv", index=False)
    asked = {"rows": {"method": "NCD"}, "against": {"method": "plain"}}
    row = one(folder, **found(rows={"proxy": "nwot", "method": "NCD"}, specifications=asked))
    assert row.specifications == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("claim", "error", "message"),
    [
        (found(rows={"kk": 0}), ValueError, "the claim 'c': found.csv: no column 'kk'"),
        (found(rows={"proxy": "zen"}), ValueError, "found.csv: no row has proxy = 'zen'; there are nwot, swap"),
        (found(value="tau"), ValueError, "found.csv: no column 'tau'"),
        (found(low="ends"), ValueError, "found.csv: no column 'ends'"),
        (found(threshold="nothing"), ValueError, "found.csv: no column 'nothing'"),
        (found(side="beside"), ValueError, "above or below its threshold"),
        (found(sied="above"), ValueError, "unknown keys sied"),
        ({"results": "found"}, ValueError, "the claim 'c': its evidence needs the keys results and side"),
        (found(results="lost"), FileNotFoundError, "lost.csv"),
        (found(paper={"place": "Table 99"}), ValueError, "the paper's numbers: no row has place = 'Table 99'"),
        (found(specifications={"rows": {"method": "SAM"}}), ValueError, "14_specifications.csv: no row has method = 'SAM'"),
    ],
)
def test_a_claim_that_points_nowhere_is_an_error(claim, error, message, folder):
    specifications(folder, [1.0])
    with pytest.raises(error, match=message):
        one(folder, **claim)


def test_a_row_without_interval_is_an_error(folder):
    path = folder / "results" / "found.csv"
    table = pd.read_csv(path)
    table.loc[0, "low"] = math.nan
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match="some rows have no number or interval"):
        one(folder, **found(rows={"proxy": "nwot"}))


def compared(folder, **entry):
    entry = {"paper": {"place": "Table 9"}, "notebook": "01", "tolerance": 0.3, **entry}
    one(folder, numbers=[entry], needs="nothing")
    return ledger.number_ledger(folder=folder)


def test_printed_numbers_beside_ours(folder):
    table = compared(folder, results="found", rows={"proxy": "nwot"}, match={"method": "method"})
    assert table[["method", "printed", "ours", "verdict"]].to_numpy().tolist() == [
        ["plain", 0.5, -0.5, "differs"],
        ["NCD", 0.9, 0.5, "differs"],
    ]
    named = compared(folder, results="found", rows={"proxy": "nwot"}, match={"method": "method"}, names={"plain": "NCD"})
    assert named.verdict.tolist() == ["agrees", "differs"]  # 0.5 lies in [0.4, 0.6]
    wide = compared(
        folder, results="found", rows={"proxy": "swap", "method": "NCD"}, paper={"place": "Table 9", "method": "plain"}
    )
    assert wide.verdict.tolist() == ["cannot tell"]  # 0.5 lies in [-0.1, 0.6]
    assert compared(folder, needs="a GPU").verdict.tolist() == ["not tested here"] * 2


def test_printed_spreads_are_compared_by_welch(folder):
    entry = {
        "paper": {"place": "Table 8", "method": "plain"},
        "results": "found",
        "rows": {"proxy": "nwot", "method": "NCD"},
    }
    entry |= {"sd": "sd", "runs": 5, "ours": 5, "value": "all", "tolerance": 9.0}
    row = compared(folder, **entry).iloc[0]
    assert row.verdict == "differs" and (row.low + row.high) / 2 == pytest.approx(0.45 - 92)
    assert row.high - row.low == pytest.approx(2 * 2.306 * math.sqrt(2 * 2.0**2 / 5), rel=1e-3)  # t of 8 degrees of freedom


def test_a_printed_number_answered_by_several_rows_is_an_error(folder):
    with pytest.raises(ValueError, match="found.csv: 2 rows answer Table 9"):
        compared(folder, results="found", match={"method": "method"})


def test_a_notebook_shows_its_part(folder):
    one(folder, **found(rows={"proxy": "nwot", "method": "NCD"}), extension=True, because="Because.")
    part = ledger.in_notebook("01", folder=folder)
    assert part.loc[0, "verdict"] == "holds (our extension)" and part.loc[0, "where, or why"] == "Because."
    assert part.loc[0, "rows that support it"] == "1 of 1"
    with pytest.raises(ValueError, match="no claim belongs to notebook '02'; there are 01"):
        ledger.in_notebook("02", folder=folder)


def test_the_committed_ledger():
    """Every claim and number can be read from the committed results, and says why or what it needs."""
    table = ledger.ledger()
    assert table.claim.is_unique and set(table.verdict) <= set(verdicts.VERDICTS)
    untested = table.verdict == "not tested here"
    assert (table.source[~untested] != "").all() and (table.needs[untested] != "").all()
    assert (table["where"] != "").equals(table.verdict == "holds in part")
    numbers = ledger.number_ledger()
    assert set(numbers.verdict) <= set(verdicts.AGREEMENTS)
    keys = ["place", "space", "data", "subset", "proxy", "method", "metric"]
    assert not numbers.duplicated(keys).any()
    assert (numbers.needs[numbers.verdict == "not tested here"] != "").all()


def test_a_text_without_marks_is_left_alone():
    assert ledger.rewritten("a <!-- x --> old <!-- /x --> b", "x", "new") == "a <!-- x -->\nnew\n<!-- /x --> b"
    with pytest.raises(ValueError, match="has no marks <!-- y -->"):
        ledger.rewritten("a", "y", "new")
