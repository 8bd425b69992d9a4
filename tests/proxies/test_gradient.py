"""The proxies of gradients equal their textbook forms, closed forms and finite differences, and leave the model alone."""

import copy
import inspect
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import masking, rescaling, spaces
from ncdlib.proxies import gradient, robustness
from ncdlib.spaces.autoformer import VisionTransformer, ViT

SHARED = ["grad_norm", "snip", "plain", "l2_norm"]
OWN = ["grasp", "fisher", "synflow", "gradsign", "zico", "croze"]
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
DEAD_END = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"  # a convolution whose output goes nowhere
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def batch(n: int, *shape: int, classes: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(classes, (n,), generator=generator)


def nasbench201(cell: str = CELL) -> nn.Module:
    torch.manual_seed(0)
    return spaces.get("nasbench201").build(cell, channels=4, cells_per_stage=1, classes=5).double()


def darts() -> nn.Module:
    torch.manual_seed(0)
    space = spaces.get("darts")
    return space.build(space.sample(np.random.default_rng(2)), channels=2, layers=3, classes=5).double()


def autoformer() -> nn.Module:
    """The vision transformer of the space, with two narrow blocks instead of at least twelve wide ones."""
    torch.manual_seed(0)
    network = VisionTransformer(ViT(12, (1, 2), (2.0, 3.0)), "gelu", side=2, patch=4, classes=5, channels=3)
    network.initialise("vit")
    return network.double()


def plain_network(in_place: bool = False) -> nn.Module:
    """No BatchNorm; biases; a depthwise and a strided convolution; the activation may overwrite what it reads."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=in_place),
        nn.Conv2d(4, 4, 3, stride=2, groups=4),
        nn.SiLU(inplace=in_place),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).double()


NETWORKS = {"nasbench201": nasbench201, "darts": darts, "autoformer": autoformer, "plain": plain_network}


def setting(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    return NETWORKS[name](), *batch(6, 3, 8, 8)


# The textbook forms work on a network of their own, as the published code does: they set .grad, and parameters.


def layers(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def grads(network: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(m.weight) if m.weight.grad is None else m.weight.grad.clone() for m in layers(network)]


def backward(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    network.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    return grads(network)


def textbook_grad_norm(network, images, labels):
    return sum(math.sqrt(float((g**2).sum())) for g in backward(network, images, labels))


def textbook_snip(network, images, labels):
    """|gradient by a mask of ones on the weights|, as SNIP introduces it."""
    originals = {m: m.weight for m in layers(network)}
    masks = {m: torch.ones_like(w, requires_grad=True) for m, w in originals.items()}
    for m, w in originals.items():
        del m.weight
        m.weight = w.detach() * masks[m]
    F.cross_entropy(network(images), labels).backward()
    return sum(float(mask.grad.abs().sum()) for mask in masks.values() if mask.grad is not None)


def textbook_plain(network, images, labels):
    gradients = backward(network, images, labels)
    return sum(float(m.weight.detach().flatten() @ g.flatten()) for m, g in zip(layers(network), gradients, strict=True))


def textbook_l2_norm(network, images, labels):
    return sum(math.sqrt(float((m.weight.detach() ** 2).sum())) for m in layers(network))


def textbook_grasp(network, images, labels):
    """Two passes: gradients, then the gradient of their product with gradients that can be differentiated."""
    first = backward(network, images, labels)
    network.zero_grad()
    value = F.cross_entropy(network(images), labels)
    second = torch.autograd.grad(value, [m.weight for m in layers(network)], create_graph=True, allow_unused=True)
    sum((a * b).sum() for a, b in zip(first, second, strict=True) if b is not None).backward()
    return -sum(float((m.weight.detach() * g).sum()) for m, g in zip(layers(network), grads(network), strict=True))


def textbook_fisher(network, images, labels):
    """Keep outputs and their gradients; give every weight its channel's value; add them up, one by one."""
    outputs = []
    for m in layers(network):
        m.register_forward_hook(lambda m, i, o: outputs.append((m, o, o.retain_grad())))
    F.cross_entropy(network(images), labels).backward()
    total = 0.0
    for m, out, _ in outputs:
        product = out * (torch.zeros_like(out) if out.grad is None else out.grad)
        if isinstance(m, nn.Linear):
            product = product.movedim(-1, 1)  # channels first
        for channel in range(product.shape[1]):
            sums = torch.stack([image[channel].sum() for image in product])
            total += float(torch.full_like(m.weight[0], 0.5 * (sums**2).mean().item()).sum())
    return total


def made_positive(network: nn.Module) -> nn.Module:
    """A copy without BatchNorm, all parameters at their magnitudes, in float64."""
    network = copy.deepcopy(network).double()
    for parent in list(network.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, key, nn.Identity())
    with torch.no_grad():
        for p in network.parameters():
            p.abs_()
    return network


def textbook_synflow(network, images, labels):
    network = made_positive(network)
    network(torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum().backward()
    pairs = zip(layers(network), grads(network), strict=True)
    return math.log(sum(float((m.weight.detach() * g).abs().sum()) for m, g in pairs))


def textbook_gradsign(network, images, labels):
    signs = [
        np.concatenate([np.sign(g.numpy()).ravel() for g in backward(network, images[[i]], labels[[i]])])
        for i in range(len(images))
    ]
    return np.abs(np.stack(signs).sum(0)).sum()


def textbook_zico(network, images, labels):
    half = len(images) // 2
    batches = [backward(network, x, y) for x, y in ((images[:half], labels[:half]), (images[half:], labels[half:]))]
    total = 0.0
    for both in zip(*batches, strict=True):
        values = np.stack([g.numpy().ravel() for g in both])
        deviation, mean = values.std(0), np.abs(values).mean(0)
        kept = deviation > 0
        if kept.any():
            total += np.log((mean[kept] / deviation[kept]).sum())
    return total


def textbook_croze(network, images, labels, epsilon=0.01, strength=2.0):
    """As its published code goes: a step of ascent on a further copy, an attack, and one backward pass for both."""
    clean, robust, ascent = (made_positive(network) for _ in range(3))
    images = images.double()

    def run(network, images):
        outputs = {}
        handles = [
            m.register_forward_hook(lambda m, i, o, k=k: outputs.update({k: o})) for k, m in enumerate(layers(network))
        ]
        logits = network(images)
        for handle in handles:
            handle.remove()
        return F.cross_entropy(logits, labels), outputs

    value, features = run(clean, images)
    rate = 1e-3
    optimiser = torch.optim.SGD(ascent.parameters(), lr=rate)
    (-run(ascent, images)[0]).backward()
    optimiser.step()
    with torch.no_grad():
        for a, b in zip(layers(robust), layers(ascent), strict=True):
            moved = b.weight - a.weight
            a.weight += strength * moved / (moved.norm() + 1e-30) * a.weight.norm()
    pixels = images.clone().requires_grad_()
    run(robust, pixels)[0].backward()
    attacked = (pixels.detach() - epsilon * pixels.grad.sign()).clamp(0, 1)
    attacked_value, attacked_features = run(robust, attacked)  # what the attack left in .grad stays there
    (value + attacked_value).backward()
    cosine, total = nn.CosineSimilarity(dim=0), 0.0
    for k, (a, b) in enumerate(zip(layers(clean), layers(robust), strict=True)):
        if a.weight.grad is not None:
            weights, gradients = cosine(b.weight, a.weight), cosine(b.weight.grad, a.weight.grad)
            outputs = cosine(attacked_features[k], features[k])
            total += ((1 + weights).sum() * gradients.abs().sum() * (1 + outputs).sum()).item()
    return total


TEXTBOOK = {name: globals()[f"textbook_{name}"] for name in SHARED + OWN}


@pytest.mark.parametrize("name", SHARED + OWN)
@pytest.mark.parametrize("network", NETWORKS)
def test_equals_its_textbook_form(network, name):
    model, images, labels = setting(network)
    expected = TEXTBOOK[name](copy.deepcopy(model), images, labels)
    # signs and quotients of gradients that cancel may hang on the last bit
    relative = {"zico": 1e-4, "gradsign": 1e-3}.get(name, 1e-9)
    assert expected != 0
    assert ncdlib.score(model, images, name, labels=labels) == pytest.approx(expected, rel=relative)


@pytest.mark.parametrize("name", SHARED + OWN)
def test_equals_its_textbook_form_under_masks(name):
    """Masks act on every pass, in float64 too; the textbook form sees the same ones where it runs as often."""
    model, images, labels = setting("plain")
    twin = copy.deepcopy(model)
    if name == "croze":
        kept = ncdlib.score(model, images, name, labels=labels, alpha=0.5, seed=3)
        assert math.isfinite(kept) and kept != ncdlib.score(model, images, name, labels=labels)
        return
    if name == "grasp":  # two passes would draw two masks: the images' masks are drawn once, and shared
        expected = finite_difference_grasp(model, images, labels, alpha=0.5, seed=3)
    elif name == "synflow":
        twin = made_positive(model)
        with masking.sam(twin, 0.5, seed=3):
            twin(torch.ones(1, *images.shape[1:], dtype=torch.float64)).sum().backward()
        expected = math.log(sum(float((m.weight.detach() * m.weight.grad).abs().sum()) for m in layers(twin)))
    else:
        with masking.sam(twin, 0.5, seed=3):
            expected = TEXTBOOK[name](twin, images, labels)
    scored = ncdlib.score(model, images, name, labels=labels, alpha=0.5, seed=3)
    assert scored == pytest.approx(expected, rel=1e-5 if name == "grasp" else 1e-7)
    if name != "l2_norm":
        assert scored != pytest.approx(ncdlib.score(model, images, name, labels=labels), rel=1e-6)


def finite_difference_grasp(model, images, labels, h=1e-4, **mask):
    """-d/dt |g|^2 / 2 as all weights grow by the factor 1 + t."""

    def squared(t):
        grown = copy.deepcopy(model)
        with torch.no_grad():
            for m in layers(grown):
                m.weight *= 1 + t
        with masking.sam(grown, mask.get("alpha", 0.0), seed=mask.get("seed", 0)):
            return sum(float((g**2).sum()) for g in backward(grown, images, labels))

    return -(squared(h) - squared(-h)) / (4 * h)


@pytest.mark.parametrize("network", ["nasbench201", "autoformer"])
def test_grasp_by_finite_differences(network):
    model, images, labels = setting(network)
    expected = finite_difference_grasp(model, images, labels, h=1e-6)
    assert ncdlib.score(model, images, "grasp", labels=labels) == pytest.approx(expected, rel=1e-4)


def test_first_derivatives_by_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.SiLU(), nn.Conv2d(2, 2, 2), nn.Flatten(), nn.Linear(2, 3)
    )
    model = model.double()
    images, labels = batch(3, 1, 4, 4, classes=3)

    def value(network):
        return float(F.cross_entropy(network(images), labels))

    h, slopes = 1e-5, {}
    with torch.no_grad():
        for k, m in enumerate(layers(model)):
            slopes[k] = torch.zeros_like(m.weight)
            for index in np.ndindex(*m.weight.shape):
                for sign in (1, -1):
                    changed = copy.deepcopy(model)
                    layers(changed)[k].weight[index] += sign * h
                    slopes[k][index] += sign * value(changed) / (2 * h)
        fisher = 0.0
        for k, m in enumerate(layers(model)):
            for channel in range(len(m.weight)):
                squares = []
                for i in range(len(images)):  # the output of one channel for one image, made a little larger and smaller
                    ends = []
                    for sign in (1, -1):
                        changed = copy.deepcopy(model)
                        layers(changed)[k].register_forward_hook(
                            lambda m, x, out, i=i, c=channel, s=sign: scaled(out, i, c, 1 + s * h)
                        )
                        ends.append(value(changed))
                    squares.append(((ends[0] - ends[1]) / (2 * h)) ** 2)
                fisher += m.weight[0].numel() * np.mean(squares) / 2
    weights = [m.weight.detach() for m in layers(model)]
    expected = {
        "grad_norm": sum(float(g.norm()) for g in slopes.values()),
        "snip": sum(float((w * slopes[k]).abs().sum()) for k, w in enumerate(weights)),
        "plain": sum(float((w * slopes[k]).sum()) for k, w in enumerate(weights)),
        "fisher": fisher,
    }
    assert ncdlib.score(model, images, list(expected), labels=labels) == pytest.approx(expected, rel=1e-5)


def scaled(out: Tensor, image: int, channel: int, factor: float) -> Tensor:
    out = out.clone()
    out[image, channel] *= factor
    return out


# A linear classifier: softmax regression, where everything has a closed form.


@pytest.fixture
def regression():
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    images, labels = batch(6, 4, classes=3)
    return model, images, labels


def test_closed_forms_of_softmax_regression(regression):
    model, images, labels = regression
    w, x = model.weight.detach().numpy(), images.numpy()
    logits = x @ w.T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = p - np.eye(3)[labels.numpy()]
    g = wrong.T @ x / 6
    along = x @ g.T  # G x for each image
    hg = (p * along - p * (p * along).sum(1, keepdims=True)).T @ x / 6
    halves = [wrong[part].T @ x[part] / 3 for part in (slice(3), slice(3, 6))]
    expected = {
        "grad_norm": np.sqrt((g**2).sum()),
        "snip": np.abs(w * g).sum(),
        "plain": (w * g).sum(),
        "l2_norm": np.sqrt((w**2).sum()),
        "grasp": -(w * hg).sum(),
        "fisher": 4 * ((logits * wrong / 6) ** 2 / 2).mean(0).sum(),
        "synflow": np.log(np.abs(w).sum()),
        "gradsign": np.abs(sum(np.sign(np.outer(a, b)) for a, b in zip(wrong, x, strict=True))).sum(),
        "zico": np.log((np.abs(np.stack(halves)).mean(0) / np.stack(halves).std(0)).sum()),
    }
    assert ncdlib.score(model, images, list(expected), labels=labels) == pytest.approx(expected, rel=1e-9)


def test_synflow_of_two_linear_layers():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
    model = nn.Sequential(first, nn.ReLU(), second)
    a, b, bias = (p.detach().abs() for p in (first.weight, second.weight, first.bias))
    hidden = a.sum(1)
    expected = math.log(float((b @ hidden).sum() + (b @ (hidden + bias)).sum()))  # a bias is passed on, and not counted
    images = torch.randn(2, 3, dtype=torch.float64)
    assert ncdlib.score(model, images, "synflow") == pytest.approx(expected, rel=1e-12)


def test_synflow_takes_buffers_at_their_magnitudes():
    class Position(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("position", torch.tensor([-1.0, 2.0, 0.5]))
            self.register_buffer("order", torch.tensor([2, 0, 1]))

        def forward(self, x):
            return (x + self.position)[:, self.order]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3, bias=False), Position(), nn.Linear(3, 2))
    hidden = model[0].weight.detach().double().abs().sum(1)
    reached = model[2].weight.detach().double().abs().sum(0)[[1, 2, 0]]  # what each hidden unit adds to the outputs
    expected = math.log(float(reached @ hidden + reached @ (hidden + torch.tensor([1.0, 2.0, 0.5]))))
    assert ncdlib.score(model, torch.randn(2, 2), "synflow") == pytest.approx(expected, rel=1e-9)
    assert model[1].position[0] == -1


