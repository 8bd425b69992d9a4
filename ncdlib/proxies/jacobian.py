"""Proxies that read how the output moves with each image, or with the weights at each image."""

import math

from jaxtyping import Float, Float64, Int
import torch
from torch import Tensor, nn

from ncdlib.proxies.gradient import gradients_of, parameters, run

K = 1e-5  # what jacov and epe_nas add before they take a logarithm or divide
MANY = 100  # classes; above it, epe_nas compares classes rather than adding them up


def jacov(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """-sum over i of log(v_i + k) + 1 / (v_i + k), k = 1e-5: v are the eigenvalues of the images' correlation matrix.

    Row i of what is correlated is the gradient of the summed output by image i, flattened. Mellor et al. 2020, the first
    version of "Neural architecture search without training" (arXiv:2006.04647v1); `jacob_cov` in Abdelfattah et al. 2021
    (arXiv:2101.08134). Needs no labels; larger is better. Normalisation stays as it is: with BatchNorm in training mode,
    the gradient by an image holds what it does to the outputs of the others.

    At most about -n, where no two images correlate; lower by 1 / k for each image that copies another. nan where the
    gradient of an image has no variance, as where nothing of it reaches the output. Terms are that large, so correlation
    and eigenvalues are taken in float64, as in the published code; the solver is that for symmetric matrices, which finds
    no complex eigenvalues.
    """
    kernel = correlation(input_gradients(model, images)[0])
    if not kernel.isfinite().all():
        return math.nan
    v = torch.linalg.eigvalsh(kernel) + K
    return -float((v.log() + 1 / v).sum())


def epe_nas(model: nn.Module, images: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> float:
    """How gradients by images correlate within each class, from s_c = sum of log(|correlation| + k), k = 1e-5.

    Rows are those of `jacov`; the sum is over the correlation matrix of the images of class c. With up to 100 classes in
    the model's output the score is the sum over c of |s_c|, larger where images of a class correlate less. With more, s_c
    is divided by the number of images of the class, and the score is the sum over all ordered pairs of |s_c - s_d|, over
    the number of classes: each pair counts twice. Larger is better.

    Lopes et al. 2021 (arXiv:2102.08099), as their code runs it. It takes every data set for one of 10 classes unless told
    otherwise; this counts the outputs, as NASLib does. Needs labels, reads no loss. Normalisation stays as it is.

    A class of one image has the correlation matrix 1: up to 100 classes it adds log(1 + k), next to nothing; above 100 it
    is left out, as by an error that the published code catches. So a batch should hold several images of a class. nan
    where the gradient of an image that counts has no variance, and where no class is left.
    """
    rows, output = input_gradients(model, images)
    if output.dim() != 2:
        raise ValueError(f"epe_nas needs a classifier's output of shape (n, classes), the model gives {tuple(output.shape)}")
    many = output.shape[1] > MANY
    classes = [rows[labels == label] for label in labels.unique()]
    if many:
        classes = [own for own in classes if len(own) > 1]
    if not classes:
        return math.nan
    s = torch.stack([(correlation(own).abs() + K).log().sum() / (len(own) if many else 1) for own in classes])
    return float((s[:, None] - s).abs().sum() / len(s) if many else s.abs().sum())


def ntk(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """-(largest / smallest eigenvalue) of the neural tangent kernel K_ij = <g_i, g_j>: minus its condition number.

    g_i is the gradient of the summed logits of image i by the weights: all parameters whose name holds "weight", those of
    normalisation too; not biases, nor what is named otherwise. Chen et al. 2021 (TE-NAS, arXiv:2102.11535), Sec. 3.1.1. A
    large condition number is bad, so it is returned with a minus sign: at most -1, larger is better. Needs no labels.

    Normalisation stays as it is: with BatchNorm in training mode g_i depends on the whole batch, so that the n gradients
    take n backward passes through one graph of the batch. The authors draw weights by Kaiming's normal distribution,
    several times (build with init="kaiming"); here the network is scored as built. All gradients are held at once, n times
    the weights.

    nan where the smallest eigenvalue is not positive to working precision, as where two images are equal. The published
    code multiplies gradients and solves in float32, where a ratio beyond about 1e6 is noise, of either sign, and takes
    1e5 for an undefined one; float64 resolves ratios up to the rounding of the gradients themselves.
    """
    held = parameters(model)
    weights = {name: parameter for name, parameter in held.items() if "weight" in name}
    if not weights:
        raise ValueError("ntk reads gradients by parameters named weight, but the model has none")
    output = run(model, held, images)
    n = len(output)
    by_image = [gradients_of(output[i].sum(), weights, retain_graph=i < n - 1) for i in range(n)]
    kernel = torch.zeros(n, n, dtype=torch.float64, device=output.device)
    for by_weight in zip(*by_image, strict=True):
        g = torch.stack([gradient.flatten() for gradient in by_weight]).double()  # (n, entries of a weight)
        kernel += g @ g.T
    v = torch.linalg.eigvalsh(kernel)
    # Gradients carry rounding errors of some eps, and eigenvalues are squares of them; the solver adds n eps of its own.
    smallest = max((100 * torch.finfo(output.dtype).eps) ** 2, n * torch.finfo(torch.float64).eps) * v[-1]
    return -float(v[-1] / v[0]) if v[0] > smallest else math.nan


def input_gradients(model: nn.Module, images: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, "n d"], Tensor]:
    """The gradient of the summed output by each image, flattened, and the output. Zeros where the output reads no image.

    The weights are held fast, so that the backward pass goes to the images only.
    """
    images = images.detach().requires_grad_()
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()}
    output = run(model, fixed, images)
    if not output.requires_grad:
        return torch.zeros_like(images).flatten(1), output
    (gradient,) = gradients_of(output.sum(), {"the summed output by the images": images})
    return gradient.flatten(1), output.detach()


def correlation(rows: Float[Tensor, "n d"]) -> Float64[Tensor, "n n"]:
    """Pearson's correlation of rows, in float64; nan wherever a row takes part that has no variance."""
    rows = rows.double()
    rows = rows - rows[:, :1]  # a row of one value is then exactly zero, and so is its variance
    rows = rows - rows.mean(1, keepdim=True)
    covariance = rows @ rows.T
    scale = covariance.diagonal().rsqrt()
    return (covariance * scale * scale[:, None]).clamp(-1, 1)
