"""hyperIQA: how good a picture looks, 0 to 100, without another one to compare it with.

S. Su et al., "Blindly assess image quality in the wild guided by a self-adaptive hyper network", CVPR 2020: what the
picture shows decides the weights of the small net that judges it. Names of modules are those of the published weights,
koniq_pretrained.pkl.
"""

import torch
from einops import rearrange
from torch import nn

from ..errors import InputError
from .loading import FixedNet

SIZE = 224  # height and width of what is judged
SIDE = SIZE // 32  # of the backbone's last map
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
PARTS = ((16, 16), (32, 16), (64, 16), (None, 176))  # of the judged vector, by stage: channels before pooling, entries
TARGET = (224, 112, 56, 28, 14)  # widths of the judging net, which ends in one more layer, to 1
CODE = 112  # channels of the map that its weights are made from


class Backbone(nn.Module):
    """ResNet-50 that gives its last map (n, 2048, 7, 7) and the vector to judge, (n, 224), gathered from all stages."""

    def __init__(self):
        try:
            from torchvision.models import resnet50
        except ImportError as error:
            raise InputError("the hyperIQA net needs the torchvision package: pip install torchvision") from error
        super().__init__()
        resnet = resnet50()
        self.conv1, self.bn1, self.maxpool = resnet.conv1, resnet.bn1, resnet.maxpool
        for i, (squeezed, entries) in enumerate(PARTS, start=1):
            channels, side = 128 * 2**i, SIZE // 2 ** (i + 1)
            pool = [nn.AvgPool2d(SIDE, stride=SIDE)]
            if squeezed is not None:
                pool.insert(0, nn.Conv2d(channels, squeezed, 1, bias=False))
            setattr(self, f"layer{i}", getattr(resnet, f"layer{i}"))
            setattr(self, f"lda{i}_pool", nn.Sequential(*pool))
            setattr(self, f"lda{i}_fc", nn.Linear((squeezed or channels) * (side // SIDE) ** 2, entries))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        parts = []
        for i in range(1, len(PARTS) + 1):
            x = getattr(self, f"layer{i}")(x)
            pooled = getattr(self, f"lda{i}_pool")(x)
            parts.append(getattr(self, f"lda{i}_fc")(pooled.flatten(1)))
        return x, torch.cat(parts, dim=1)


class HyperIQA(FixedNet):
    """The backbone, and the layers that make a judging net out of what it sees."""

    title = "hyperIQA net"

    def __init__(self):
        super().__init__()
        self.res = Backbone()
        self.conv1 = nn.Sequential(
            nn.Conv2d(2048, 1024, 1), nn.ReLU(), nn.Conv2d(1024, 512, 1), nn.ReLU(), nn.Conv2d(512, CODE, 1), nn.ReLU()
        )
        for i, (width, out) in enumerate(zip(TARGET[:-1], TARGET[1:], strict=True), start=1):
            # Every pixel of every channel that it makes is one weight.
            setattr(self, f"fc{i}w_conv", nn.Conv2d(CODE, width * out // SIDE**2, 3, padding=1))
            setattr(self, f"fc{i}b_fc", nn.Linear(CODE, out))
        self.fc5w_fc = nn.Linear(CODE, TARGET[-1])
        self.fc5b_fc = nn.Linear(CODE, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores (n,) of the central 224 x 224 pixels of (n, 3, h, w) RGB floats in [0, 1], each picture by itself.

        The published weights give 0 (bad) to 100 (excellent).
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3 or min(pictures.shape[2:]) < SIZE:
            raise ValueError(f"pictures have shape {tuple(pictures.shape)}: give (n, 3, h, w), h and w from {SIZE} up")
        top, left = (round((side - SIZE) / 2) for side in pictures.shape[2:])
        centre = pictures[:, :, top : top + SIZE, left : left + SIZE]
        mean, std = (centre.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        features, x = self.res((centre - mean) / std)
        code = self.conv1(features)
        pooled = code.mean(dim=(2, 3))
        for i, out in enumerate(TARGET[1:], start=1):
            weight = rearrange(getattr(self, f"fc{i}w_conv")(code), "n c h w -> n (c h w)").unflatten(1, (out, -1))
            bias = getattr(self, f"fc{i}b_fc")(pooled)
            x = (torch.einsum("noi,ni->no", weight, x) + bias).sigmoid()
        return (self.fc5w_fc(pooled) * x).sum(dim=1) + self.fc5b_fc(pooled)[:, 0]