def test_synflow_reads_only_the_shape_of_the_images_and_works_beyond_float32():
    model, images, _ = setting("nasbench201")
    score = ncdlib.score(model, images, "synflow")
    assert score == ncdlib.score(model, images.flip(0) * 3 + 1, "synflow")
    assert score != ncdlib.score(model, images[..., :4], "synflow")
    wide = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(40)))
    with torch.no_grad():
        for layer in wide:
            layer.weight.fill_(1.0)
    assert ncdlib.score(wide, torch.randn(2, 64), "synflow") == pytest.approx(math.log(40) + 41 * math.log(64))


def test_synflow_takes_batchnorm_out_and_leaves_other_norms():
    model, images, labels = setting("nasbench201")
    without = ncdlib.score(model, images, "synflow")
    assert (
        without == ncdlib.score(model, images, "synflow", norm="none") == ncdlib.score(model, images, "synflow", norm="bn")
    )
    twin = copy.deepcopy(model)
    with rescaling.nir(twin, "ln"):
        expected = textbook_synflow(twin, images, labels)
    assert ncdlib.score(model, images, "synflow", norm="ln") == pytest.approx(expected) and expected != pytest.approx(
        without
    )


def test_synflow_where_nothing_flows_ranks_last():
    score = ncdlib.score(nasbench201(NOTHING), batch(2, 3, 8, 8)[0], "synflow")
    assert score == -math.inf


