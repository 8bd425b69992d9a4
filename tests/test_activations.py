"""Codes, NWOT and SWAP against the textbook, on random networks and batches, under every mask and norm."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import textbook
import torch
from torch import nn

import ncdlib
from ncdlib import activations, masking, proxies, rescaling, spaces
from ncdlib.proxies import activation

SPACE = spaces.get("nasbench201")


def small(seed: int, channels_last: bool = False, n: int = 8, **build):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = SPACE.build(SPACE.sample(rng), channels=8, cells_per_stage=1, **build)
    images = torch.randn(n, 3, 16, 16)
    return network, images.contiguous(memory_format=torch.channels_last) if channels_last else images


def textbook_log_determinant(kernel: torch.Tensor) -> float:
    full_rank = np.linalg.matrix_rank(kernel.numpy(), hermitian=True) == len(kernel)
    return np.linalg.slogdet(kernel.numpy())[1] if full_rank else math.nan


@pytest.mark.parametrize("n", [2, 3, 8, 31, 32, 33, 64, 100, 128])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_the_textbook_at_every_batch_size(n, channels_last):
    network, images = small(n, channels_last, n)
    network.train()
    codes = textbook.kept_codes(network, images)
    scores = ncdlib.score(network, images, ["nwot", "swap", "units", "hamming"])
    kernel = textbook.kernel(codes)
    assert scores["swap"] == len(torch.unique(codes.T, dim=0)) == textbook.published_swap(network, images)
    assert scores["units"] == codes.shape[1]
    assert scores["nwot"] == pytest.approx(textbook_log_determinant(kernel), rel=1e-12, nan_ok=True)
    differ = [(codes[i] != codes[j]).double().mean() for i in range(n) for j in range(n) if i != j]
    assert scores["hamming"] == pytest.approx(np.mean(differ), abs=1e-12)


@pytest.mark.parametrize("norm", [None, *rescaling.NAMES])
@pytest.mark.parametrize("mask", masking.KINDS)
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_equals_the_textbook_under_every_mask_and_norm(norm, mask, alpha):
    network, images = small(1, init="kaiming")
    arguments = {"alpha": alpha, "mask": mask, "seed": 3}
    scores = ncdlib.score(network, images, ["nwot", "swap"], norm="gn8" if norm == "gn16" else norm, **arguments)
    network.train()
    with rescaling.nir(network, "gn8" if norm == "gn16" else norm), masking.sam(network, alpha, mask, 3):
        torch.manual_seed(3)
        codes = textbook.kept_codes(network, images)
    assert scores["swap"] == len(torch.unique(codes.T, dim=0))
    assert scores["nwot"] == pytest.approx(textbook_log_determinant(textbook.kernel(codes)), rel=1e-9, nan_ok=True)


@given(st.integers(2, 70), st.integers(1, 150), st.floats(0, 1), st.integers(0, 10**6))
def test_kernel_and_patterns_are_exact(n, d, share, seed):
    codes = (torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < share).to(torch.int8)
    assert torch.equal(activation.agreement([(activation.co_firing(codes), 1)]).double(), textbook.kernel(codes))
    for multiply in (activation.popcount_product, activation.float_product, *[activation.byte_product] * (d > 1)):
        assert torch.equal(multiply(codes).long(), codes.long() @ codes.long().T), multiply
    assert activation.swap(codes) == len({tuple(row) for row in codes.T.tolist()})
    shuffled = codes[torch.randperm(n)][:, torch.randperm(d)]
    assert activation.swap(shuffled) == activation.swap(codes)
    assert activation.hamming(shuffled) == pytest.approx(activation.hamming(codes), abs=1e-12)
    assert activation.nwot(shuffled) == pytest.approx(activation.nwot(codes), rel=1e-6, nan_ok=True)


def test_nwot_is_nan_where_two_images_share_a_code_and_never_overflows():
    codes = torch.ones(4, 10, dtype=torch.int8)
    codes[2, :5] = codes[3, 2:6] = 0
    assert math.isnan(activation.nwot(codes))
    network, images = small(0)
    images[1] = images[0]
    network.eval()
    assert math.isnan(ncdlib.score(network, images, "nwot", mode="eval"))
    large = activation.log_determinant(torch.eye(128, dtype=torch.int64) * 2**40 + 2**39)
    assert large == pytest.approx(np.linalg.slogdet(np.eye(128) * 2.0**40 + 2.0**39)[1])


def test_float_product_equals_integer_product():
    codes = (torch.rand(20, 3000) < 0.3).to(torch.int8)
    exact = codes.long() @ codes.long().T
    assert torch.equal(activation.co_firing(codes)[0].long(), exact)
    assert torch.equal(activation.float_product(codes).long(), exact)


def test_modules_that_read_one_tensor_share_its_code_and_still_count():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.inplace = nn.ReLU(), nn.GELU(), nn.ReLU(inplace=True)

        def forward(self, x):
            y = x * 1.0
            self.a(y), self.b(y), self.inplace(y)
            return self.a(y)  # changed in place: another code

    images = torch.randn(5, 40)
    model = Twice()
    with activations.record_codes(model, [lambda codes: codes.clone()], 5) as layers:
        model(images)
    assert [layer.times for layer in layers] == [3, 1]
    assert torch.equal(layers[0].summaries[0], (images > 0).to(torch.int8))
    codes = torch.cat([layers[0].summaries[0]] * 3 + [layers[1].summaries[0]], dim=1)
    scores = ncdlib.score(model, images, ["nwot", "units", "swap"])
    assert scores["units"] == 160
    assert scores["nwot"] == pytest.approx(textbook_log_determinant(textbook.kernel(codes)), nan_ok=True)


def test_legacy_count_equals_the_published_procedure():
    cells = [cell for cell in SPACE.enumerate() if cell.convolutions == 6][::9]  # every activation is reached
    for cell in cells:
        torch.manual_seed(0)
        network = SPACE.build(cell, channels=4, cells_per_stage=1).train()
        images = torch.randn(6, 3, 16, 16)
        expected, _ = textbook.published_nwot(network, images)
        assert ncdlib.score(network, images, "nwot", count="legacy") == pytest.approx(expected, rel=1e-9)
        assert ncdlib.score(network, images, "nwot", count="once") < expected


@pytest.mark.parametrize("name", activations.BY_NAME)
def test_every_activation_module_records(name):
    network = SPACE.build("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|", "bn", name, channels=4)
    images = torch.randn(4, 3, 8, 8)
    # fifteen cells of one convolution, two residual blocks of two activations each, and the last
    per_stage = [5 * 4 * 64, 5 * 8 * 16, 5 * 16 * 4]
    blocks = [4 * 64 + 8 * 16, 8 * 16 + 16 * 4]
    assert ncdlib.score(network, images, "units") == sum(per_stage) + sum(blocks) + 16 * 4


def test_names_and_definitions():
    for name in proxies.names():
        assert proxies.get(name).function.__doc__
    scores = ncdlib.score(*small(4), ["swap", "params", "regularised_swap"])
    assert scores["regularised_swap"] == activation.regularised_swap(scores["swap"], scores["params"])
    assert scores["regularised_swap"] == pytest.approx(
        scores["swap"] * math.exp(-((scores["params"] / 1e3 - 1e3) ** 2) / 1e6)
    )


def test_flops_of_a_convolution_by_hand():
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert ncdlib.score(layer, torch.randn(2, 3, 7, 9), "flops") == 2 * 3 * 5 * 9 * 7 * 9
    assert ncdlib.score(layer, torch.randn(2, 3, 7, 9), "params") == 3 * 5 * 9


@given(st.integers(2, 60), st.integers(1, 80), st.integers(0, 10**6))
def test_nwot_is_nan_exactly_where_the_kernel_is_singular(n, d, seed):
    codes = (torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < 0.5).to(torch.int8)
    rank = np.linalg.matrix_rank(np.hstack([codes.numpy(), 1 - codes.numpy()]).astype(float))  # K is its Gram matrix
    assert math.isnan(activation.nwot(codes)) == (rank < n)
