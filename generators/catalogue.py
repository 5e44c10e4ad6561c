"""Every reference generator, and how it is built and trained: one entry a generator.

``digit-classifier`` stands here too: it is the judge, trained by the same loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from generators.shipped import FOLDER, read_shipped
from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from generators.data.dataset import Dataset
    from generators.training.objective import Objective
    from genslim.signature import Signature

JUDGE = "judge"


@dataclass(frozen=True)
class Entry:
    """One reference network. Modules are named and imported when used: torch is heavy."""

    name: str
    kind: str
    """What it does, in the field's words; ``judge`` for what is no generator."""
    summary: str
    network: str
    """Its class, built without arguments; beside it in its module stands ``signature``."""
    recipe: str
    """The function ``(data held apart, seed, options) -> Objective``."""
    data: Literal["mnist", "photos"]
    epochs: int
    least: Mapping[str, float]
    """What the shipped weights must reach, by the recipe's own judgement."""
    side: int = 32
    """Of the images that it is trained on, in pixels."""
    batch_size: int = 64

    @property
    def is_source(self) -> bool:
        """Whether commands can be given its name as a generator."""
        return self.kind != JUDGE

    def build(self) -> nn.Module:
        """The untrained network."""
        module, _, name = self.network.rpartition(".")
        network: nn.Module = getattr(import_module(module), name)()
        return network

    def signature(self) -> Signature:
        """Its contract."""
        signature: Signature = import_module(self.network.rpartition(".")[0]).signature()
        return signature

    def load(self, folder: Path = FOLDER) -> nn.Module:
        """The trained network with its weights out of ``folder``, in evaluation mode.

        Raises:
            UserError: they are not there.
        """
        network = self.build()
        network.load_state_dict(read_shipped(self.name, folder))
        return network.eval()

    def read(self, folder: Path | None) -> tuple[Dataset, Dataset]:
        """The data to train on, and the data held apart.

        Args:
            folder: of the data; None looks in the usual places.
        """
        if self.data == "mnist":
            from generators.data import mnist

            return mnist.load(folder, "train", self.side), mnist.load(folder, "test", self.side)
        from generators.data import photos

        return photos.load(folder, self.side)

    def objective(
        self, held_apart: Dataset, seed: int, options: Mapping[str, str] | None = None
    ) -> Objective:
        """What its training minimises.

        Args:
            held_apart: what it is judged on.
            seed: of the weights and of everything that the objective draws.
            options: of the recipe, as text.

        Raises:
            UserError: the recipe has no such option, or not with this value.
        """
        module, _, name = self.recipe.rpartition(".")
        make: Callable[..., Objective] = getattr(import_module(module), name)
        return make(held_apart, seed, **read_options(self.name, make, options or {}))