def test_weights_without_gradient_count_nothing():
    images, labels = batch(6, 3, 8, 8)
    model, other = nasbench201(DEAD_END), nasbench201(DEAD_END)
    with torch.no_grad():
        for cell in (other[1], other[3], other[5]):
            cell.edges["0>1"].conv.weight.mul_(7)
    a, b = (ncdlib.score(m, images, SHARED + OWN, labels=labels) for m in (model, other))
    assert a.pop("l2_norm") < b.pop("l2_norm") and a == b


def test_batchnorm_cancels_what_stands_before_it_in_plain():
    torch.manual_seed(0)
    images, labels = batch(8, 3, 8, 8)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-12), nn.Flatten())
    model = nn.Sequential(body, nn.Linear(144, 5)).double()
    weights, gradients = gradient.loss_gradients(model, images, labels)
    assert abs(gradient.plain(weights[:1], gradients[:1])) < 1e-9 < abs(gradient.plain(weights[1:], gradients[1:]))


@pytest.mark.parametrize("name", ["fisher", "croze", "grasp"])
def test_activations_in_place_change_nothing(name):
    _, images, labels = setting("plain")
    a, b = (ncdlib.score(plain_network(in_place), images, name, labels=labels) for in_place in (False, True))
    assert a == pytest.approx(b, rel=1e-12)


