"""Score one model (`score`), a whole space (`score_space`), and keep the scores in a file."""

from ncdlib.scoring.model import score
from ncdlib.scoring.space import one_thread, score_space

__all__ = ["one_thread", "score", "score_space"]
