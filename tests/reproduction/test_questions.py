"""The README's questions: one row answers each, and an answer that the numbers no longer give is an error."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from ncdlib.reproduction import ledger
from ncdlib.reproduction.questions import in_markdown, questions

ROOT = Path(__file__).resolve().parents[2]
ASKED = {
    "question": "Is it?",
    "answer": "**Yes.**",
    "what": "rho",
    "notebook": "01_first",
    "results": "01_rho",
    "side": "above",
    "rows": {"method": "NCD"},
    "paper": {"place": "Table 1", "method": "NCD"},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "paper").mkdir()
    rows = [
        ("NCD", 0.5, 0.4, 0.6, 64),
        ("plain", -0.5, -0.6, 0.1, 64),
        ("SAM", 0.5, 0.4, 0.6, 64),
        ("SAM", 0.4, 0.3, 0.6, 64),
    ]
    table = pd.DataFrame(rows, columns=["method", "rho", "low", "high", "n"])
    table.to_csv(tmp_path / "results" / "01_rho.csv", index=False)
    printed = pd.DataFrame([{"place": "Table 1", "method": "NCD", "value": 0.7}])
    printed.to_csv(tmp_path / "paper" / "numbers.csv", index=False)
    return tmp_path


def asked(folder, **changed):
    held = {"questions": [ASKED | changed], "claims": [], "margins": {}, "numbers": []}
    (folder / "paper" / "claims.yaml").write_text(yaml.safe_dump(held), encoding="utf-8")
    return questions(folder=folder)


def test_a_question_has_one_number_and_the_papers(folder):
    text = in_markdown(asked(folder)).splitlines()[-1]
    assert text == "| Is it? | **Yes.** | rho: +0.50 [+0.40, +0.60] | 64 | 0.7 |  | [01](notebooks/01_first.ipynb) |"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"side": "below"}, "'Is it[?]': the answer rests on 'supports', the numbers say 'contradicts'"),
        ({"rows": {"method": "plain"}}, "rests on 'supports', the numbers say 'cannot tell'"),
        ({"rows": {"method": "SAM"}}, "'Is it[?]': 2 rows of 01_rho.csv answer, name more columns"),
    ],
)
def test_an_answer_that_the_numbers_do_not_give_is_an_error(folder, changed, message):
    with pytest.raises(ValueError, match=message):
        asked(folder, **changed)
    if changed.get("side") == "below":
        assert len(asked(folder, **changed, outcome="contradicts")) == 1


def test_the_readme_holds_the_committed_questions():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = questions()
    assert 8 <= len(table) <= 12
    assert all((ROOT / "notebooks" / f"{name}.ipynb").is_file() for name in table.notebook)
    assert ledger.rewritten(readme, "questions", in_markdown(table)) == readme
    assert ledger.rewritten(readme, "claims", ledger.counts(ledger.ledger())) == readme
