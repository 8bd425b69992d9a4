"""Where a notebook reads and writes."""

from collections.abc import Callable
from pathlib import Path
import shutil
import tempfile
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from ncdlib.benchmarks import MissingData
from ncdlib.images import batch
from ncdlib.scoring.file import read as read_scores

if TYPE_CHECKING:
    import matplotlib.figure
    from torch import Tensor

Loaded = TypeVar("Loaded")
STORED = "stored result: "  # the first words of the line that tells the reader, and the engine, of a fallback


class Workspace:
    """The folders of one run of a notebook.

    - `root`: holds `data/scores`, `data/results` and `figures`. The engine `run.py` names it. Without it, as when a reader
      runs a notebook by hand, it is a new temporary folder, whose path is printed; score files of the repository are copied
      there when they are asked for, so that a run by hand computes only what is missing.
    - `published`: whether the parameters are those of the committed figures; only then does a notebook assert their numbers.
    - `repository`: the folder with the committed files; the default is right for a notebook, which runs in `notebooks/`.

    One notebook alone writes a score file or a results file.
    """

    def __init__(self, root: str | Path | None = None, published: bool = False, repository: str | Path = "..") -> None:
        self.published, self.repository, self.by_hand = published, Path(repository), root is None
        self.root = Path(tempfile.mkdtemp(prefix="ncdlib-") if root is None else root)
        self.missing: list[str] = []
        if self.by_hand:
            print(f"What this notebook computes is written to {self.root}; committed files stay as they are.")

    @property
    def results(self) -> Path:
        """The folder of results that the claims are read from: that of this run if published, else the committed one."""
        return (self.root if self.published else self.repository) / "data" / "results"

    def scores(self, name: str) -> Path:
        """The score file `data/scores/NAME.parquet`."""
        path = self._file("data", "scores", f"{name}.parquet")
        committed = self.repository / path.relative_to(self.root)
        if self.by_hand and committed.is_file() and not path.exists():
            shutil.copyfile(committed, path)
        return path

    def read_scores(self, name: str) -> pd.DataFrame:
        """The scores that another notebook wrote in this run, or else the committed ones."""
        for folder in (self.root, self.repository):
            if (path := folder / "data" / "scores" / f"{name}.parquet").is_file():
                return read_scores(path)
        raise FileNotFoundError(f"no stored scores {name}.parquet: run notebook {name[:2]} first")

    def truth(self, load: Callable[..., Loaded], *arguments: object) -> Loaded | None:
        """`load(*arguments)`, e.g. `truth(benchmarks.load, "darts")`; None where its files cannot be had, which is printed.

        From then on `keep` and `figure` use and show stored results.
        """
        try:
            return load(*arguments)
        except MissingData as error:
            self.missing.append(str(error))
            print(f"{STORED}{error}", flush=True)
            return None

    def images(self, kind: str, n: int) -> "Tensor":
        """`images.batch(kind, n)`; where its files cannot be had, pieces of photographs that an installed package holds.

        In the latter case results are those of other images, so `keep` and `figure` use and show stored ones.
        """
        found = self.truth(batch, kind, n)
        return batch("patches", n) if found is None else found

    def keep(self, name: str, table: pd.DataFrame | Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Write the results file `data/results/NAME.csv`, six significant digits, without the index; returns what it holds.

        `table` may be a function that computes it: where ground truth is missing, it is not called, and the stored table
        is returned.
        """
        if callable(table):
            if self.missing:
                return self.stored(name)
            table = table()
        path = self._file("data", "results", f"{name}.csv")
        table.to_csv(path, index=False, float_format="%.6g")
        return _read(path)

    def stored(self, name: str) -> pd.DataFrame:
        """The results file NAME of this run, or else the committed one. FileNotFoundError where there is neither."""
        for folder in (self.root, self.repository):
            if (path := folder / "data" / "results" / f"{name}.csv").is_file():
                return _read(path)
        raise FileNotFoundError(f"no stored result {name}.csv: run the notebook {name[:2]} where its data can be had")

    def figure(self, figure: "matplotlib.figure.Figure", name: str, stored: bool | None = None) -> None:
        """Write `figures/NAME.png` and `.svg`; `stored` marks a stored result: by default, where ground truth is missing."""
        from ncdlib.reproduction import plots  # here, because the engine reads this module and draws nothing

        plots.save(figure, self._file("figures", name), bool(self.missing) if stored is None else stored)

    def _file(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _read(path: Path) -> pd.DataFrame:
    """A results file, in which "none" or "NA" is a word and only an empty entry is no number."""
    return pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])
