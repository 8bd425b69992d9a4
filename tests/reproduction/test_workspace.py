"""Where a notebook writes, by hand and by the engine, and what it falls back to."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from ncdlib.benchmarks import MissingData
from ncdlib.reproduction.workspace import STORED, Workspace


@pytest.fixture
def repository(tmp_path):
    """A repository with one score file and one results file, whose words are "none" and a number."""
    folder = tmp_path / "repository"
    for kind, name, text in (("scores", "01_a.parquet", "scores"), ("results", "01_a.csv", "method,rho\nnone,0.5\nNA,\n")):
        (folder / "data" / kind).mkdir(parents=True)
        (folder / "data" / kind / name).write_text(text)
    return folder


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def use(here):
    """What every notebook does."""
    here.scores("01_a").write_text("longer")
    here.keep("01_a", pd.DataFrame({"rho": [0.25]}))
    figure = plt.figure()
    here.figure(figure, "01_a")
    plt.close(figure)


def test_by_hand_nothing_committed_changes(repository, capsys):
    before = files(repository)
    here = Workspace(repository=repository)
    assert f"written to {here.root};" in capsys.readouterr().out
    assert here.scores("01_a").read_text() == "scores", "the stored scores are there to be added to"
    use(here)
    assert files(repository) == before
    assert here.scores("01_a").read_text() == "longer", "what was written is not copied over again"
    assert not here.published and here.results == repository / "data" / "results"
    assert sorted(path.name for path in files(here.root)) == ["01_a.csv", "01_a.parquet", "01_a.png", "01_a.svg"]


def test_the_engine_names_the_folder_and_gets_no_copies(repository, tmp_path, capsys):
    here = Workspace(tmp_path / "run", published=True, repository=repository)
    assert not here.scores("01_a").exists()
    use(here)
    assert here.results == tmp_path / "run" / "data" / "results" and here.published
    assert capsys.readouterr().out == ""


def test_results_have_six_digits_and_come_back_as_they_are_read(repository, tmp_path):
    here = Workspace(tmp_path, repository=repository)
    table = pd.DataFrame({"method": ["none", "NA"], "rho": [1 / 3, float("nan")]}, index=[7, 8])
    kept = here.keep("02_b", table)
    assert (tmp_path / "data" / "results" / "02_b.csv").read_text() == "method,rho\nnone,0.333333\nNA,\n"
    pd.testing.assert_frame_equal(kept, here.stored("02_b"))
    assert kept.method.tolist() == ["none", "NA"] and kept.rho.isna().tolist() == [False, True]


def test_where_ground_truth_is_missing_the_stored_table_is_used(repository, tmp_path, capsys):
    here = Workspace(tmp_path, repository=repository)
    table = pd.DataFrame({"arch": ["a"]})

    def load(name):
        raise MissingData(f"{name} could not be had")

    assert here.truth(lambda name: table, "here") is table
    assert here.keep("02_b", lambda: table).arch.tolist() == ["a"]
    assert here.truth(load, "darts") is None
    assert capsys.readouterr().out == f"{STORED}darts could not be had\n"
    assert here.keep("01_a", lambda: pytest.fail("computed without ground truth")).method.tolist() == ["none", "NA"]
    assert here.keep("03_c", table).arch.tolist() == ["a"], "a table at hand needs no ground truth"
    figure = plt.figure()
    here.figure(figure, "01_a")
    here.figure(plt.figure(), "01_b", stored=False)
    plt.close("all")
    marked = ["stored result" in (tmp_path / "figures" / f"{name}.svg").read_text() for name in ("01_a", "01_b")]
    assert marked == [True, False]


def test_a_table_that_nobody_computed_is_an_error(repository, tmp_path):
    with pytest.raises(FileNotFoundError, match="no stored result 09_x.csv: run the notebook 09"):
        Workspace(tmp_path, repository=repository).stored("09_x")
