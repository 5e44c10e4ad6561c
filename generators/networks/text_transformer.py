"""A decoder-only transformer that reads the bytes of a prompt and writes the tokens of an image.

Vaswani et al. 2017 (arXiv 1706.03762), with norms before the layers (Xiong et al. 2020, arXiv
2002.04745), GELU and learned positions, as GPT-2 has them. Query, key, value and output are
linear layers of their own, so that structured pruning can take heads and hidden units.

One network writes in both ways, told by what it may look at: tokens one after another, each
looking back alone, or all that are masked at once, looking everywhere (MaskGIT, Chang et al. 2022,
arXiv 2202.04200).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from generators.networks.vector_quantizer import CODES, TOKENS

BYTES = 256
"""Tokens 0 to 255 are the prompt's bytes; the codes of the image come after."""
PROMPT = 32
"""Bytes that a prompt is padded to."""
WIDTH, LAYERS, HEADS = 128, 4, 4

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values ``(N, heads, T, head width)`` of each layer, for all tokens read so far."""


class Attention(nn.Module):
    """Each token looks at those that it may look at, with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads  # stays when heads are pruned: their count is read off
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, x: Tensor, allowed: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What each token of ``x`` ``(N, T, width)`` finds, and all keys and values.

        Args:
            x: the tokens to read.
            allowed: ``(N or 1, 1, T, P + T)``, bool; None where each may look at everything.
            past: keys and values of the ``P`` tokens before them, if any.
        """
        query, key, value = (
            layer(x).unflatten(2, (-1, self.head_width)).transpose(1, 2)  # (N, heads, T, 32)
            for layer in (self.query, self.key, self.value)
        )
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        found = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.output(found.transpose(1, 2).flatten(2)), (key, value)


class Block(nn.Module):
    """Attention, then a feed-forward network, each added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),  # (N, T, 512)
            nn.GELU(),
            nn.Linear(4 * width, width),  # (N, T, 128)
        )

    def forward(
        self, x: Tensor, allowed: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The stream ``(N, T, width)`` after this block, and its keys and values."""
        found, present = self.attention(self.before_attention(x), allowed, past)
        x = x + found
        return x + self.feed_forward(x), present


class Transformer(nn.Module):
    """Tokens ``(N, T)``, int64, to logits ``(N, T, codes)`` of what each place writes."""

    def __init__(
        self, codes: int = CODES, width: int = WIDTH, layers: int = LAYERS, heads: int = HEADS
    ) -> None:
        super().__init__()
        self.mask, self.start = BYTES + codes, BYTES + codes + 1
        """Tokens that stand for what is not written yet, and before the first that is written."""
        self.tokens = nn.Embedding(BYTES + codes + 2, width)
        self.positions = nn.Embedding(PROMPT + TOKENS, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codes)
        self.apply(initialise)
        for name, parameter in self.named_parameters():
            # What is added to the stream: less of it, the more layers.
            if name.endswith(("attention.output.weight", "feed_forward.3.weight")):
                nn.init.normal_(parameter, 0.0, 0.02 / (2 * layers) ** 0.5)

    def layers(self) -> list[Block]:
        """The blocks in their order."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(
        self, tokens: Tensor, allowed: Tensor | None = None, past: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """Read ``tokens`` after those in ``past``.

        Args:
            tokens: ``(N, T)``, int64.
            allowed: what each may look at, ``(N or 1, 1, T, P + T)``, bool; None: everything.
            past: what was read before, ``P`` tokens.

        Returns:
            The logits, and the cache with these tokens too.
        """
        before = past[0][0].shape[2] if past else 0
        places = torch.arange(tokens.shape[1], device=tokens.device) + before
        x = self.tokens(tokens) + self.positions(places)  # (N, T, 128)
        present: Cache = []
        for index, block in enumerate(self.blocks):
            x, own = block(x, allowed, past[index] if past else None)
            present.append(own)
        return self.head(self.norm(x)), present  # (N, T, 128)


def looking_back(count: int, before: int = 0, device: torch.device | None = None) -> Tensor:
    """What ``count`` tokens after ``before`` others may look at, one by one: ``(T, P + T)``.

    Themselves and what came before, bool.
    """
    place = torch.arange(before + count, device=device)
    return place <= place[before:, None]


def looking_everywhere(tokens: Tensor, before: int = 0) -> Tensor:
    """What ``tokens`` ``(N, T)`` that are read at once may look at: ``(N, 1, T, P + T)``, bool.

    Tokens of the image at everything, bytes of the prompt at what came before: what was read of a
    prompt stays the same whatever is written, and is kept.
    """
    back = looking_back(tokens.shape[1], before, tokens.device)
    return back | (tokens >= BYTES)[:, None, :, None]


def initialise(module: nn.Module) -> None:
    """GPT-2's start: weights N(0, 0.02), no biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
