"""Proxies of feature maps equal plain formulations and closed forms, and say what they leave undefined."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import masking, proxies, rescaling, spaces
from ncdlib.proxies import expressivity
from ncdlib.spaces.autoformer import VisionTransformer, ViT

PROXIES = ["zen", "meco", "az_expressivity", "az_progressivity", "az_trainability"]
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
ZEROS = "|none~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"  # node 1 holds zeros
IDENTITY = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
GAMMA = 1e-2


def batch(n: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nasbench201(cell: str = CELL, **build) -> nn.Module:
    torch.manual_seed(0)
    return spaces.get("nasbench201").build(cell, channels=4, cells_per_stage=1, classes=5, **build).double()


def darts() -> nn.Module:
    torch.manual_seed(0)
    space = spaces.get("darts")
    return space.build(space.sample(np.random.default_rng(2)), channels=2, layers=3, classes=5).double()


def autoformer() -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(ViT(24, (1, 2, 1), (2, 3, 2)), "gelu", side=2, patch=8, classes=5, channels=3)
    network.initialise("default")
    return network.double()


def plain() -> nn.Module:
    """No block but its layers, and an activation that overwrites what it reads."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    ).double()


class Net(nn.Module):
    """Blocks, and a head that is made of modules too."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class FirstOnly(nn.Module):
    """Runs the first of its modules."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x)


