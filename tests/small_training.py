"""What the tests of training share: a network that is trained in no time, a recipe for it, a few digits."""

import torch
from torch import nn

from ncdlib.training import data
from ncdlib.training.recipes import RECIPES

QUICK = {"progress": False, "device": "cpu"}
DIGITS = data.digits(train=33, valid=20)
PLAIN = RECIPES["darts_cifar10"].short(3, batch_size=16, auxiliary_weight=0.0, drop_path=0.0)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


class Tiny(nn.Module):
    """The hook sees each training batch before it is used."""

    def __init__(self, hook=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))
        self.hook = hook

    def forward(self, x):
        if self.training and self.hook:
            x = self.hook(x)
        return self.body(x)


def tiny(seed=0, hook=None):
    torch.manual_seed(seed)
    return Tiny(hook)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(net):
    return torch.cat([value.double().flatten() for value in net.state_dict().values()])
