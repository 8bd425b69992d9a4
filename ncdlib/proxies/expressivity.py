"""Proxies that read feature maps: how far they move, how their channels correlate, and the parts of AZ-NAS."""

from collections.abc import Callable
import math

from jaxtyping import Float
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.weak import WeakTensorKeyDictionary

from ncdlib import masking
from ncdlib.activations import hooked
from ncdlib.proxies.gradient import gradients_of
from ncdlib.proxies.jacobian import correlation

BatchNorm = nn.modules.batchnorm._BatchNorm


def zen(model: nn.Module, images: Float[Tensor, "n ..."], repeats: int = 32, gamma: float = 1e-2) -> float:
    """Mean over weights w ~ N(0, 1) of log E||f(x) - f(x + gamma y)||_1 + sum over BatchNorms of log sqrt(mean variance).

    f is the feature map before the global average pooling, x and y are N(0, 1), gamma = 0.01; variances, unbiased, are
    those of the input of each BatchNorm layer at x, averaged over channels. They give back the scale that normalisation
    takes out of f. Lin et al. 2021 (Zen-NAS, arXiv:2102.01063), Algorithm 1, with the norm and the means of their code.

    - Needs no labels. `images` lend their shape, dtype and device, and the model its structure: convolution and linear
      layers get weights from N(0, 1) and biases of zero, BatchNorm and GroupNorm ones and zeros, what is left stays.
    - Needs BatchNorm in training mode, so it is not for transformers, nor for other normalisations: ValueError.
    - f is the input of the `nn.AdaptiveAvgPool2d` that runs last; ValueError where none runs.
    - Takes two forward passes a repeat. 32 is the default of the authors' script; their search makes one repeat.
    - Their code reads `running_var` for the variance: after one repeat 0.81 + 0.19 times it, later a moving average over
      the repeats. So their search's score is lower by about 0.83 a layer than this one, and favours fewer layers.
    - A BatchNorm whose input does not vary, as behind zeros, scales nothing and adds nothing. nan where f does not move.
    - SAM masks x and x + gamma y differently: the distance is then mostly that of two masks.
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if not norms:
        raise ValueError(
            "zen needs BatchNorm, but the model runs with none: score a CNN that has it, with norm=None or 'bn'"
        )
    if not all(norm.training for norm in norms):
        raise ValueError("zen reads the batch's own variances: score with mode='train'")
    scores, log_scales = [], []

    def scale(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        spread = x - x.mean([0, *range(2, x.dim())], keepdim=True)
        variance = float(spread.square().sum()) / (x.numel() - x.shape[1])
        if variance > 0:
            log_scales.append(math.log(variance) / 2)

    with torch.no_grad():
        for _ in range(repeats):
            weights, x = _gaussian(model), _noise(images)
            log_scales.clear()
            with hooked(norm.register_forward_pre_hook(scale) for norm in norms):
                feature = _before_pooling(model, weights, x)
            moved = feature - _before_pooling(model, weights, x + gamma * _noise(images))
            distance = float(moved.abs().flatten(1).sum(1).mean())
            scores.append(math.log(distance) + sum(log_scales) if 0 < distance < math.inf else math.nan)
    return float(np.mean(scores))


def meco(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """sum over module outputs of the smallest eigenvalue of their channels' correlation matrix, for the first image alone.

    Jiang et al. 2023 (MeCo, NeurIPS 2023). As in their code every module counts that runs, whatever its kind, containers
    and the network itself too, and each time it runs. Needs no labels; larger is better. One forward pass of one image:
    BatchNorm in training mode takes its statistics from that image's positions, and has to find more than one. The
    authors' image is random; here it is the batch's first.

    A row of what is correlated is output[0, i], flattened: a channel over its positions; for a transformer's (1, tokens,
    features) a token over its features. What is no tensor of at least two dimensions is passed over. A row without
    variance counts as uncorrelated even with itself, so that the eigenvalue is 0.

    The matrix is positive semidefinite, its rank below the length of a row: with as many rows as that the eigenvalue is
    exactly 0 (the published code adds its solver's noise, some 1e-7), and nothing need be solved. A tensor that several
    modules put out, as a container and its last module do, is solved once and counted each time.
    """
    matrices: list[tuple[Tensor, list[int]]] = []  # a correlation matrix, how often it counts
    seen = WeakTensorKeyDictionary()  # a living tensor -> its version, its count

    def correlate(module: nn.Module, inputs: tuple, output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() < 2 or not output.is_floating_point() or not output.numel():
            return
        version, times = seen.get(output, (None, None))
        if version == output._version:
            times[0] += 1
            return
        rows, times = output[0].reshape(output.shape[1], -1), [1]
        seen[output] = output._version, times
        if len(rows) < rows.shape[1]:
            matrices.append((correlation(rows), times))

    with torch.no_grad(), hooked(module.register_forward_hook(correlate) for module in model.modules()):
        model(images[:1])
    total = 0.0
    for size in sorted({len(matrix) for matrix, _ in matrices}):
        same, times = zip(*((matrix, count[0]) for matrix, count in matrices if len(matrix) == size), strict=True)
        stack = torch.stack(same)
        undefined = ~stack.isfinite().all(2, keepdim=True).all(1, keepdim=True)  # a row without variance
        smallest = torch.linalg.eigvalsh(stack.masked_fill(undefined, 0))[:, 0]
        total += float(smallest @ smallest.new_tensor(times))
    return total


def az_expressivity(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """sum over blocks of the entropy of p: the eigenvalues of the covariance of the block's channels, divided by their sum.

    entropy = -sum of p log(p + 1e-8), the covariance taken over images and positions. Lee & Ham 2024 (AZ-NAS,
    arXiv:2403.19232), Sec. 3. Needs no labels; larger is better; one forward pass; normalisation stays as it is. Blocks
    are those of `blocks`. nan where a block's output is constant, which the authors call -inf.

    The network is scored as built, on the images given; the authors draw weights by Kaiming's normal distribution by
    fan-in (build with init="kaiming") and images from N(0, 1). In float32, as theirs, a singular covariance may show
    eigenvalues below -1e-8 of their sum, whose logarithm spoils the score; in float64 they add nothing, as they should.
    """
    return float(sum(_entropies(model, images)))


def az_progressivity(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """The smallest step in entropy from one block to the next: min over l of e_(l+1) - e_l, with e as in `az_expressivity`.

    Lee & Ham 2024 (AZ-NAS, arXiv:2403.19232), Sec. 3; the same remarks. Their code for transformers leaves it out.
    """
    return float(np.min(np.diff(_entropies(model, images))))  # nan where one is nan


def az_trainability(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """Mean over blocks of 2 - s - 1 / (s + 1e-6): s is the largest singular value of the block's mean Jacobian, estimated.

    Each output is given a gradient g of random signs. With h what a backward pass makes of it at the output of the block
    before, the matrix is the mean of h g^T over images and positions; a block that shrinks the map by r has its h cut into
    r x r channels a position. At most about 0, near s = 1. Lee & Ham 2024 (AZ-NAS, arXiv:2403.19232), Sec. 3, with the
    small number of their code. Needs no labels; normalisation stays as it is; one forward pass and one backward pass.

    A network scores -inf where a block is the identity, as in the authors' code, which ranks it last; about -1e6 / blocks
    where one passes no gradient on. Their code for transformers runs in eval mode, and takes the sum after attention for
    a block's output too: no module puts that out, so it is not seen here. Blocks, weights, images: see `az_expressivity`.
    """
    scores: list[float] = []
    before: Tensor | None = None
    generator = torch.Generator(images.device).manual_seed(int(torch.randint(2**62, ())))

    def step(after: Tensor) -> Tensor:
        nonlocal before
        if before is not None:
            scores.append(_gain(before, after, generator, f"block {len(scores) + 1}"))
        before = after.detach().requires_grad_()  # so one block's graph is held at a time
        return before.clone()  # what comes next may work in place

    _run(model, {name: parameter.detach() for name, parameter in model.named_parameters()}, images, step)
    return float(np.mean(scores))


def az_nas(
    expressivity: Float[np.ndarray, " n"],
    progressivity: Float[np.ndarray, " n"],
    trainability: Float[np.ndarray, " n"],
    flops: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """sum over the four scores of log(rank / n), over a set of n networks: rank 1 is the smallest, ties share their mean.

    Lee & Ham 2024 (AZ-NAS, arXiv:2403.19232), Sec. 3. At most 0, for a network that is best in all four. A score that is
    nan counts as -inf, the smallest, as in their code: so the result is always finite. It is a property of the set:
    another network added may reorder the rest. Their search over transformers leaves progressivity out.
    """
    from scipy.stats import rankdata  # here, because it takes a second to import

    parts = [np.where(np.isnan(part), -np.inf, part) for part in (expressivity, progressivity, trainability, flops)]
    return sum(np.log(rankdata(part) / len(part)) for part in parts)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The primary blocks of a network: modules made of modules that lie directly inside an `nn.Sequential` or `ModuleList`.

    Only the outermost containers that hold at least two such modules count, for what a block is made of is no block. In
    NAS-Bench-201 these are the stem, all cells and the residual blocks, not the head's single layers: just what the code
    of AZ-NAS takes. In DARTS they are the cells, in a transformer its encoder layers. Without such a container,
    convolution and linear layers stand in.
    """
    found: list[nn.Module] = []

    def open_up(module: nn.Module) -> None:
        inner = [child for child in module.children() if next(child.children(), None) is not None]
        if isinstance(module, nn.Sequential | nn.ModuleList) and len(inner) > 1:
            found.extend(inner)
        else:
            for child in inner:
                open_up(child)

    open_up(model)
    return list(dict.fromkeys(found)) or [module for module in model.modules() if isinstance(module, masking.LAYERS)]


def _entropies(model: nn.Module, images: Float[Tensor, "n ..."]) -> list[float]:
    found: list[float] = []

    def entropy(output: Tensor) -> None:
        x = _positions(output).flatten(0, -2).double()
        x = x - x.mean(0)
        covariance = x.T @ x / len(x)
        finite = bool(covariance.isfinite().all())  # the solver takes no other
        values = torch.linalg.eigvalsh(covariance) if finite else covariance.new_tensor(math.nan)
        p = values / values.sum()
        found.append(-float((p * (p + 1e-8).log()).sum()))

    with torch.no_grad():
        _run(model, {}, images, entropy)
    return found


def _gain(before: Float[Tensor, "n ..."], after: Float[Tensor, "n ..."], generator: torch.Generator, block: str) -> float:
    """2 - s - 1 / (s + 1e-6) for one block, from its input and its output."""
    g = 2 * masking.bernoulli(_positions(after).shape, 0.5, generator, after.dtype) - 1  # channels last, which is faster
    g, h = g.movedim(-1, 1) if after.dim() > 3 else g, torch.zeros_like(before)
    if after.requires_grad:  # zeros do not
        (h,) = gradients_of((g * after).sum(), {f"the output of {block} by that of the block before": before})
    if h.shape == g.shape and torch.equal(h, g):
        return -math.inf
    if h.dim() == g.dim() == 4 and h.shape[2] % g.shape[2] == 0:
        h = nn.functional.pixel_unshuffle(h, h.shape[2] // g.shape[2])
    if h.dim() != g.dim() or _positions(h).shape[:-1] != _positions(g).shape[:-1]:
        shapes = f"{tuple(before.shape)} to {tuple(after.shape)}"
        raise ValueError(f"{block} goes from {shapes}: trainability needs positions that stay, or shrink by a whole number")
    h, g = (_positions(x).flatten(0, -2).double() for x in (h, g))
    jacobian = h.T @ g / len(g)
    gram = jacobian @ jacobian.T if len(jacobian) < jacobian.shape[1] else jacobian.T @ jacobian
    s = math.sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0))
    return 2 - s - 1 / (s + 1e-6)