def block(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def network_for(name: str) -> nn.Module:
    return plain() if name == "zen" else nasbench201()  # zen takes many passes


@pytest.mark.parametrize("name", PROXIES)
def test_the_model_is_left_alone_and_the_seed_decides(name):
    model, images = network_for(name), batch(4, 3, 8, 8)
    next(model.parameters()).requires_grad_(False)
    before = snapshot(model)
    score = ncdlib.score(model, images, name, alpha=0.2, seed=5)
    assert_same(before, snapshot(model))
    torch.rand(3)
    assert math.isfinite(score) and score == ncdlib.score(model, images, name, alpha=0.2, seed=5)
    unmasked = ncdlib.score(model, images, name, seed=5)
    assert score != unmasked
    assert (unmasked != ncdlib.score(model, images, name, seed=6)) == (name in ("zen", "az_trainability"))


@pytest.mark.parametrize("name", PROXIES)
def test_memory_layout_does_not_matter(name):
    model, images = network_for(name), batch(4, 3, 8, 8)
    expected = ncdlib.score(model, images, name)
    rearranged = images.contiguous(memory_format=torch.channels_last)
    assert ncdlib.score(model, rearranged, name) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", PROXIES)
def test_hooks_go_when_the_model_fails(name):
    model = nasbench201()
    before = snapshot(model)
    model[3].forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        ncdlib.score(model, batch(4, 3, 8, 8), name)
    del model[3].forward
    assert_same(before, snapshot(model))


# Zen


def cut(name: str) -> tuple[nn.Module, nn.Module]:
    """A network, and a copy that ends before its global average pooling."""
    if name == "nasbench201":
        return nasbench201(), nasbench201()[:-3]
    if name == "zeros":
        return nasbench201(ZEROS), nasbench201(ZEROS)[:-3]
    if name == "plain":
        return plain(), plain()[:-3]
    whole, feature = darts(), darts()
    feature.head = nn.Identity()
    return whole, feature


def textbook_zen(feature: nn.Module, shape: tuple[int, ...], repeats: int) -> float:
    """Drawn in place, as the authors' code does it, on a copy that ends in the feature; BatchNorm keeps x's variances."""
    norms = [m for m in feature.modules() if isinstance(m, nn.BatchNorm2d)]
    scores = []
    for _ in range(repeats):
        for m in feature.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                nn.init.normal_(m.weight)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.ones_(m.weight)
                nn.init.zeros_(m.bias)
        for norm in norms:
            norm.momentum = 1.0  # the running variance is then that of the last batch
        x = torch.randn(shape, dtype=torch.float64)
        with torch.no_grad():
            f = feature(x)
            variances = [norm.running_var.mean().item() for norm in norms]
            moved = feature(x + GAMMA * torch.randn(shape, dtype=torch.float64))
        distance = np.mean([np.abs((a - b).numpy()).sum() for a, b in zip(f, moved, strict=True)])
        scores.append(np.log(distance) + sum(0.5 * np.log(v) for v in variances if v > 0))
    return np.mean(scores)


@pytest.mark.parametrize("name", ["nasbench201", "zeros", "darts", "plain"])
def test_zen_equals_its_textbook_form(name):
    model, feature = cut(name)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(head) == 1  # it runs after the feature, but its weights are drawn too, the last
    feature = FirstOnly(feature, copy.deepcopy(head[0]))
    torch.manual_seed(3)
    expected = textbook_zen(feature, (4, 3, 8, 8), repeats=2)
    torch.manual_seed(3)
    assert expressivity.zen(model, batch(4, 3, 8, 8), repeats=2) == pytest.approx(expected, rel=1e-9)


def test_zen_means_over_32_draws():
    model, images = plain(), batch(4, 3, 8, 8)
    torch.manual_seed(7)
    single = [expressivity.zen(model, images, repeats=1) for _ in range(32)]
    assert ncdlib.score(model, images, "zen", seed=7) == pytest.approx(np.mean(single), rel=1e-12)
    assert np.std(single) > 0


def test_zen_of_one_convolution():
    """f = w x, no norm in its way but one that is not read: the distance is gamma |w| E|y|, the scale that of w x."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1e-12), nn.AdaptiveAvgPool2d(1)).double()
    images = batch(16, 1, 32, 32)
    # BatchNorm takes out what its variance gives back: log(gamma |y|_1 / (|w| s) * |w| s), with s = 1 for x.
    torch.manual_seed(0)
    weight = torch.randn(1, 1, 1, 1, dtype=torch.float64).item()
    torch.manual_seed(0)
    score = expressivity.zen(model, images, repeats=1)
    expected = math.log(1024 * GAMMA * math.sqrt(2 / math.pi) * abs(weight))
    assert score == pytest.approx(expected, abs=0.02)


def test_zen_reads_neither_weights_nor_images():
    images = batch(4, 3, 8, 8)
    model, other = plain(), plain()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3).add_(0.1)
    assert ncdlib.score(model, images, "zen") == ncdlib.score(other, images * 7 + 1, "zen")
    assert ncdlib.score(model, images, "zen") != ncdlib.score(model, images[..., :4], "zen")


def test_zen_grows_with_gamma_as_the_distance_does():
    model, images = nasbench201(), batch(4, 3, 8, 8)
    scores = []
    for gamma in (1e-6, 1e-5):
        torch.manual_seed(0)
        scores.append(expressivity.zen(model, images, repeats=2, gamma=gamma))
    assert scores[1] - scores[0] == pytest.approx(math.log(10), abs=1e-2)


def test_zen_without_signal_is_undefined():
    assert math.isnan(ncdlib.score(nasbench201(NOTHING), batch(4, 3, 8, 8), "zen"))


def test_zen_tells_what_it_cannot_score():
    images = batch(4, 3, 8, 8)
    for norm in ("ln", "in", "none"):
        with pytest.raises(ValueError, match="zen needs BatchNorm"):
            ncdlib.score(nasbench201(), images, "zen", norm=norm)
    with pytest.raises(ValueError, match="zen needs BatchNorm"):
        ncdlib.score(autoformer(), batch(2, 3, 16, 16), "zen")
    with pytest.raises(ValueError, match="mode='train'"):
        ncdlib.score(nasbench201(), images, "zen", mode="eval")
    with pytest.raises(ValueError, match=r"before an nn\.AdaptiveAvgPool2d, but none runs"):
        ncdlib.score(plain()[:-3], images, "zen")


class Gated(nn.Module):
    """A squeeze-and-excitation gate: it pools globally, before the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.pool, self.gate, self.last = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        self.feature = x * self.gate(self.pool(x))
        return self.last(self.feature)


def test_zen_reads_the_last_pooling_that_runs():
    model, images = Gated().double(), batch(4, 3, 8, 8)
    torch.manual_seed(0)
    weights = {
        "conv.weight": torch.randn(4, 3, 1, 1, dtype=torch.float64),
        "gate.weight": torch.randn(4, 4, 1, 1, dtype=torch.float64),
    }
    x, y = (torch.randn(4, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        model.load_state_dict(weights, strict=False)
        for bias in (model.conv.bias, model.gate.bias):
            bias.zero_()
        model(x)
        f, scale = model.feature, model.conv(x).var((0, 2, 3)).mean().log() / 2
        model(x + GAMMA * y)
        expected = (f - model.feature).abs().sum((1, 2, 3)).mean().log() + scale
    torch.manual_seed(0)
    assert expressivity.zen(model, images, repeats=1) == pytest.approx(expected.item(), rel=1e-9)


# MeCo


def textbook_meco(network: nn.Module, images: Tensor) -> float:
    """Every module's output, numpy's correlation and its general solver; what is nan counts as 0."""
    found = []

    def hook(module, inputs, output):
        feature = output[0].detach().reshape(output.shape[1], -1).numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            corr = np.atleast_2d(np.corrcoef(feature)) if feature.shape[1] > 1 else np.full((len(feature),) * 2, np.nan)
        found.append(np.linalg.eig(np.nan_to_num(corr, nan=0.0))[0].real.min())

    for module in network.modules():
        module.register_forward_hook(hook)
    with torch.no_grad():
        network(images[:1])
    return sum(found)


@pytest.mark.parametrize("make", [nasbench201, darts, autoformer, plain])
def test_meco_equals_its_textbook_form(make):
    model, images = make(), batch(3, 3, 16, 16)
    expected = textbook_meco(copy.deepcopy(model), images)
    assert expected > 0.01
    assert ncdlib.score(model, images, "meco") == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if make is nasbench201:
        twin = copy.deepcopy(model)
        with rescaling.nir(twin, "ln"), masking.sam(twin, 0.3, seed=2):
            expected = textbook_meco(twin, images)
        assert ncdlib.score(model, images, "meco", norm="ln", alpha=0.3, seed=2) == pytest.approx(expected, rel=1e-9)


def test_meco_of_two_channels_counts_each_module():
    """The smallest eigenvalue of [[1, r], [r, 1]] is 1 - |r|; a Sequential puts out what its last module does."""
    image = torch.tensor([[[[1.0, 0, 0]], [[1.0, 1, 0]]]])  # r = 1/2
    model = nn.Sequential(nn.Identity(), nn.Identity())
    assert ncdlib.score(model, torch.cat([image, torch.randn(1, 2, 1, 3)]), "meco") == pytest.approx(3 * 0.5)


def test_meco_counts_what_is_overwritten_as_it_was():
    """A tensor that is changed in place is another output."""
    image = torch.tensor([[[[1.0, 0, -2]], [[1.0, 1, -1]]]])
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    r = [np.corrcoef(x[0, :, 0].numpy())[0, 1] for x in (image, image.relu())]
    expected = (1 - abs(r[0])) + 2 * (1 - abs(r[1]))
    images = torch.cat([image, image])
    assert ncdlib.score(nn.Sequential(nn.Hardtanh(-9, 9), model), images, "meco") == pytest.approx(
        expected + (1 - abs(r[0])) + (1 - abs(r[1]))
    )


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.randn(1, 1, 3, 3), 1.0),  # one channel correlates with itself
        (torch.randn(1, 5, 2, 2), 0.0),  # more channels than positions
        (torch.randn(1, 4, 2, 2), 0.0),  # as many: centred rows have one dimension less
        (torch.cat([torch.randn(1, 2, 3, 3), torch.full((1, 1, 3, 3), 0.1)], 1), 0.0),  # a constant channel
    ],
)
def test_meco_at_the_edges(image, expected):
    score = ncdlib.score(nn.Identity(), torch.cat([image, image]), "meco")
    assert score == pytest.approx(expected) and (expected or score == 0)


