"""Text to image in one pass: a prompt and the tokens so far become the picture to expect.

Drawing a picture runs a transformer many times, and what is compressed is one network that runs
once: the transformer on a prompt and all its image tokens, as in training, then the mean of the
codes' vectors by the probabilities that it gives, then the decoder of the vector-quantized
autoencoder. Where two networks give every token the same probabilities they give the same picture,
so that its SSIM, and distillation to it, watch over all that decoding needs (data-free calibration
on samples of the network's own: LLM-QAT, Liu et al. 2023, arXiv 2305.17888). Decoding itself is in
:mod:`generators.text`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from generators.networks.text_transformer import (
    BYTES,
    PROMPT,
    Transformer,
    looking_back,
    looking_everywhere,
)
from generators.networks.vector_quantizer import CODES, DIMENSION, SIDE, TOKENS, Decoder
from genslim.signature import BATCH, Input, Output, Sampler, Signature

LENGTH = PROMPT + TOKENS
MASK, START = CODES, CODES + 1
"""Beside the codes 0 to 127: a token that is not written yet, and what stands before the first."""


class TextImageModel(nn.Module):
    """Numbers ``(N, 81)`` of a prompt and of tokens to pictures ``(N, 1, 32, 32)`` in [-1, 1].

    The numbers are whole and float32, as generators' inputs are: 32 bytes of the prompt, 0 behind
    its end, then 49 tokens. Tokens that begin with ``START`` are read one after another, each to
    write the next; otherwise those that are ``MASK`` are written, looking at all the others. No
    number is above 256, so that bf16 holds each exactly.
    """

    def __init__(
        self, transformer: Transformer | None = None, decoder: Decoder | None = None
    ) -> None:
        super().__init__()
        self.transformer = transformer or Transformer()
        self.decoder = decoder or Decoder()
        self.codes = self.transformer.head.out_features
        self.codebook = nn.Embedding(self.codes, DIMENSION)

    def forward(self, ids: Tensor) -> Tensor:
        """The picture to expect."""
        return self.draw(self.logits(ids).softmax(2))

    def logits(self, ids: Tensor) -> Tensor:
        """Logits ``(N, 49, codes)`` of what is written at each place."""
        numbers = ids.long()
        tokens = torch.cat([numbers[:, :PROMPT], numbers[:, PROMPT:] + BYTES], 1)
        one_by_one = numbers[:, PROMPT, None, None, None] == self.codes + 1  # (N, 1, 1, 1)
        everywhere, back = looking_everywhere(tokens), looking_back(LENGTH, device=ids.device)
        read, _ = self.transformer(tokens, everywhere & (back | ~one_by_one))
        logits: Tensor = read[:, PROMPT:]
        return logits

    def draw(self, shares: Tensor) -> Tensor:
        """Pictures of shares ``(N, 49, codes)`` of each code at each place: one-hot for tokens."""
        # Looked up by number, which tells pruning that codes are numbers and none may go.
        vectors = shares @ self.codebook(torch.arange(self.codes, device=shares.device))
        images: Tensor = self.decoder(vectors.transpose(1, 2).unflatten(2, (SIDE, SIDE)))
        return images


@torch.no_grad()
def drawn(model: TextImageModel, codes: Tensor) -> Tensor:
    """Pictures ``(N, 1, 32, 32)`` in [-1, 1] of codes ``(N, 49)``, int64."""
    device = model.codebook.weight.device
    shares = one_hot(codes.to(device), model.codes)
    return model.draw(shares.to(model.codebook.weight))


def signature() -> Signature:
    """The contract of :class:`TextImageModel`; its inputs are its own samples, some masked."""
    return Signature(
        inputs=(Input("ids", (BATCH, LENGTH), Sampler("prompted-digits")),),
        outputs=(Output("images", (BATCH, 1, 32, 32), (-1.0, 1.0)),),
    )
