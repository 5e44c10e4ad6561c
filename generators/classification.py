"""Supervised classification with cross-entropy, and the accuracy on images held apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from generators.mnist import Digits
from generators.objective import Objective, linear_decay


class Classification(Objective):
    """A classifier of images, judged by its accuracy on ``test``."""

    def __init__(self, classifier: nn.Module, test: Digits, *, seed: int, lr: float = 2e-3) -> None:
        self.classifier: nn.Module = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.test = test
        self.lr = lr
        self.random = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.AdamW(classifier.parameters(), lr, weight_decay=1e-2)

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step on images shifted by up to two pixels, the only augmentation digits need."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * linear_decay(progress, start=0.2)
        dx, dy = torch.randint(-2, 3, (2,), generator=self.random).tolist()
        self.classifier.train()
        logits = self.classifier(images.roll((dy, dx), (2, 3)))
        loss = cross_entropy(logits, labels, label_smoothing=0.02)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.item()}

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
        return self.classifier.eval()
