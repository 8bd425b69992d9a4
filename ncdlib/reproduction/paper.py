"""What notebooks of the former layout still import; each line goes with the last notebook that uses it."""

from dataclasses import dataclass
import math
from pathlib import Path
from typing import TypeVar

from ncdlib.reproduction.numbers import numbers
from ncdlib.reproduction.workspace import STORED

__all__ = ["Workspace", "numbers", "verdict"]

Setting = TypeVar("Setting")


def verdict(side: str, null: float, printed: float, value: float, low: float, high: float) -> str:
    """Whether our number, with its interval, lies on the claimed side of a null value, and short of a printed number."""
    sign = 1 if side == "above" else -1
    if not (sign * (low - null) > 0 and sign * (high - null) > 0):
        return "not"
    return "reproduced" if math.isnan(printed) or low <= printed <= high or sign * value >= sign * printed else "partly"


@dataclass(frozen=True)
class Workspace:
    """The folders of one run of a notebook, and its profile."""

    root: str | Path
    profile: str = "paper"
    repository: str | Path = ".."

    def scores(self, name: str) -> Path:
        """The score table `data/scores/NAME.parquet`."""
        return self._file("data", "scores", f"{name}.parquet")

    def results(self, name: str) -> Path:
        """The aggregates behind a figure, `data/results/NAME.csv`."""
        return self._file("data", "results", f"{name}.csv")

    def figure(self, name: str) -> Path:
        """A figure, `figures/NAME`, with the suffix that `name` has."""
        return self._file("figures", name)

    def stored_results(self, name: str) -> Path:
        """The committed aggregates of `name`, whatever the root. FileNotFoundError where none were committed."""
        path = Path(self.repository, "data", "results", f"{name}.csv")
        if not path.is_file():
            raise FileNotFoundError(f"no stored result {path}: run the notebook once where its ground truth can be had")
        return path

    def mark_stored(self, reason: object) -> None:
        """Say that a figure shows a stored result, and why."""
        print(f"{STORED}{reason}", flush=True)

    def pick(self, *, paper: Setting, quick: Setting, smoke: Setting) -> Setting:
        """The setting that goes with the profile."""
        return {"paper": paper, "quick": quick, "smoke": smoke}[self.profile]

    def _file(self, *parts: str) -> Path:
        path = Path(self.root, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
