"""Why activation-based proxies rank as they do: the paper's theorems, and what its arguments leave out, as code to check.

- `means`: Theorems 4.1 and 4.2, and their forms for GroupNorm and InstanceNorm.
- `covariance`, `network`: the expected Hamming distance of two images' codes, layer by layer, from the covariances alone.
- `correlation`: the rank correlation of NWOT that counts of operations alone predict.
- `cost`: Eq. 8 and 9. `bounds`: the most that NWOT can be. `errata`: slips in the supplementary material.
"""

from ncdlib.theory.bounds import largest_distance, nwot_maximum
from ncdlib.theory.correlation import LAWS, predicted_correlation
from ncdlib.theory.cost import cost, expected_multiplications, kept_channels_conv2d, nonzero_multiplications
from ncdlib.theory.errata import SLIPS
from ncdlib.theory.means import channel_means, group_means, image_means, measured_spread, predicted_spread
from ncdlib.theory.network import mean_distance, predicted_distances

__all__ = [
    "LAWS", "SLIPS", "channel_means", "cost", "expected_multiplications", "group_means", "image_means",
    "kept_channels_conv2d", "largest_distance", "mean_distance", "measured_spread", "nonzero_multiplications",
    "nwot_maximum", "predicted_correlation", "predicted_distances", "predicted_spread",
]  # fmt: skip
