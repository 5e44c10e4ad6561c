"""What the shipped digit classifier sees in an image, for distances between sets of digits."""

from __future__ import annotations

from torch import Tensor, nn


class DigitFeatures(nn.Module):
    """Images ``(N, 1, 32, 32)`` in [-1, 1] to what the last layer reads, ``(N, 1024)``.

    ``image_shape`` and ``value_range`` say so to whoever finds the network as an entry point.
    """

    image_shape = (1, 32, 32)
    value_range = (-1.0, 1.0)

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        net = classifier.get_submodule("net")
        assert isinstance(net, nn.Sequential)
        self.net = net[:-1]  # dropout before the last layer does nothing in evaluation mode

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        features: Tensor = self.net(images)
        return features


def digit_features() -> nn.Module:
    """The features of the shipped classifier: the entry point ``digits``.

    Raises:
        UserError: its weights are not there.
    """
    from generators.catalogue import entry

    return DigitFeatures(entry("digit-classifier").load()).eval()