def test_meco_rows_are_tokens():
    tokens = torch.tensor([[[1.0, 0, 0, 0], [1.0, 1, 0, 0]]])
    r = np.corrcoef(tokens[0].numpy())[0, 1]
    assert ncdlib.score(nn.Identity(), torch.cat([tokens, tokens]), "meco") == pytest.approx(1 - r)


class Several(nn.Module):
    """Puts out what has no channels: a tuple, whole numbers, a single number, nothing."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> object:
        return ((x, x), x.long(), x.sum(), None, x[:, :0])[self.kind]


@pytest.mark.parametrize("kind", range(5))
def test_meco_passes_over_what_has_no_channels(kind):
    assert ncdlib.score(Several(kind), torch.randn(2, 2, 3, 3), "meco") == 0


def test_meco_reads_the_first_image_alone():
    model, images = nasbench201(), batch(3, 3, 16, 16)
    other = torch.cat([images[:1], 5 * images[1:] + 2])
    assert ncdlib.score(model, images, "meco") == ncdlib.score(model, other, "meco")
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ncdlib.score(model, batch(3, 3, 4, 4), "meco")


# AZ-NAS


def features(name: str, network: nn.Module, images: Tensor) -> list[Tensor]:
    """What the authors' code collects, by hand: outputs of blocks, all in one graph."""
    if name == "nasbench201":  # the stem, three cells and two residual blocks; the head is left out
        blocks, x = list(network)[:6], images
    elif name == "plain":
        blocks, x = [network[0], network[1:4]], images
    elif name == "darts":
        before = last = network.stem(images)
        found = []
        for cell in network.cells:
            before, last = last, cell(before, last, 0.0)
            found.append(last)
        return found
    else:
        x = network.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([network.class_token.expand(len(x), -1, -1), x], dim=1) + network.position
        blocks = list(network.blocks)
    found = []
    for block in blocks:
        x = block(x).clone()
        found.append(x)
    return found


