"""Our ranks against published scores of the same cells, where the published table is beside the checkout."""

from pathlib import Path

import agreement
import numpy as np
import pytest

from ncdlib import score_space
from ncdlib.scoring import file as table

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "benchmarks" / "nasbench201_zc_subset725.csv.gz"


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published table is not beside this checkout")
def test_ranks_agree_with_the_published_run():
    found = agreement.agreement(agreement.read(PUBLISHED), table.read(agreement.SCORES))
    assert len(found) == len(agreement.PROXIES) and (found["n"] > 600).all()
    short = found[found["rho"] < found["wanted"]]
    assert short.empty, short[["proxy", "rho", "wanted"]].to_string()


def test_the_stored_scores_are_those_of_this_code():
    stored = table.read(agreement.SCORES)
    cells = sorted(stored["arch"].unique())[::200]
    cheap = ["params", "flops", "nwot", "snip", "grad_norm", "l2_norm", "fisher", "jacov", "synflow"]
    now = score_space("nasbench201", cells, cheap, batch=32, jobs=1, progress=False)
    both = now.merge(stored, on=[*table.KEYS], suffixes=("_now", "_stored"))
    assert len(both) == len(cells) * len(cheap)
    np.testing.assert_allclose(both["score_now"], both["score_stored"], rtol=1e-3)


def test_the_cells_of_the_suite_are_read_from_its_tuples():
    assert agreement.cell_string("(0, 1, 2, 3, 4, 0)") == (
        "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|skip_connect~2|"
    )
