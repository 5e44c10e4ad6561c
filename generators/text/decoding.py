"""Writing the tokens of an image, one after another or in a few steps of many at once.

Both read a prompt once and keep its keys and values. Random numbers are drawn on the CPU in the
order of the tokens, and added to the logits (Gumbel's way of sampling), so that one seed writes the
same tokens on every runtime, but where two codes are as likely to the last digit.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from generators.networks.text_transformer import BYTES
from generators.networks.vector_quantizer import TOKENS
from genslim.errors import UserError

ONE_BY_ONE, MASKED = 0.6, 0.5
"""Temperatures."""
NUCLEUS = 0.6
"""Share of the codes that can come one by one. Of 2,000 digits of text-mnist the classifier then
recognises 91 %, and 92 % are those asked for; at 0.8 with all codes 83 and 90 %, at 0.3 with all
91 and 91 %, the rarest digit less often than half of a tenth. Masked, 72 % at 1 and 81 % at 0.5."""


class Reader(Protocol):
    """A transformer with what it has read so far."""

    codes: int
    """How many codes there are; the mask and the start follow them."""

    def begin(self) -> None:
        """Forget everything."""

    def read(self, tokens: Tensor, *, keep: bool = True) -> Tensor:
        """Read tokens ``(N, T)``, int64, after those that are kept; keep them too, or not.

        Bytes of a prompt look back; tokens of the image look at all that is read at once.

        Returns:
            Logits ``(N, T, codes)``, float32.
        """


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise UserError where one of them is out of its range."""
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise UserError(f"temperature {temperature} is no number of 0 or more", hint="try 0.8")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k {top_k} is less than 1", hint="leave it out to take all codes")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p {top_p} is not above 0 and at most 1", hint="try 0.95")


def one_after_another(
    reader: Reader,
    prompts: Tensor,
    *,
    temperature: float = ONE_BY_ONE,
    top_k: int | None = None,
    top_p: float | None = NUCLEUS,
    seed: int = 0,
) -> Tensor:
    """Write each token knowing all before it.

    Args:
        reader: what predicts the next token.
        prompts: bytes ``(N, 32)``, int64.
        temperature: logits are divided by it; 0 takes the likeliest code each time.
        top_k: only so many codes, the likeliest, can come.
        top_p: only the likeliest codes can come that together have this share (nucleus sampling,
            Holtzman et al. 2019, arXiv 1904.09751).
        seed: of the choice.

    Returns:
        Codes ``(N, 49)``, int64.
    """
    check_sampling(temperature, top_k, top_p)
    random = torch.Generator().manual_seed(seed)
    count = len(prompts)
    start = torch.full((count, 1), BYTES + reader.codes + 1)
    reader.begin()
    logits = reader.read(torch.cat([prompts, start], 1))[:, -1]
    written = []
    for place in range(TOKENS):
        code = sampled(likeliest(logits, top_k, top_p), temperature, random)  # (N,)
        written.append(code)
        if place < TOKENS - 1:
            logits = reader.read(code[:, None] + BYTES)[:, -1]
    return torch.stack(written, 1)


def many_at_once(
    reader: Reader,
    prompts: Tensor,
    *,
    steps: int = 8,
    temperature: float = MASKED,
    choice: float = 4.5,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Write in a few steps, the surest tokens first (MaskGIT, Chang et al. 2022, arXiv 2202.04200).

    Each step proposes a code for everything that is masked and keeps those of the highest
    probability; how many stay masked follows a cosine. Which are the surest is left to chance a
    little, and less with each step.

    Args:
        reader: what predicts masked tokens.
        prompts: bytes ``(N, 32)``, int64.
        steps: how many, 1 to 49.
        temperature: of the codes, as in :func:`one_after_another`.
        choice: temperature of the choice among places, at the first step; 0 leaves no chance.
        top_k: as in :func:`one_after_another`.
        top_p: as in :func:`one_after_another`.
        seed: of both choices.

    Returns:
        Codes ``(N, 49)``, int64.
    """
    check_sampling(temperature, top_k, top_p)
    if not 1 <= steps <= TOKENS:
        raise UserError(f"{steps} steps are not 1 to {TOKENS}", hint="try 8")
    random = torch.Generator().manual_seed(seed)
    codes = torch.full((len(prompts), TOKENS), reader.codes)  # all masked
    reader.begin()
    reader.read(prompts)
    for step in range(1, steps + 1):
        masked = codes == reader.codes
        logits = reader.read(codes + BYTES, keep=False)
        proposed = sampled(likeliest(logits, top_k, top_p), temperature, random)
        sure = logits.log_softmax(2).gather(2, proposed[..., None])[..., 0]
        sure = sure + choice * (1 - step / steps) * gumbel(sure.shape, random)
        sure[~masked] = math.inf
        proposed = torch.where(masked, proposed, codes)
        # Fewer each time, whatever the cosine rounds to, and none at the end.
        waiting = int(masked[0].sum())
        rest = min(waiting - 1, int(math.cos(math.pi / 2 * step / steps) * TOKENS))
        rest = 0 if step == steps else max(rest, 0)
        codes = proposed.scatter(1, sure.argsort(1)[:, :rest], reader.codes)
        if rest == 0:
            break
    return codes


def likeliest(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """The logits, minus infinity where a code can't come."""
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p is not None and top_p < 1:
        # With NumPy, which starts no threads: PyTorch's would wait for those of a runtime, which
        # still spin, ten times as long as the sorting takes.
        x = logits.numpy()
        shares = np.exp(x - x.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        order = np.argsort(-shares, -1, kind="stable")
        sorted_shares = np.take_along_axis(shares, order, -1)
        beyond = sorted_shares.cumsum(-1) - sorted_shares >= top_p  # what comes before is enough
        left_out = np.empty_like(beyond)
        np.put_along_axis(left_out, order, beyond, -1)
        logits = logits.masked_fill(torch.from_numpy(left_out), -math.inf)
    return logits


def sampled(logits: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """A code for each row of logits ``(..., codes)``, int64."""
    if temperature == 0:
        return logits.argmax(-1)
    return (logits / temperature + gumbel(logits.shape, random)).argmax(-1)


def gumbel(shape: torch.Size, random: torch.Generator) -> Tensor:
    """Numbers of Gumbel's distribution: added to logits, the greatest is a sample of them."""
    exponential = torch.empty(shape).exponential_(generator=random)
    return -exponential.clamp_min(1e-20).log()