def read_options(name: str, make: Callable[..., Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Options as the recipe's keyword arguments, turned into their types.

    Raises:
        UserError: there is no such option, or its value will not do.
    """
    hints = get_type_hints(make)
    known = {p.name: hints[p.name] for p in keywords(make)}
    read: dict[str, Any] = {}
    for key, text in options.items():
        if key not in known:
            raise UserError(
                f"{name} has no option {key!r}",
                hint="it has " + (", ".join(known) or "none"),
            )
        read[key] = read_value(key, text, known[key])
    return read


def keywords(make: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options of a recipe."""
    parameters = inspect.signature(make).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def read_value(key: str, text: str, kind: Any) -> Any:
    """``text`` as a boolean, a number or one of some words."""
    choices = get_args(kind) or (("true", "false") if kind is bool else ())
    if choices:
        if text not in choices:
            raise UserError(f"{key}={text!r} is not known", hint="it is " + " or ".join(choices))
        return text == "true" if kind is bool else text
    try:
        return kind(text)
    except ValueError as error:
        raise UserError(
            f"{key}={text!r} is no {'whole number' if kind is int else 'number'}",
            hint=f"try --option {key}=1",
        ) from error


CATALOGUE = (
    Entry(
        "gan-mnist",
        "GAN",
        "GAN, 28x28 handwritten digits from 32 latents, dense then transposed convolutions",
        "generators.networks.gan.Generator",
        "generators.recipes.digits.gan_mnist",
        "mnist",
        epochs=4,
        least={"recognised": 0.90, "least_digit": 0.04},
        side=28,
    ),
    Entry(
        "dcgan-mnist",
        "DCGAN",
        "DCGAN, 32x32 handwritten digits from 32 latents",
        "generators.networks.dcgan.Generator",
        "generators.recipes.digits.dcgan_mnist",
        "mnist",
        epochs=2,
        least={"recognised": 0.90, "least_digit": 0.04},
    ),
    Entry(
        "dcgan-skip-mnist",
        "DCGAN",
        "DCGAN with skip connections in both players, 32x32 handwritten digits",
        "generators.networks.dcgan_skip.Generator",
        "generators.recipes.digits.dcgan_skip_mnist",
        "mnist",
        epochs=2,
        least={"recognised": 0.90, "least_digit": 0.04},
    ),
    Entry(
        "vae-mnist",
        "VAE",
        "decoder of a conditional variational autoencoder, 28x28 handwritten digits",
        "generators.networks.vae.Decoder",
        "generators.recipes.digits.vae_mnist",
        "mnist",
        epochs=10,
        least={"recognised": 0.85, "least_digit": 0.04},
        side=28,
    ),
    Entry(
        "denoise-mnist",
        "denoising",
        "denoising autoencoder, 32x32 handwritten digits, noise up to 0.5",
        "generators.networks.denoise_mnist.DigitDenoiser",
        "generators.recipes.photos.denoise_mnist",
        "mnist",
        epochs=4,
        least={"psnr_gain_db": 8.0},
    ),
    Entry(
        "denoise-photo",
        "denoising",
        "denoising autoencoder, RGB photographs, noise up to 55/255",
        "generators.networks.denoise_photo.PhotoDenoiser",
        "generators.recipes.photos.denoise_photo",
        "photos",
        epochs=8,
        least={"psnr_gain_db": 5.0},
        side=96,
        batch_size=8,
    ),
    Entry(
        "enhance-photo",
        "enhancement",
        "super-resolution by 2 with some deblurring, RGB photographs",
        "generators.networks.enhance_photo.PhotoEnhancer",
        "generators.recipes.photos.enhance_photo",
        "photos",
        epochs=16,
        least={"psnr_gain_db": 0.7},
        side=96,
        batch_size=16,
    ),
    Entry(
        "inpaint-photo",
        "inpainting",
        "fills rectangular holes of 0.1 to 0.3 of the sides, RGB photographs",
        "generators.networks.inpaint_photo.PhotoInpainter",
        "generators.recipes.photos.inpaint_photo",
        "photos",
        epochs=32,
        least={"psnr_gain_db": 3.0},
        side=96,
        batch_size=16,
    ),
    Entry(
        "text-mnist",
        "text to image",
        "prompts to 32x32 handwritten digits: VQ tokens, written by a small transformer",
        "generators.networks.text_to_image.TextImageModel",
        "generators.recipes.text.text_mnist",
        "mnist",
        epochs=14,
        least={
            "asked": 0.90,
            "recognised": 0.90,
            "least_digit": 0.04,
            "asked_masked": 0.90,
            "recognised_masked": 0.70,
        },
    ),
    Entry(
        "digit-classifier",
        JUDGE,
        "convolutional classifier of MNIST digits",
        "generators.networks.digit_classifier.DigitClassifier",
        "generators.recipes.digits.digit_classifier",
        "mnist",
        epochs=4,
        least={"test_accuracy": 0.99},
    ),
)


def entry(name: str) -> Entry:
    """The entry called ``name``.

    Raises:
        UserError: there is none.
    """
    for candidate in CATALOGUE:
        if candidate.name == name:
            return candidate
    raise UserError(
        f"no reference generator called {name!r}",
        hint="there are " + ", ".join(candidate.name for candidate in CATALOGUE),
    )
