"""The map of a layer's covariances: against patches, linear algebra and full enumeration, and against random draws."""

from itertools import product
import math

import numpy as np
import pytest
from scipy import stats
import torch
from torch import nn
from torch.nn import functional as F

from ncdlib import rescaling
from ncdlib.masking import masked
from ncdlib.theory import covariance

RNG = np.random.default_rng(0)


def drawn(side=4):
    """A covariance of exchangeable images: what they share, and what each has of its own; no two positions alike."""
    shared, own = (torch.from_numpy(RNG.normal(size=(side**2, side**2))) for _ in range(2))
    shared, own = (a @ a.T / side**2 for a in (shared, own))
    return covariance.Covariance(*(part.reshape([side] * 4) for part in (shared + own, shared)))


def image_covariance(images):
    """The mean over images, and over pairs of different images, of the products of pixels; (n, c, h, w), n >= 2."""
    n, c, h, w = images.shape
    x = images.double().flatten(2)
    products = torch.einsum("icp,jcq->ijpq", x, x) / c
    same, all_pairs = products.diagonal().sum(-1), products.sum((0, 1))
    return covariance.Covariance(*(part.reshape(h, w, h, w) for part in (same / n, (all_pairs - same) / (n * (n - 1)))))


def whole(x, n):
    """The covariance of all positions of n images, (n h w, n h w)."""
    d = x.variance.numel()
    blocks = torch.eye(n)[:, None, :, None] * (x.same - x.cross).reshape(1, d, 1, d) + x.cross.reshape(1, d, 1, d)
    return blocks.reshape(n * d, n * d)


def close(ours, expected, tolerance=1e-10):
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_cosine_and_distance_are_integrals_over_two_gaussians():
    u, step = np.linspace(0, 8, 1601, retstep=True)
    positive = np.dstack(np.meshgrid(u, u))
    for rho in (-0.9, -0.3, 0.0, 0.2, 0.7, 0.95):
        density = stats.multivariate_normal.pdf(positive, cov=[[1, rho], [rho, 1]])
        product_of_relus = (positive.prod(-1) * density).sum() * step**2  # zero at the edges: a trapezoid rule
        both_positive = stats.multivariate_normal.cdf([0, 0], cov=[[1, rho], [rho, 1]])
        cosine = torch.tensor([rho], dtype=torch.float64)
        assert covariance.relu_cosine(cosine).item() == pytest.approx(product_of_relus / 0.5, abs=1e-4)
        assert covariance.hamming_of_cosine(cosine).item() == pytest.approx(1 - 2 * both_positive, abs=1e-5)
    edges = torch.tensor([-1.0, 0, 1], dtype=torch.float64)
    close([covariance.relu_cosine(edges)], [torch.tensor([0, 1 / math.pi, 1], dtype=torch.float64)])
    close([covariance.hamming_of_cosine(edges)], [torch.tensor([1, 0.5, 0], dtype=torch.float64)])


def test_relu_is_that_of_gaussian_draws():
    x, draws = drawn(2), 400_000
    factor = torch.linalg.cholesky(whole(x, 2))
    fired = torch.relu(torch.randn(draws, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) @ factor.T)
    products = fired[:, :, None] * fired[:, None]
    error = products.std(0) / math.sqrt(draws)
    ours = whole(covariance.relu(x), 2)
    assert ((products.mean(0) - ours).abs() < 5 * error).all()
    assert (error < 0.01 * ours.diagonal().mean()).all()


def test_images_give_means_of_products_over_images_and_pairs():
    images = torch.from_numpy(RNG.normal(size=(3, 2, 2, 2))) + 1
    ours = image_covariance(images)
    for p, q in product(product(range(2), repeat=2), repeat=2):
        values = [[(images[(i, slice(None), *p)] * images[(j, slice(None), *q)]).mean() for j in range(3)] for i in range(3)]
        values = torch.tensor(values)
        assert ours.same[p + q].item() == pytest.approx(values.diagonal().mean().item())
        assert ours.cross[p + q].item() == pytest.approx((values.sum() - values.trace()).item() / 6)
    noise = covariance.white_noise(3)
    assert noise.same.sum() == 9 and (noise.variance == 1).all() and not noise.cross.any()


