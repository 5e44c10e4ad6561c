"""Supervised classification with cross-entropy, and the accuracy on images held apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from generators.data.mnist import Digits
from generators.training.objective import Objective, linear_decay


class Classification(Objective):
    """A classifier of images, judged by its accuracy on ``test``."""

    def __init__(self, classifier: nn.Module, test: Digits, *, seed: int, lr: float = 2e-3) -> None:
        super().__init__(seed)
        self.test = test
        self.lr = lr
        self.networks = {"classifier": classifier.to(memory_format=torch.channels_last)}  # type: ignore[call-overload]
        self.optimisers = {
            "classifier": torch.optim.AdamW(classifier.parameters(), lr, weight_decay=1e-2)
        }

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step on images shifted by up to two pixels, the only augmentation digits need."""
        dx, dy = torch.randint(-2, 3, (2,), generator=self.random).tolist()
        logits = self.networks["classifier"].train()(images.roll((dy, dx), (2, 3)))
        loss = cross_entropy(logits, labels, label_smoothing=0.02)
        return {"loss": self.step("classifier", loss, self.lr * linear_decay(progress, start=0.2))}

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """The share of ``test`` that is classified right."""
        classifier = self.product()
        right = 0
        for images, labels in zip(
            self.test.images.split(500), self.test.labels.split(500), strict=True
        ):
            right += int((classifier(images).argmax(1) == labels).sum())
        return {"test_accuracy": right / len(self.test.labels)}

    def product(self) -> nn.Module:
        """The classifier."""
        return self.bare("classifier").eval()
