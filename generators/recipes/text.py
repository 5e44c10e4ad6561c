"""How text to image is trained: networks put together with an objective and a judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from generators.catalogue import entry
from generators.data.mnist import Digits
from generators.judging.asked import judge_asked
from generators.networks.text_to_image import TextImageModel, drawn
from generators.networks.text_transformer import Transformer
from generators.networks.vector_quantizer import VectorQuantizedAutoencoder
from generators.text import prompts
from generators.text.decoding import Reader, many_at_once, one_after_another
from generators.text.eager import TorchReader
from generators.training.objective import Objective
from generators.training.text_to_image import TextToImage


def text_mnist(test: Digits, seed: int, *, judged: int = 2000) -> Objective:
    """Prompts to digits, judged by the shipped digit classifier on so many pictures."""
    torch.manual_seed(seed)
    return TextToImage(
        VectorQuantizedAutoencoder(),
        Transformer(),
        judge=partial(judge_drawn, entry("digit-classifier").load(), count=judged),
        held_apart=test.images[:1000],
        seed=seed,
    )


def judge_drawn(
    classifier: nn.Module, model: TextImageModel, count: int = 2000
) -> dict[str, float]:
    """Both ways of decoding, and prompts in wordings that training never sees.

    Figures of one-by-one decoding have plain names.
    """
    reader = TorchReader(model.transformer)

    def draw(write: Callable[[Reader, Tensor], Tensor], asked: list[str]) -> Tensor:
        return drawn(model, write(reader, prompts.encode(asked))).cpu()

    one_by_one = partial(draw, one_after_another)
    figures = judge_asked(classifier, one_by_one, count=count)
    masked = judge_asked(classifier, partial(draw, many_at_once), count=count)
    figures |= {f"{name}_masked": value for name, value in masked.items()}
    apart = judge_asked(classifier, one_by_one, count=count // 4, kind="held apart")
    return {**figures, "asked_held_apart": apart["asked"]}
