"""The claims ledger: its rule, and that every verdict can be traced and rebuilt."""

import math
from pathlib import Path

import pandas as pd
import pytest

from ncdlib.reproduction import paper

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("side", "null", "printed", "ours", "expected"),
    [
        ("above", 0, 0.5, (0.4, 0.2, 0.6), "reproduced"),  # the paper's number lies inside
        ("above", 0, 0.3, (0.8, 0.7, 0.9), "reproduced"),  # ours lies further out
        ("above", 0, 0.8, (0.4, 0.2, 0.6), "partly"),
        ("above", 0, math.nan, (0.4, 0.2, 0.6), "reproduced"),
        ("above", 0, 0.5, (0.4, -0.1, 0.6), "not"),  # not clear of zero
        ("above", 0, 0.5, (-0.4, -0.6, -0.2), "not"),
        ("above", 0.9, math.nan, (0.9, 0.9, 0.9), "not"),  # on the null value is not above it
        ("above", 0, 0.5, (math.nan, math.nan, math.nan), "not"),
        ("below", 0, -0.7, (-0.6, -0.8, -0.4), "reproduced"),
        ("below", 0, -0.2, (-0.6, -0.8, -0.4), "reproduced"),
        ("below", 0, -0.9, (-0.6, -0.8, -0.4), "partly"),
        ("below", 0, -0.7, (0.6, 0.4, 0.8), "not"),
        ("paper", 0.5, 0.4, (0.4, 0.3, 0.45), "reproduced"),
        ("paper", 0.5, 0.46, (0.4, 0.3, 0.45), "not"),  # the number itself is the claim: further is not better
        ("paper", 0.5, 0.6, (0.4, 0.3, 0.45), "not"),
        ("paper", 0, -0.03, (-0.05, -0.3, 0.2), "reproduced"),  # a number near the null value can be met
        ("paper", 0, -0.03, (0.05, -0.2, 0.3), "not"),  # on the other side
    ],
)
def test_the_rule(side, null, printed, ours, expected):
    assert paper.verdict(side, null, printed, *ours) == expected


def test_a_claim_lies_on_a_side():
    with pytest.raises(ValueError, match="above or below its null value, .* not 'beside'"):
        paper.verdict("beside", 0, 0, 0, 0, 0)


def write(folder, claim, monkeypatch, rows):
    """A ledger of one claim over a results file of these rows."""
    pd.DataFrame(rows).to_csv(folder / "found.csv", index=False)
    monkeypatch.setattr(paper, "claims", lambda: [{"claim": "c", "place": "p", "notebook": "01", "side": "above"} | claim])
    return paper.ledger(folder).iloc[0]


def test_several_rows_are_reproduced_together_or_partly(tmp_path, monkeypatch):
    rows = [
        {"k": k, "rho": rho, "low": rho - 0.1, "high": rho + 0.1, "n": 9} for k, rho in enumerate((0.5, 0.6, -0.5, 0.05))
    ]
    claim = {"results": "found", "rows": {"k": [0, 1]}}
    assert tuple(write(tmp_path, claim, monkeypatch, rows)[["verdict", "held"]]) == ("reproduced", "2 of 2")
    claim["rows"] = {"k": [1, 2]}
    assert tuple(write(tmp_path, claim, monkeypatch, rows)[["verdict", "held"]]) == ("partly", "1 of 2")
    claim["rows"] = {"k": [2, 3]}
    assert tuple(write(tmp_path, claim, monkeypatch, rows)[["verdict", "held"]]) == ("not", "0 of 2")
    claim["rows"] = {"k": 0}
    one = write(tmp_path, claim, monkeypatch, rows)
    assert (one.verdict, one.held, one.value, one.n) == ("reproduced", "", 0.5, 9)
    assert one.source == "found.csv, k = 0"


def test_null_value_and_prediction_may_be_columns(tmp_path, monkeypatch):
    rows = [{"k": 0, "share": 0.5, "low": 0.49, "high": 0.51, "expected": 0.505, "all": 0.4}]
    claim = {"results": "found", "value": "share", "beyond": "all", "paper_column": "expected"}
    one = write(tmp_path, claim, monkeypatch, rows)
    assert (one.verdict, one.paper) == ("reproduced", 0.505)


def test_a_claim_that_cannot_be_tested_says_what_it_needs(tmp_path, monkeypatch):
    assert write(tmp_path, {"needs": "ImageNet"}, monkeypatch, [{"k": 0}])[["verdict", "needs"]].tolist() == [
        "not testable here",
        "ImageNet",
    ]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"results": "found", "rows": {"kk": 0}}, "found.csv: no column 'kk'"),
        ({"results": "found", "rows": {"k": 7}}, "found.csv: no row has k = 7; there are 0"),
        ({"results": "found", "value": "tau"}, "found.csv: no column 'tau'"),
        ({"results": "found", "paper": {"place": "Table 1"}}, "8 numbers of the paper belong to the claim 'c'"),
    ],
)
def test_a_claim_that_points_nowhere_is_an_error(claim, message, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, claim, monkeypatch, [{"k": 0, "rho": 0.5, "low": 0.4, "high": 0.6}])


def test_every_claim_stands_on_rows_and_the_committed_ledger_follows_from_them():
    ledger = paper.ledger()
    assert ledger.claim.is_unique
    tested = ledger.verdict != "not testable here"
    assert (ledger.source[tested] != "").all() and (ledger.needs[~tested] != "").all()
    stored = pd.read_csv(ROOT / "data" / "results" / "claims.csv")
    pd.testing.assert_frame_equal(
        stored[["claim", "verdict", "ours"]].fillna(""), ledger[["claim", "verdict", "ours"]], check_dtype=False
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper.rewritten(readme, "claims", paper.in_markdown(ledger)) == readme


def test_a_text_without_marks_is_left_alone():
    assert paper.rewritten("a <!-- x --> old <!-- /x --> b", "x", "new") == "a <!-- x -->\nnew\n<!-- /x --> b"
    with pytest.raises(ValueError, match="has no marks <!-- y -->"):
        paper.rewritten("a", "y", "new")
