"""A small convolutional classifier of MNIST digits: the judge of the digit generators."""

from __future__ import annotations

from torch import Tensor, nn

from genslim.signature import BATCH, Input, Output, Prior, Signature


class DigitClassifier(nn.Module):
    """Images ``(N, 1, 32, 32)`` in [-1, 1] to logits ``(N, 10)``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),  # (N, 32, 32, 32)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 32, 16, 16)
            nn.Conv2d(32, 64, 3, padding=1, bias=False),  # (N, 64, 16, 16)
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 64, 8, 8)
            nn.Conv2d(64, 64, 3, padding=1, bias=False),  # (N, 64, 8, 8)
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 64, 4, 4)
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(64 * 16, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the ten digits."""
        logits: Tensor = self.net(images)
        return logits


def signature() -> Signature:
    """The contract of :class:`DigitClassifier`; it judges images, so its output is no picture."""
    return Signature(
        inputs=(Input("images", (BATCH, 1, 32, 32), Prior("uniform")),),
        outputs=(Output("logits", (BATCH, 10), (-30.0, 30.0)),),
    )
