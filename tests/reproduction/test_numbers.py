"""The paper's numbers can be asked for, and what they imply follows from them."""

import pytest

from ncdlib.reproduction import numbers


def test_the_papers_numbers_can_be_asked_for():
    rows = numbers.numbers("Table 1", proxy="nwot", method="plain")
    assert len(rows) == 2 and set(rows.source) == {"second-hand"}
    assert set(numbers.numbers("Supplementary Table 2", method="SAM").alpha) == {0.9}
    with pytest.raises(ValueError, match="no column 'proxi'"):
        numbers.numbers(proxi="nwot")
    with pytest.raises(ValueError, match="no row has place = 'Table 99'"):
        numbers.numbers("Table 99")


def test_a_folder_without_the_papers_numbers_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no paper/numbers.csv in .*: give the data folder of a checkout"):
        numbers.numbers(folder=tmp_path)


def test_the_share_of_searches_that_printed_means_and_spreads_imply():
    """CIFAR-10, NWOT: 91.95 +- 1.29 and 93.48 +- 0.50 differ by 1.106 standard deviations: 86.6 % (a table of Phi)."""
    asked = {"better": "NIR", "than": "plain", "data": "CIFAR-10"}
    assert numbers.implied("Supplementary Table 4", proxy="nwot", **asked) == pytest.approx([0.866], abs=1e-3)
    assert len(numbers.implied("Supplementary Table 4", proxy=["nwot", "swap"], **asked)) == 2


def test_methods_that_were_not_printed_for_the_same_rows_imply_nothing(tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "numbers.csv").write_text("place,method,value,spread\nT,a,1,1\nT,a,2,1\nT,b,3,1\n")
    with pytest.raises(ValueError, match="T: 1 rows of b, 2 of a: select as many of both"):
        numbers.implied("T", "b", "a", folder=tmp_path)
