"""Import torchvision, or say how to install it. The rest of `ncdlib.training` imports this first."""

import torch

OPERATORS = "nms", "qnms"  # torchvision describes these to torch whether or not its compiled operators could be loaded

try:
    import torchvision
except ModuleNotFoundError as error:
    raise ImportError(
        f"ncdlib.training needs torchvision ({error}): pip install 'ncdlib[train]'", name="torchvision"
    ) from error
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # A torchvision compiled for CUDA beside a torch for the CPU: its operators, which detect objects, cannot be loaded, and
    # describing them fails. The transforms need none of them, so declaring their names is enough.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