def vectors(x: Tensor) -> np.ndarray:
    """A row for each image and position."""
    x = x.detach().numpy()
    return x.reshape(-1, x.shape[-1]) if x.ndim == 3 else np.stack([x[i, :, a, b] for i, a, b in np.ndindex(places(x))])


def places(x: np.ndarray) -> tuple[int, int, int]:
    return len(x), *x.shape[2:]


def textbook_entropies(found: list[Tensor]) -> list[float]:
    entropies = []
    for x in map(vectors, found):
        values = np.linalg.svd(np.cov(x.T, bias=True), compute_uv=False)
        p = values / values.sum()
        entropies.append(-sum(q * math.log(q + 1e-8) for q in p))
    return entropies


def textbook_trainability(found: list[Tensor], signs: list[Tensor]) -> float:
    """One graph of the whole network; the mean of outer products, place by place; the general solver."""
    scores = []
    for (before, after), g in zip(itertools.pairwise(found), signs, strict=True):
        assert set(g.unique().tolist()) == {-1.0, 1.0}
        h = torch.autograd.grad(after, before, g, retain_graph=True)[0]
        assert not torch.equal(h, g)
        if h.dim() == 4:
            r = h.shape[2] // g.shape[2]
            h = torch.cat([h[:, :, i::r, j::r] for i in range(r) for j in range(r)], dim=1)
        s = np.linalg.svd(sum(np.outer(a, b) for a, b in zip(vectors(h), vectors(g), strict=True)) / len(vectors(g)))[1][0]
        scores.append(-s - 1 / (s + 1e-6) + 2)
    return np.mean(scores)


NETWORKS = {"nasbench201": nasbench201, "darts": darts, "autoformer": autoformer, "plain": plain}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_of_az_nas_equal_their_textbook_forms(name, monkeypatch):
    model, images = NETWORKS[name](), batch(3, 3, *((16, 16) if name == "autoformer" else (8, 8)))
    signs, draw = [], masking.bernoulli

    def record(*args):
        signs.append(2 * draw(*args) - 1)
        return (signs[-1] + 1) / 2

    monkeypatch.setattr(masking, "bernoulli", record)
    scores = ncdlib.score(model, images, ["az_expressivity", "az_progressivity", "az_trainability"])
    found = features(name, copy.deepcopy(model), images)
    entropies = textbook_entropies(found)
    channels_first = [g.movedim(-1, 1) if g.dim() == 4 else g for g in signs]
    assert scores == pytest.approx(
        {
            "az_expressivity": sum(entropies),
            "az_progressivity": min(b - a for a, b in itertools.pairwise(entropies)),
            "az_trainability": textbook_trainability(found, channels_first),
        },
        rel=1e-7,
    )


