"""The state of a training on disk: atomic, with a checksum, and refused by a training that it does not belong to."""

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
import hashlib
import io
from pathlib import Path
import pickle
import zlib

import pandas as pd
import torch
from torch import nn

from ncdlib.scoring.file import locked, written
from ncdlib.training.data import Data
from ncdlib.training.recipes import Recipe

DIGEST = hashlib.sha256().digest_size

Row = dict[str, float]


@dataclass(frozen=True)
class Checkpoint:
    """`checkpoint.pt` and `history.csv` in a folder; `settings` say which training they belong to.

    `checkpoint.pt` is a file of `torch.save` followed by its SHA-256, which `torch.load` ignores. No random state is stored:
    every draw of an epoch follows from the seed and the epoch.
    """

    folder: Path
    net: nn.Module
    optimiser: torch.optim.Optimizer
    settings: dict[str, str]

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def alone(self) -> AbstractContextManager[None]:
        """The folder belongs to this run until the end; RuntimeError where another run trains in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return locked(self.path, f"another run trains in {self.folder}: wait for it to end, or train in another folder")

    def save(self, history: list[Row]) -> None:
        """Write both files, each complete at any moment."""
        buffer = io.BytesIO()
        state = {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save({"settings": self.settings, "history": history, **state}, buffer)
        with written(self.path) as partial, partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
        self._write(history)

    def restore(self) -> list[Row]:
        """Put the stored state, if any, into net and optimiser; the rows of its epochs.

        Raises ValueError where the file is damaged or of another training. Nothing in it is executed.
        """
        if not self.path.exists():
            return []
        state = self._read()
        there, asked = state["settings"], self.settings
        names = [name for name in asked | there if there.get(name) != asked.get(name)]
        if names:
            first = f"{names[0]}: {there.get(names[0], 'nothing')} there, {asked.get(names[0], 'nothing')} asked for"
            more = f"; and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"{self.path} is of another training ({first}{more}): train in another folder")
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._write(state["history"])
        return state["history"]

    def _read(self) -> dict:
        raw = self.path.read_bytes()
        content, digest = raw[:-DIGEST], raw[-DIGEST:]
        advice = "remove it, or train in another folder"
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"{self.path} is damaged or no checkpoint (its SHA-256 does not match): {advice}")
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (EOFError, RuntimeError, pickle.UnpicklingError):
            state = None
        if not isinstance(state, dict) or not {"settings", "history", "net", "optimiser"} <= state.keys():
            raise ValueError(f"{self.path} is no checkpoint of a training: {advice}")
        return state

    def _write(self, history: list[Row]) -> None:
        with written(self.folder / "history.csv") as partial:
            pd.DataFrame(history).to_csv(partial, index=False)


def settings(net: nn.Module, recipe: Recipe, data: Data, seed: int) -> dict[str, str]:
    """What must be the same when a training goes on, as text."""
    said = {"seed": str(seed), "data": data.name}
    said |= {f"recipe {name}": str(value) for name, value in asdict(recipe).items() if name not in ("source", "unverified")}
    for part, split in {"train": data.train, "valid": data.valid}.items():
        said[f"data {part}"] = f"{len(split.labels)} images, labels of crc {zlib.crc32(split.labels.numpy().tobytes()):08x}"
    said |= {f"network {name or 'itself'}": plain(module) for name, module in net.named_modules()}
    return said | {f"network {name}": str(tuple(value.shape)) for name, value in net.state_dict().items()}


def is_plain(value: object) -> bool:
    """Whether it is a number, a string, None or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def plain(module: nn.Module) -> str:
    """A module's class and its numbers and strings: networks with weights of equal shapes may differ in these."""

    own = {k: v for k, v in sorted(vars(module).items()) if not k.startswith("_") and v is not None and is_plain(v)}
    values = ", ".join(f"{k}={v!r}" for k, v in own.items() if k not in ("training", "drop_path"))  # these change on the way
    return f"{type(module).__name__}({values})"
