"""Score one model (`score`), a whole space (`score_space`), and keep the scores in a file (`read_scores`)."""

from ncdlib.scoring.file import read as read_scores
from ncdlib.scoring.model import Method, methods, score
from ncdlib.scoring.space import one_thread, score_space

__all__ = ["Method", "methods", "one_thread", "read_scores", "score", "score_space"]
