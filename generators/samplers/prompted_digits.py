"""Inputs for the compression of text to image: what the shipped network itself writes.

The entry point ``prompted-digits`` in the group ``genslim.samplers``. No data are needed: prompts
are drawn, the shipped network writes their images' tokens, and half of the sequences are given as
they are read one after another, half with places masked (LLM-QAT, Liu et al. 2023, arXiv
2305.17888, does so with text).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from generators.networks.text_to_image import TextImageModel
from generators.networks.text_transformer import BYTES
from generators.text import prompts
from generators.text.decoding import one_after_another
from generators.text.eager import TorchReader
from generators.training.language_model import lesson

POOL = 2048
"""Sequences that are written for a seed; draws take from them, in other orders, masked anew."""


def prompted_digits(count: int, random: torch.Generator) -> Tensor:
    """``count`` inputs of :class:`generators.networks.text_to_image.TextImageModel`.

    Args:
        count: how many.
        random: its seed says what is written, and it draws which of that, and what is masked.

    Returns:
        Whole numbers ``(count, 81)``, float32.
    """
    asked, codes = pool(random.initial_seed())
    order = torch.cat([torch.randperm(POOL, generator=random) for _ in range(-(-count // POOL))])[
        :count
    ]
    return taught(asked[order], codes[order], shipped().codes, random)


def taught(asked: Tensor, codes: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Prompts ``(N, 32)`` and codes ``(N, 49)`` as inputs, half of them masked, in any order."""
    tokens = lesson(asked, codes, count, random).tokens
    tokens[:, asked.shape[1] :] -= BYTES
    return tokens[torch.randperm(len(tokens), generator=random)].float()


@lru_cache(maxsize=8)
def pool(seed: int) -> tuple[Tensor, Tensor]:
    """The bytes of prompts, and the codes that the shipped network writes for them."""
    random = torch.Generator().manual_seed(seed)
    digits = torch.randint(10, (POOL,), generator=random)
    wording, writing = torch.randint(2**31, (2,), generator=random).tolist()
    asked = prompts.encode(prompts.draw(digits.tolist(), wording))
    reader = TorchReader(shipped().transformer)
    return asked, one_after_another(reader, asked, temperature=1.0, top_p=None, seed=writing)


@lru_cache(maxsize=1)
def shipped() -> TextImageModel:
    """The shipped ``text-mnist``.

    Raises:
        UserError: its weights are not there.
    """
    from generators.catalogue import entry

    model = entry("text-mnist").load()
    assert isinstance(model, TextImageModel)
    return model
