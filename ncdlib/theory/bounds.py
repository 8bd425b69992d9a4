"""The most that NWOT can be, and the largest mean Hamming distance that codes can have."""

import math


def largest_distance(images: int) -> float:
    """The largest mean Hamming distance that codes of so many images can have, as a share of the units.

    A unit that fires for k of n images tells k (n - k) pairs apart, floor(n^2 / 4) at most: a little over one half.
    """
    return (images**2 // 4) / math.comb(images, 2)


def nwot_maximum(units: int, images: int, distance: float | None = None) -> float:
    """The most that NWOT can be for codes whose mean distance is `distance`, as a share of the units; None for any codes.

    All pairs equally far apart, K = N ((1 - h) J + h I), so log|K| = n log N + (n - 1) log h + log(n - (n - 1) h). No
    other codes of mean distance h score more: log-det is concave, and the mean of K over all orders of the images is this
    one. It rises with h up to h = 1, which no codes of more than two images reach.
    """
    h = largest_distance(images) if distance is None else distance
    if h == 0:
        return -math.inf
    return images * math.log(units) + (images - 1) * math.log(h) + math.log(images - (images - 1) * h)
