"""Score one model (`score`), a whole space (`score_space`), and keep the scores in a file (`read_scores`)."""

from ncdlib.scoring.file import read as read_scores
from ncdlib.scoring.model import Method, methods, score, with_methods
from ncdlib.scoring.process import one_thread
from ncdlib.scoring.space import score_space

__all__ = ["Method", "methods", "one_thread", "read_scores", "score", "score_space", "with_methods"]
