"""The printed proof of Theorem 4.2, term by term, and the table of its slips."""

from itertools import product
import math

import pytest
import torch
from torch import nn

from ncdlib import theory


def proof(x, weight, lower, upper):
    """sum over a, b, c, d, e of x-hat^sum (Eq. 5) of one image, counted from 1 as printed; the number of terms an output."""
    channels, height, width = x.shape
    kernel, total, terms = weight.shape[-1], 0.0, 0
    for a, b, c in product(range(1, height + 1), range(1, width + 1), range(1, channels + 1)):
        for d, e in product(range(lower, upper + 1), repeat=2):
            terms += 1
            u, v = d - math.floor(-kernel / 2), e - math.floor(-kernel / 2)
            if 1 <= u <= kernel and 1 <= v <= kernel and 1 <= a + d <= height and 1 <= b + e <= width:
                total += (weight[:, c - 1, u - 1, v - 1].sum() * x[c - 1, a + d - 1, b + e - 1]).item()
    return total, terms / (channels * height * width)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_printed_proof_holds_once_its_slips_are_corrected(kernel):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, kernel, padding=kernel // 2, bias=False, dtype=torch.float64).requires_grad_(False)
    x = torch.relu(torch.randn(1, 3, 4, 5, dtype=torch.float64))
    mean = conv(x).mean().item()
    total, terms = proof(x[0], conv.weight, -(kernel // 2), kernel // 2)
    assert terms == kernel**2
    assert total / (4 * 4 * 5) == pytest.approx(mean, abs=1e-10)
    assert total / (4 * 5) == pytest.approx(4 * mean, abs=1e-10)  # Eq. 7 as printed: C times too large
    _, terms = proof(x[0], conv.weight, math.floor(-kernel / 2), kernel)
    assert terms == (kernel + math.ceil(kernel / 2) + 1) ** 2 > kernel**2


def test_slips_are_a_table():
    assert len(theory.SLIPS) == len({(slip.place, slip.printed) for slip in theory.SLIPS})
    for slip in theory.SLIPS:
        assert all(text and text.count("$") % 2 == 0 and text.count("{") == text.count("}") for text in slip)
        assert slip.printed != slip.right