def _run(model: nn.Module, weights: dict[str, Tensor], images: Tensor, see: Callable[[Tensor], Tensor | None]) -> None:
    """Run the model and show each block's output in turn; what `see` returns, if anything, takes the output's place.

    Outputs that are not tensors, or have shape (n, features), have no positions and are skipped.
    """
    shown = 0

    def show(block: nn.Module, inputs: tuple, output: object) -> Tensor | None:
        nonlocal shown
        if not isinstance(output, Tensor) or output.dim() < 3:
            return None
        shown += 1
        return see(output)

    with hooked(block.register_forward_hook(show) for block in blocks(model)):
        functional_call(model, weights, (images,))
    if shown < 2:
        told = f"but in this model {shown} put out a feature map"
        raise ValueError(f"AZ-NAS compares blocks, {told}: write blocks as modules in an nn.Sequential or nn.ModuleList")


def _positions(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """x with its channels last: they are dimension 1 of (n, c, *space), and already last in (n, tokens, c)."""
    return x.movedim(1, -1) if x.dim() > 3 else x


def _before_pooling(model: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The input of the last `nn.AdaptiveAvgPool2d` that runs."""
    last: list[Tensor] = []

    def keep(pool: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        last[:] = inputs[:1]

    pools = [module for module in model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    with hooked(pool.register_forward_pre_hook(keep) for pool in pools):
        functional_call(model, weights, (images,))
    if not last:
        raise ValueError("zen reads the features before an nn.AdaptiveAvgPool2d, but none runs: write the pooling as one")
    return last[0]


def _gaussian(model: nn.Module) -> dict[str, Tensor]:
    """New weights by name: N(0, 1) for convolutions and linear layers, biases zero, normalisation one and zero."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for prefix, module in model.named_modules():
        if isinstance(module, (*masking.LAYERS, BatchNorm, nn.GroupNorm)):
            draw = torch.randn_like if isinstance(module, masking.LAYERS) else torch.ones_like
            made = {f"{prefix}.weight".lstrip("."): draw, f"{prefix}.bias".lstrip("."): torch.zeros_like}
            weights |= {name: make(weights[name]) for name, make in made.items() if name in weights}
    return weights


def _noise(images: Tensor) -> Tensor:
    """N(0, 1) draws shaped and laid out as the images: the same draws in every memory layout."""
    return torch.empty_like(images).copy_(torch.randn(images.shape, dtype=images.dtype, device=images.device))
