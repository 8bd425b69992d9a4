"""S1 to S4, small spaces on which the search of DARTS fails (Zela et al. 2020, arXiv:1909.09656, Sec. 3).

Widths and depths are those that the paper retrains at on CIFAR-10. On CIFAR-100 and SVHN it uses 16 wide, 8 deep, and so do
some of the published CIFAR-10 accuracies: compare within one size.
"""

from typing import ClassVar

from ncdlib.spaces.darts import DARTS, Kind

# S1: the two operators of every edge, by source and target.
S1_OPS: dict[Kind, dict[tuple[int, int], tuple[str, str]]] = {
    "normal": {
        (0, 2): ("skip_connect", "dil_conv_3x3"),
        (1, 2): ("skip_connect", "dil_conv_5x5"),
        (0, 3): ("skip_connect", "dil_conv_5x5"),
        (1, 3): ("skip_connect", "sep_conv_3x3"),
        (2, 3): ("skip_connect", "dil_conv_3x3"),
        (0, 4): ("max_pool_3x3", "skip_connect"),
        (1, 4): ("skip_connect", "sep_conv_3x3"),
        (2, 4): ("skip_connect", "sep_conv_3x3"),
        (3, 4): ("skip_connect", "dil_conv_3x3"),
        (0, 5): ("skip_connect", "sep_conv_3x3"),
        (1, 5): ("max_pool_3x3", "skip_connect"),
        (2, 5): ("skip_connect", "dil_conv_3x3"),
        (3, 5): ("dil_conv_3x3", "dil_conv_5x5"),
        (4, 5): ("dil_conv_3x3", "dil_conv_5x5"),
    },
    "reduce": {
        (0, 2): ("max_pool_3x3", "avg_pool_3x3"),
        (1, 2): ("max_pool_3x3", "dil_conv_3x3"),
        (0, 3): ("max_pool_3x3", "avg_pool_3x3"),
        (1, 3): ("max_pool_3x3", "avg_pool_3x3"),
        (2, 3): ("skip_connect", "dil_conv_5x5"),
        (0, 4): ("max_pool_3x3", "avg_pool_3x3"),
        (1, 4): ("max_pool_3x3", "sep_conv_3x3"),
        (2, 4): ("skip_connect", "dil_conv_3x3"),
        (3, 4): ("skip_connect", "dil_conv_5x5"),
        (0, 5): ("max_pool_3x3", "avg_pool_3x3"),
        (1, 5): ("max_pool_3x3", "avg_pool_3x3"),
        (2, 5): ("skip_connect", "dil_conv_5x5"),
        (3, 5): ("skip_connect", "dil_conv_5x5"),
        (4, 5): ("skip_connect", "dil_conv_5x5"),
    },
}


class S1(DARTS):
    """Two operators for every edge, other ones in the normal and in the reduction cell.

    Here and in S2 to S4, sampling is uniform over the cells that the search can return, as in `DARTS`, and the two inputs of
    a node must differ in cells that are parsed, too.
    """

    name = "s1"
    distinct = True

    def allowed(self, kind: Kind, source: int, target: int) -> tuple[str, ...]:
        return S1_OPS[kind][source, target]


class S2(DARTS):
    """`skip_connect` or `sep_conv_3x3` on every edge; retrained 16 wide."""

    name = "s2"
    distinct = True
    sizes: ClassVar = {**DARTS.sizes, "channels": 16}
    ops: tuple[str, ...] = ("skip_connect", "sep_conv_3x3")

    def allowed(self, kind: Kind, source: int, target: int) -> tuple[str, ...]:
        return self.ops


class S3(S2):
    """S2 and `none`, which the search weighs but never returns: `sample` draws the cells of S2."""

    name = "s3"
    sizes = DARTS.sizes
    ops = ("none", "skip_connect", "sep_conv_3x3")


class S4(S2):
    """`sep_conv_3x3` or `noise`: N(0, 1) in place of its input, drawn from torch's global generator at each pass."""

    name = "s4"
    ops = ("noise", "sep_conv_3x3")