def test_gradsign_is_a_bounded_whole_number_of_single_images():
    model, images, labels = setting("nasbench201")
    score = ncdlib.score(model, images, "gradsign", labels=labels)
    count = sum(m.weight.numel() for m in layers(model))
    assert score == int(score) and 0 < score < len(images) * count
    apart = model.requires_grad_(False), images[:1].expand(6, -1, -1, -1), labels[:1].expand(6)
    agreed = ncdlib.score(apart[0], apart[1], "gradsign", labels=apart[2])  # equal images always agree
    _, gradients = gradient.loss_gradients(model, images[:1], labels[:1])
    assert agreed == 6 * sum(int((g != 0).sum()) for g in gradients)


def test_zico_compares_the_halves():
    model, images, labels = setting("plain")
    score = ncdlib.score(model, images, "zico", labels=labels)
    within, swapped, across = torch.tensor([[2, 0, 1, 4, 5, 3], [3, 4, 5, 0, 1, 2], [0, 3, 1, 2, 4, 5]])
    for order in (within, swapped):
        assert ncdlib.score(model, images[order], "zico", labels=labels[order]) == pytest.approx(score, rel=1e-6)
    assert ncdlib.score(model, images[across], "zico", labels=labels[across]) != pytest.approx(score, rel=1e-3)
    odd = ncdlib.score(model, images[:5], "zico", labels=labels[:5])
    assert odd == pytest.approx(textbook_zico(copy.deepcopy(model), images[:5], labels[:5]), rel=1e-9)
    same = torch.cat([images[:3], images[:3]]), torch.cat([labels[:3], labels[:3]])
    assert math.isnan(ncdlib.score(model, same[0], "zico", labels=same[1]))


