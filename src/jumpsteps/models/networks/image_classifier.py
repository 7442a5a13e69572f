"""A small residual network that names what images show; its last layer serves as features.

The layout is the nine-layer residual network of Page (2018, "How to train your ResNet"), narrower,
with the last layer averaged over the image in place of its maximum.
"""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ClassifierConfig", "ImageClassifier"]


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes; the defaults have 2.4M parameters.

    Attributes:
        classes: number of classes.
        symbols: V, the number of intensities.
        shape: C, H, W; sides are multiples of 8.
        widths: channels at full resolution and after each of three halvings. The last is D.
    """

    classes: int = 10
    symbols: int = 256
    shape: tuple[int, int, int] = (3, 32, 32)
    widths: tuple[int, int, int, int] = (40, 80, 160, 304)


def convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(channels, channels), convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ImageClassifier(nn.Module):
    """Images [B, L], of any dtype, to features [B, D], and features to scores of classes."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        first, second, third, last = config.widths
        halved = nn.MaxPool2d(2)
        self.layers = nn.Sequential(
            convolution(config.shape[0], first),
            convolution(first, second),
            halved,
            Residual(second),
            convolution(second, third),
            halved,
            convolution(third, last),
            halved,
            Residual(last),
        )
        self.head = nn.Linear(last, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """The last layer's mean over the image, [B, D], of tokens [B, L].

        Raises:
            ValueError: images of another size.
        """
        length = math.prod(self.config.shape)
        if x.ndim != 2 or x.shape[1] != length:
            raise ValueError(
                f"the classifier reads images [B, {length}], got shape {list(x.shape)}; use an "
                "extractor for this size"
            )
        image = x.view(-1, *self.config.shape).to(self.head.weight.dtype)
        hidden = self.layers(2 * image / (self.config.symbols - 1) - 1)
        return F.adaptive_avg_pool2d(hidden, 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes, [B, classes]."""
        return self.head(self.features(x))
