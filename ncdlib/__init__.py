"""Does the rank correlation of activation-based zero-cost proxies turn negative, and does NCD mend it?

A reproduction of "Beyond the Limits: Overcoming Negative Correlation of Activation-Based Training-Free NAS" (ICCV 2025).
"""

from ncdlib import benchmarks, images, proxies, search, spaces, statistics
from ncdlib.scoring import score, score_space

__all__ = ["benchmarks", "images", "proxies", "score", "score_space", "search", "spaces", "statistics"]