def test_trainability_estimates_the_jacobian_of_a_linear_block():
    """Of a 1x1 convolution W the Jacobian is W: s tends to its largest singular value as positions grow."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 1, bias=False), *(nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))]
    model = nn.Sequential(*(block(layer) for layer in layers)).double()
    with torch.no_grad():
        layers[1].weight.mul_(6)
        layers[2].weight.mul_(0.5)
    values = [np.linalg.svd(layer.weight.detach()[:, :, 0, 0].numpy(), compute_uv=False)[0] for layer in layers[1:]]
    expected = np.mean([2 - s - 1 / s for s in values])
    assert ncdlib.score(model, batch(64, 3, 32, 32), "az_trainability") == pytest.approx(expected, rel=0.03)


def test_expressivity_of_independent_channels_is_the_largest():
    """k channels of equal variance have entropy log k, one direction alone has none."""
    equal = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64).view(4, 2, 1, 1)
    model = nn.Sequential(block(nn.Identity()), block(nn.Identity()))
    scores = ncdlib.score(model, equal, ["az_expressivity", "az_progressivity"])
    assert scores == pytest.approx({"az_expressivity": 2 * math.log(2), "az_progressivity": 0}, abs=1e-6)
    aligned = equal[:, :1].repeat(1, 2, 1, 1)
    assert ncdlib.score(model, aligned, "az_expressivity") == pytest.approx(0, abs=1e-6)
    assert ncdlib.score(model, aligned.float(), "az_expressivity") == pytest.approx(0, abs=1e-6)


def test_progressivity_is_the_smallest_step():
    project = nn.Conv2d(4, 4, 1, bias=False)
    with torch.no_grad():
        project.weight.copy_(torch.diag(torch.tensor([1.0, 1, 0, 0])).view(4, 4, 1, 1))
    model = nn.Sequential(block(nn.Identity()), block(project), block(nn.Identity())).double()
    score = ncdlib.score(model, batch(200, 4, 8, 8), "az_progressivity")
    assert score == pytest.approx(math.log(2) - math.log(4), abs=0.01)


@pytest.mark.parametrize("name", ["az_expressivity", "az_progressivity"])
def test_the_order_of_images_does_not_matter(name):
    model, images = nasbench201(), batch(6, 3, 8, 8)
    assert ncdlib.score(model, images.flip(0), name) == pytest.approx(ncdlib.score(model, images, name), rel=1e-9)


@pytest.mark.parametrize("name", PROXIES[1:])
def test_one_pass_of_the_network(name):
    model, images, calls = nasbench201(), batch(4, 3, 16, 16), []
    model.register_forward_hook(lambda m, i, o: calls.append(len(i[0])))
    ncdlib.score(model, images, name)
    assert calls == ([1] if name == "meco" else [4])


def test_identities_and_dead_blocks():
    images = batch(4, 3, 8, 8)
    assert ncdlib.score(nasbench201(IDENTITY), images, "az_trainability") == -math.inf
    scores = ncdlib.score(nasbench201(NOTHING), images, ["az_expressivity", "az_progressivity", "az_trainability"])
    assert math.isnan(scores["az_expressivity"]) and math.isnan(scores["az_progressivity"])
    dead = 2 - 1e6  # each cell puts out zeros, which pass no gradient on; residual blocks have one, of zeros
    assert 3 * dead / 5 - 10 < scores["az_trainability"] < 3 * dead / 5 + 10


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0).sqrt()


def test_a_gradient_or_a_feature_that_is_not_finite():
    model, images = nn.Sequential(block(nn.Identity()), block(nn.Identity()), Root()), torch.randn(3, 2, 4, 4)
    with pytest.warns(UserWarning, match="gradient of the output of block 2 by that of the block before is not finite"):
        assert math.isnan(ncdlib.score(nn.Sequential(*model), images, "az_trainability"))
    overflow = nn.Conv2d(2, 8, 1)
    with torch.no_grad():
        overflow.weight.fill_(math.inf)
    assert math.isnan(ncdlib.score(nn.Sequential(block(nn.Identity()), block(overflow)), images, "az_expressivity"))


def test_blocks_are_those_of_az_nas():
    kinds = [type(m).__name__ for m in expressivity.blocks(spaces.get("nasbench201").build(NOTHING))]
    cells = ["EdgeCell"] * 5
    assert kinds == ["Sequential", *cells, "ResidualBlock", *cells, "ResidualBlock", *cells]
    network = darts()
    assert expressivity.blocks(network) == list(network.cells)  # although a cell holds more edges than there are cells
    network = autoformer()
    assert expressivity.blocks(network) == expressivity.blocks(nn.ModuleDict({"net": network})) == list(network.blocks)
    assert expressivity.blocks(nn.Sequential(nn.Identity(), network)) == list(network.blocks)
    network = plain()
    assert expressivity.blocks(network) == [network[0], network[3], network[7]]
    stages = nn.ModuleDict({k: nn.Sequential(block(nn.ReLU()), block(nn.ReLU())) for k in ("first", "second")})
    assert expressivity.blocks(stages) == [*stages["first"], *stages["second"]]
    shared, other = block(nn.ReLU()), block(nn.ELU())
    twice = nn.ModuleDict({k: nn.Sequential(shared, other) for k in ("first", "second")})
    assert expressivity.blocks(twice) == [shared, other]


def test_a_head_made_of_modules_is_no_feature():
    torch.manual_seed(0)
    model = Net(block(nn.Conv2d(3, 4, 3), nn.ReLU()), block(nn.Conv2d(4, 4, 1))).double()
    whole = nn.Sequential(*model.blocks, model.head)
    images = batch(3, 3, 8, 8)
    for name in PROXIES[2:]:
        assert math.isfinite(score := ncdlib.score(model, images, name))
        assert ncdlib.score(whole, images, name) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize("name", PROXIES[2:])
def test_az_nas_tells_what_it_cannot_score(name):
    with pytest.raises(ValueError, match="AZ-NAS compares blocks, but in this model 1 put out a feature map"):
        ncdlib.score(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).double(), batch(3, 3, 8, 8), name)
    with pytest.raises(ValueError, match="0 put out a feature map"):
        ncdlib.score(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)).double(), batch(3, 6), name)


def test_trainability_tells_of_positions_that_do_not_fit():
    model = Net(block(nn.Conv2d(3, 4, 1)), block(nn.Conv2d(4, 4, 2))).double()
    with pytest.raises(ValueError, match=r"block 1 goes from \(3, 4, 8, 8\) to \(3, 4, 7, 7\): .* positions that stay"):
        ncdlib.score(model, batch(3, 3, 8, 8), "az_trainability")


def test_az_nas_by_hand():
    nan, inf = math.nan, math.inf
    expressivity_, progressivity = np.array([3.0, 1, 2, 2]), np.array([nan, 0.5, -0.1, 0.2])
    trainability, flops = np.array([-inf, nan, -1, -2]), np.array([10.0, 20, 30, 40])
    ranks = [[4, 1, 2.5, 2.5], [1, 4, 2, 3], [1.5, 1.5, 4, 3], [1, 2, 3, 4]]
    expected = [sum(math.log(row[i] / 4) for row in ranks) for i in range(4)]
    combined = expressivity.az_nas(expressivity_, progressivity, trainability, flops)
    assert combined == pytest.approx(np.array(expected))
    best = np.arange(5.0)
    assert expressivity.az_nas(best, best, best, best)[-1] == 0


def test_az_nas_of_a_space():
    space = spaces.get("nasbench201")
    archs = [CELL, ZEROS, IDENTITY, NOTHING]
    parts = list(proxies.get("az_nas").of)
    small = {"batch": 4, "resolution": 8, "size": {"channels": 4, "cells_per_stage": 1}, "jobs": 1, "progress": False}
    with pytest.warns(UserWarning, match="not finite"):
        table = ncdlib.score_space(space, archs, [*parts, "az_nas"], **small)
    wide = table.pivot(index="arch", columns="proxy", values="score").loc[archs]
    expected = expressivity.az_nas(*(wide[part].to_numpy() for part in parts))
    assert wide["az_nas"].to_numpy() == pytest.approx(expected)
    assert wide["az_nas"].idxmin() == NOTHING
    with pytest.raises(ValueError, match="ranks a set of networks"):
        ncdlib.score(nasbench201(), batch(3, 3, 8, 8), "az_nas")