@pytest.mark.parametrize("border", covariance.BORDERS)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 1), (7, 2)])
def test_convolution_is_the_product_of_the_patches_that_it_reads(kernel, stride, border):
    images = torch.from_numpy(RNG.normal(size=(3, 2, 8, 8))) + 1
    padded = F.pad(images, [kernel // 2] * 4, mode="constant" if border == "zeros" else "circular")
    patches = F.unfold(padded, kernel, stride=stride)  # (n, c k^2, positions)
    side = math.isqrt(patches.shape[-1])
    expected = image_covariance(patches.unflatten(2, (side, side)))  # a mean over c k^2, times their weights' variance
    close(covariance.convolved(image_covariance(images), kernel, stride, border), [part / 3 for part in expected])


def test_convolution_of_equal_covariances_knows_its_kernel_only_by_the_border():
    flat = covariance.Covariance(covariance.white_noise(8).same + 0.4, torch.full((8, 8, 8, 8), 0.4, dtype=torch.float64))
    for kernel in (3, 5):
        inside = covariance.convolved(flat, kernel, border="circular")
        close([inside.cosine], [flat.cosine])
        padded = covariance.convolved(flat, kernel)
        assert padded.variance[0, 0] < padded.variance[4, 4]
        after = [covariance.normalised(y, "bn", 16, 32).cosine.mean().item() for y in (inside, padded)]
        assert after[0] == pytest.approx(0, abs=0.01) and after[1] > 0.03


def test_mask_is_the_mean_over_all_masks():
    images, alpha = torch.from_numpy(RNG.normal(size=(2, 1, 1, 2))) + 1, 0.3
    same, cross = torch.zeros(1, 2, 1, 2, dtype=torch.float64), torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    for bits in product((0.0, 1.0), repeat=4):
        chance = alpha ** (4 - sum(bits)) * (1 - alpha) ** sum(bits)
        kept = image_covariance(images * torch.tensor(bits).reshape(2, 1, 1, 2))
        same, cross = same + chance * kept.same, cross + chance * kept.cross
    close(covariance.masked(image_covariance(images), alpha), (same, cross))


def test_pool_and_sum():
    images = torch.from_numpy(RNG.normal(size=(3, 2, 4, 4)))
    close(covariance.pooled(image_covariance(images)), image_covariance(F.avg_pool2d(images, 2)))
    x, y = drawn(2), drawn(2)
    close(covariance.added(x, y), (x.same + y.same, x.cross + y.cross))


@pytest.mark.parametrize("norm", ["bn", "in", "gn2", "ln"])
def test_normalisation_subtracts_what_the_layer_subtracts(norm):
    n, c, side = 3, 4, 2
    y = drawn(side)
    layer = rescaling.make(norm, c).double().train()
    basis = torch.eye(n * c * side**2, dtype=torch.float64).reshape(-1, n, c, side, side)

    def centred(values):  # the layer's own mean; its division is undone
        groups = 1 if norm == "bn" else layer.num_groups
        split = values.unflatten(1, (groups if norm != "bn" else c, -1))
        over = (0, 2, 3, 4) if norm == "bn" else (2, 3, 4)
        deviation = (split.var(over, correction=0, keepdim=True) + layer.eps).sqrt()
        return (layer(values).unflatten(1, split.shape[1:3]) * deviation).flatten(1, 2)

    operator = torch.stack([centred(one).flatten() for one in basis], dim=1)
    channels = torch.eye(c, dtype=torch.float64)  # independent, each of the covariance of `whole`
    full = torch.einsum("ipjq,cd->icpjdq", whole(y, n).reshape(n, side**2, n, side**2), channels).reshape(len(basis), -1)
    after = (operator @ full @ operator.T).reshape(n, c, side**2, n, c, side**2)
    first = after.diagonal(dim1=1, dim2=4).mean(-1)  # over channels: (n, p, n, q)
    same, cross = first[0, :, 0].reshape([side] * 4), first[0, :, 1].reshape([side] * 4)
    scale = same.reshape(side**2, -1).diagonal().mean()
    close(covariance.normalised(y, norm, c, n), (same / scale, cross / scale), 1e-6)


def test_no_normalisation_changes_nothing_and_others_are_refused():
    y = drawn(2)
    close(covariance.normalised(y, "none", 4, 3), y, 0)
    for norm, message in (
        ("dropout", "no prediction for norm 'dropout'"), ("gn3", "norm 'gn3' cannot divide 16 channels into 3 groups"),
        ("gn0", "unknown norm 'gn0'"), ("gnx", "unknown norm 'gnx'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            covariance.normalised(y, norm, 16, 3)
    with pytest.raises(ValueError, match="unknown border 'reflect'"):
        covariance.convolved(y, 3, border="reflect")


@pytest.mark.parametrize(("kernel", "alpha"), [(1, 0.5), (1, 0.95), (3, 0.95), (3, 0.99)])
def test_share_of_dry_outputs_is_that_of_masks_drawn(kernel, alpha):
    generator = torch.Generator().manual_seed(0)
    x = torch.relu(torch.randn(400, 16, kernel, kernel, generator=generator))  # a window of its own for each image
    kept = sum((masked(x, alpha, "sample", generator) != 0).flatten(1).any(1).sum().item() for _ in range(20))
    low, high = stats.binom.interval(1 - 1e-4, 8000, 1 - float(covariance.dry_share(alpha, 16 * kernel**2)))
    assert low <= kept <= high


def test_units_of_many_inputs_differ_as_often_as_predicted():
    images = torch.relu(torch.from_numpy(RNG.normal(size=(6, 64, 8, 8))))
    expected = covariance.normalised(covariance.convolved(image_covariance(images), 3), "bn", 512, 6)
    codes = nn.BatchNorm2d(512).double()(F.conv2d(images, torch.from_numpy(RNG.normal(size=(512, 64, 3, 3))), padding=1)) > 0
    measured = np.mean([(codes[i] != codes[j]).double().mean().item() for i in range(6) for j in range(i)])
    assert measured == pytest.approx(covariance.hamming_of_cosine(expected.cosine).mean().item(), abs=0.005)
    assert measured < 0.48  # less than one half, by the border