@pytest.mark.parametrize("network", ["nasbench201", "plain"])
def test_the_order_of_the_images_does_not_matter(network):
    model, images, labels = setting(network)
    names = [name for name in SHARED + OWN if name not in ("zico", "gradsign")]
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    a = ncdlib.score(model, images, names, labels=labels)
    b = ncdlib.score(model, images[order], names, labels=labels[order])
    assert a == pytest.approx(b, rel=1e-8)
    votes = [
        ncdlib.score(plain_network(), x, "gradsign", labels=y) for x, y in ((images, labels), (images[order], labels[order]))
    ]
    assert votes[0] == votes[1]


def test_scores_the_smallest_network_of_autoformer_in_its_own_precision():
    torch.manual_seed(0)
    space = spaces.get("autoformer_tiny")
    model = space.build(space.example, image=16, patch=8, classes=5)
    images, labels = batch(2, 3, 16, 16)
    scores = ncdlib.score(model, images.float(), SHARED + OWN, labels=labels, alpha=0.5)
    assert all(math.isfinite(score) for score in scores.values())


class Counted(nn.Module):
    """Notes the size of every batch that it sees."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.sizes = model, []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.model(x)


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (SHARED, [6]),
        (["grasp"], [6]),
        (["fisher"], [6]),
        (["synflow"], [1]),
        (["gradsign"], [1] * 6),
        (["zico"], [3, 3]),
        (["croze"], [6] * 3),
    ],
)
def test_number_of_passes(names, sizes):
    model, images, labels = setting("nasbench201")
    counted = Counted(model)
    together = ncdlib.score(counted, images, names, labels=labels)
    assert counted.sizes == sizes
    for name in names:
        assert ncdlib.score(model, images, name, labels=labels) == together[name]


@pytest.mark.parametrize(("alpha", "norm", "mode"), [(0.0, None, "train"), (0.5, "ln", "train"), (0.5, None, "eval")])
def test_the_model_is_left_as_it_was_and_the_seed_decides(alpha, norm, mode):
    model, images, labels = setting("nasbench201")
    model[1].eval()  # a mixture of modes
    model[2].requires_grad_(False)
    before, pixels = snapshot(model), images.clone()
    options = {"labels": labels, "alpha": alpha, "norm": norm, "mode": mode}
    scores = ncdlib.score(model, images, SHARED + OWN, seed=4, **options)
    assert_same(before, snapshot(model))
    assert torch.equal(images, pixels) and not images.requires_grad
    assert all(math.isfinite(score) for score in scores.values())
    torch.rand(1)  # the global state does not matter
    assert ncdlib.score(model, images, SHARED + OWN, seed=4, **options) == scores
    if alpha:
        other = ncdlib.score(model, images, SHARED + OWN, seed=5, **options)
        assert all(other[name] != scores[name] for name in scores if name != "l2_norm")


@pytest.mark.parametrize("name", OWN)
def test_an_error_on_the_way_leaves_the_model_as_it_was(name):
    class Breaks(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model, images, labels = setting("nasbench201")
    model.append(Breaks())
    before = snapshot(model)
    with pytest.raises(ValueError, match="cannot run on images.*broken"):
        ncdlib.score(model, images, name, labels=labels)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("name", ["grad_norm", *OWN])
def test_a_gradient_that_is_not_finite_gives_nan_and_names_the_layer(name):
    model, images, labels = setting("plain")
    with torch.no_grad():
        model[2].weight.mul_(1e200)
        model[6].weight.mul_(1e200)
    with pytest.warns(UserWarning, match=f"{name}: the gradient of .* is not finite: the score is nan"):
        assert math.isnan(ncdlib.score(model, images, name, labels=labels))


@pytest.mark.parametrize("name", [name for name in ["snip", *OWN] if name != "synflow"])
def test_bad_labels_and_outputs(name):
    model, images, labels = setting("plain")
    score = inspect.unwrap(ncdlib.score)
    with pytest.raises(ValueError, match=f"'{name}' needs labels"):
        score(model, images, name)
    for bad in (labels + 5, labels - 5):
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4"):
            score(model, images, name, labels=bad)
    with pytest.raises(ValueError, match=r"classifier's output of shape \(n, classes\), but the model gives \("):
        score(model[:3], images, name, labels=labels)


@pytest.mark.parametrize("name", ["snip", *OWN])
def test_a_model_without_weights_to_read(name):
    images, labels = batch(4, 5, 2, 2)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="no parameters|no convolution or linear layer"):
        ncdlib.score(pool, images, name, labels=labels)
    with pytest.raises(ValueError, match="no parameters|no convolution or linear layer"):
        ncdlib.score(nn.Sequential(nn.BatchNorm2d(5), pool).double(), images, name, labels=labels)


def test_gradsign_says_what_to_do_where_batchnorm_sees_a_single_value():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5)).double()
    images, labels = batch(4, 3, 8, 8)
    with pytest.raises(ValueError, match="gradsign runs single images, use larger ones or norm='ln': Expected more than 1"):
        ncdlib.score(model, images, "gradsign", labels=labels)
    assert ncdlib.score(model, images, "gradsign", labels=labels, norm="ln") > 0


def test_a_shared_weight_counts_once_and_a_computed_one_not_at_all():
    torch.manual_seed(0)
    images, labels = batch(4, 5, classes=5)
    first, second = nn.Linear(5, 5).double(), nn.Linear(5, 5).double()
    second.weight = first.weight
    tied = nn.Sequential(first, nn.Tanh(), second)
    scores = ncdlib.score(tied, images, SHARED + OWN, labels=labels)
    assert scores["l2_norm"] == pytest.approx(first.weight.norm().item())
    assert all(math.isfinite(score) for score in scores.values())
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 5).double())
    mixed = nn.Sequential(nn.Linear(5, 5).double(), computed)
    assert ncdlib.score(mixed, images, "l2_norm", labels=labels) == pytest.approx(mixed[0].weight.norm().item())


def test_croze_of_a_network_that_nothing_perturbs():
    """Without a step nor an attack, and with images in [0, 1], both networks are one: every cosine is 1."""
    model, images, labels = setting("plain")
    images = images.abs() / images.abs().max()
    score = robustness.croze(model, images, labels, strength=0.0, epsilon=0.0)
    expected, x = 0.0, images[:1].double()
    for module in model:
        x = module(x)
        if isinstance(module, nn.Conv2d | nn.Linear):
            places = module.weight[0].numel()
            expected += 2 * x.numel() * 2 * places * places
    assert score == pytest.approx(expected, rel=1e-9)
