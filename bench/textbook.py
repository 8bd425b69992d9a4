"""The proxies as their papers and published code define them: slow, plain, independent of the library."""

import torch
from torch import nn


def published_nwot(network: nn.Module, images: torch.Tensor) -> tuple[float, torch.Tensor]:
    """NWOT as its authors run it: (log-determinant, kernel).

    A forward and backward pass marks the modules that gradients reach; then a second forward pass, in which every marked
    module whose class name holds "ReLU" adds two float products of its input's codes, on the host.
    """
    reached, kernels, handles = set(), [], []

    def mark(module: nn.Module, grad_input: tuple, grad_output: tuple) -> None:
        reached.add(module)

    def add(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if module in reached:
            x = inputs[0].reshape(len(inputs[0]), -1)
            x = (x > 0).float()
            kernels.append((x @ x.t()).cpu().double() + ((1.0 - x) @ (1.0 - x.t())).cpu().double())

    for module in network.modules():
        if "ReLU" in type(module).__name__:
            handles += [module.register_forward_hook(add), module.register_full_backward_hook(mark)]
    x = images.clone().requires_grad_(True)
    y = network(x)
    y.backward(torch.ones_like(y))
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    kernel = torch.stack(kernels).sum(0)
    return torch.linalg.slogdet(kernel)[1].item(), kernel


def kept_codes(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """All codes of one forward pass, (n, d) of ones and zeros: the input of each activation module exceeds zero."""
    kept = []
    kinds = (nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU)
    handles = [
        module.register_forward_hook(lambda m, i, o: kept.append((i[0] > 0).reshape(len(i[0]), -1)))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return torch.cat(kept, dim=1)


def kernel(codes: torch.Tensor) -> torch.Tensor:
    """K_ij = number of units on which the codes of images i and j agree, one pair at a time."""
    n = len(codes)
    return torch.tensor([[float((codes[i] == codes[j]).sum()) for j in range(n)] for i in range(n)], dtype=torch.float64)


def published_swap(network: nn.Module, images: torch.Tensor) -> int:
    """SWAP as its authors run it: keep all activations, then `torch.unique` over the rows of the (units x images) matrix."""
    return len(torch.unique(torch.sign(kept_codes(network, images).float()).T, dim=0))
