"""The transformer in PyTorch, with the keys and values of what it has read."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.networks.text_transformer import Cache, Transformer, looking_everywhere


class TorchReader:
    """A :class:`generators.text.decoding.Reader` of a module."""

    def __init__(self, transformer: Transformer) -> None:
        self.transformer = transformer.eval()
        self.codes = transformer.head.out_features
        self._past: Cache = []

    def begin(self) -> None:
        """Forget everything."""
        self._past = []

    @torch.inference_mode()
    def read(self, tokens: Tensor, *, keep: bool = True) -> Tensor:
        """Read tokens; see :class:`generators.text.decoding.Reader`."""
        tokens = tokens.to(self.transformer.head.weight.device)
        before = self._past[0][0].shape[2] if self._past else 0
        # A single token may look at everything, and needs no mask to say so.
        allowed = looking_everywhere(tokens, before) if tokens.shape[1] > 1 else None
        logits, present = self.transformer(tokens, allowed, self._past or None)
        if keep:
            self._past = present
        read: Tensor = logits.float().cpu()
        return read
