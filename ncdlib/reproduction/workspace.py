"""Where a notebook reads and writes, and how much it computes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

PROFILES = ("paper", "quick", "smoke")
STORED = "stored result: "  # the first words of the line that tells the reader, and the engine, of a fallback

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Workspace:
    """The folders of one run of a notebook, and its profile.

    - `root`: holds `data/scores`, `data/results` and `figures`: the repository itself, or a scratch folder.
    - `profile`: `paper` (the published sizes), `quick` (minutes, to look at) or `smoke` (seconds, for the tests).
    - `repository`: where the committed files lie; the default is right for a notebook, which runs in `notebooks/`.

    A score file belongs to the one notebook that writes it. Folders are made when a path in them is asked for.
    """

    root: str | Path
    profile: str = "paper"
    repository: str | Path = ".."

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"unknown profile {self.profile!r}: use one of {', '.join(PROFILES)}")

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
        """The committed aggregates of `name`, whatever the root: what to draw where ground truth cannot be had.

        Raises FileNotFoundError where none were committed.
        """
        path = Path(self.repository, "data", "results", f"{name}.csv")
        if not path.is_file():
            raise FileNotFoundError(f"no stored result {path}: run the notebook once where its ground truth can be had")
        return path

    def mark_stored(self, reason: object) -> None:
        """Say that a figure shows a stored result, and why, e.g. which file could not be had and from where."""
        print(f"{STORED}{reason}", flush=True)

    def pick(self, *, paper: Setting, quick: Setting, smoke: Setting) -> Setting:
        """The setting that goes with the profile."""
        return {"paper": paper, "quick": quick, "smoke": smoke}[self.profile]

    def _file(self, *parts: str) -> Path:
        path = Path(self.root, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
