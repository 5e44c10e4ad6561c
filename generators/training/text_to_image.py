"""Text to image in two parts: first images become tokens, then a transformer learns to write them.

A vector-quantized autoencoder is trained for a share of the training and stays as it is then; for
the rest the transformer learns the tokens of its images, with prompts drawn anew at each step
(van den Oord et al. 2017, arXiv 1711.00937; Ramesh et al. 2021, arXiv 2102.12092).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from generators.networks.text_to_image import TextImageModel, drawn
from generators.networks.text_transformer import PROMPT, Transformer
from generators.networks.vector_quantizer import VectorQuantizedAutoencoder, usage
from generators.text import prompts
from generators.text.decoding import one_after_another
from generators.text.eager import TorchReader
from generators.training.averaging import averaged
from generators.training.language_model import lesson
from generators.training.objective import Judge, Objective, cosine_decay

COMMITMENT = 0.25
"""Weight of the latents' distance to their codes, the paper's."""
WARM_UP = 0.1
"""Share of the autoencoder's part: at full rate from the start all images became the mean image."""
RESTARTING = 0.6
"""Share of the autoencoder's part in which unused codes start again; then all may settle."""
MOST_GRADIENT = 1.0
COLLAPSED = 0.25
"""Where a smaller share of the codes says as much as all that are used, the codebook is lost."""


class TextToImage(Objective):
    """An autoencoder of images, and a transformer that writes its tokens."""

    def __init__(
        self,
        autoencoder: VectorQuantizedAutoencoder,
        transformer: Transformer,
        *,
        judge: Judge,
        held_apart: Tensor,
        seed: int,
        share: float = 2 / 7,
        rates: tuple[float, float] = (2e-3, 2e-3),
    ) -> None:
        """Set up both.

        Args:
            autoencoder: images in [-1, 1] to tokens and back.
            transformer: of as many codes.
            judge: figures of a :class:`TextImageModel`.
            held_apart: images ``(N, 1, 32, 32)`` in [-1, 1] to judge the tokens by.
            seed: of prompts, of what is masked and of where unused codes start again.
            share: of the training, in which the autoencoder is trained.
            rates: greatest learning rates of the two.
        """
        super().__init__(seed)
        self.judge_model = judge
        self.held_apart = held_apart
        self.share = share
        self.rates = rates
        # A codebook is looked through for the nearest code, which bfloat16 can't tell.
        self.exact = frozenset({"autoencoder"})
        self.networks = {
            "autoencoder": autoencoder,
            "transformer": transformer,
            "average": averaged(transformer),
        }
        self.optimisers = {
            "autoencoder": torch.optim.AdamW(autoencoder.parameters(), rates[0]),
            "transformer": torch.optim.AdamW(
                transformer.parameters(), rates[1], (0.9, 0.95), weight_decay=0.05
            ),
        }

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step of the autoencoder or, later, of the transformer."""
        if progress < self.share:
            return self.train_tokens(images, progress / self.share)
        return self.train_writing(images, labels, (progress - self.share) / (1 - self.share))

    def train_tokens(self, images: Tensor, progress: float) -> dict[str, float]:
        """One step of the autoencoder; ``progress`` is that of its own part."""
        network = self.networks["autoencoder"].train()
        made, commitment, _ = network(images, self.random, restart=progress < RESTARTING)
        reconstruction = mse_loss(made, images)
        rate = self.rates[0] * cosine_decay(progress, WARM_UP)
        self.step("autoencoder", reconstruction + COMMITMENT * commitment, rate, MOST_GRADIENT)
        return {"reconstruction": reconstruction.item(), "commitment": commitment.item()}

    def train_writing(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step of the transformer; ``progress`` is that of its own part."""
        codes = self.autoencoder.eval().encode(images)
        seed = int(torch.randint(2**31, (), generator=self.random))
        asked = prompts.encode(prompts.draw(labels.tolist(), seed)).to(self.device)
        read = lesson(asked, codes, self.codes, self.random)
        logits, _ = self.networks["transformer"].train()(read.tokens, read.allowed)
        written = logits[:, PROMPT:]
        half = len(codes) // 2
        one_by_one = cross_entropy(written[:half].flatten(0, 1), codes[:half].flatten())
        places = read.asked[half:]
        masked = cross_entropy(written[half:][places], codes[half:][places])
        rate = self.rates[1] * cosine_decay(progress)
        self.step("transformer", (one_by_one + masked) / 2, rate, MOST_GRADIENT)
        self.average.update_parameters(self.bare("transformer"))
        return {"one_by_one": one_by_one.item(), "masked": masked.item()}

    @property
    def autoencoder(self) -> VectorQuantizedAutoencoder:
        """What makes tokens of images."""
        autoencoder = self.bare("autoencoder")
        assert isinstance(autoencoder, VectorQuantizedAutoencoder)
        return autoencoder

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return len(self.autoencoder.codebook.vectors)

    @property
    def writes(self) -> bool:
        """Whether the transformer's part has begun."""
        return int(self.average.n_averaged) > 0

    @torch.no_grad()
    def judge(self) -> dict[str, float]:
        """How well tokens keep images held apart and, in the second part, what the judge says."""
        images = self.held_apart.to(self.device)
        network = self.autoencoder.eval()
        made, _, codes = network(images)
        figures = {
            "reconstruction_held_apart": mse_loss(made, images).item(),
            **usage(codes, self.codes),
        }
        return {**self.judge_model(self.product()), **figures} if self.writes else figures

    def alarm(self, verdict: dict[str, float]) -> str | None:
        """Whether most codes have gone out of use."""
        if verdict["perplexity"] >= COLLAPSED * self.codes:
            return None
        return (
            f"codebook collapse: {verdict['codes_used']:.0%} of {self.codes} codes are in use, "
            f"with a perplexity of {verdict['perplexity']:.1f}; train with another seed"
        )

    def product(self) -> TextImageModel:
        """The averaged transformer, the codebook and the decoder, sharing their weights."""
        average = self.average.module
        assert isinstance(average, Transformer)
        autoencoder = self.autoencoder
        model = TextImageModel(average, autoencoder.decoder)
        model.codebook.weight = nn.Parameter(autoencoder.codebook.vectors, requires_grad=False)
        return model.eval()

    @torch.no_grad()
    def sheet(self) -> Tensor:
        """At first images held apart and what comes back of them; then ten rows of ten digits."""
        if not self.writes:
            images = self.held_apart[:50].to(self.device)
            return torch.cat([images, self.autoencoder.eval()(images)[0]])
        model = self.product()
        asked, _ = prompts.balanced(100)
        written = one_after_another(TorchReader(model.transformer), prompts.encode(asked))
        return drawn(model, written)
