"""A folder as diffusers' ``save_pretrained`` writes it: a decoder of latents, or a denoising UNet.

Of an autoencoder the decoder is kept, the part that makes pictures. The class and its plain JSON
settings are what an artifact records, so that a compressed generator loads without the folder. Only
classes of the installed diffusers that are listed here are ever built; a folder's code is not run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature as arguments_of
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genslim.errors import MissingDependency, UserError
from genslim.generator import Generator, run_module
from genslim.signature import BATCH, Output, Signature
from genslim.sources.base import Source, SourceOptions
from genslim.sources.diffusion_inputs import latents_of, noisy_of, resized
from genslim.sources.weights import first_line, read_state
from genslim.torchvision_guard import ensure_torchvision_imports

CONFIG = "config.json"
PIPELINE = "model_index.json"
WEIGHTS = tuple(
    f"diffusion_pytorch_model{ending}"
    for ending in (
        ".safetensors",
        ".safetensors.index.json",
        ".fp16.safetensors",
        ".bin",
        ".bin.index.json",
    )
)
"""Files that hold the weights, the first one there is read; an index names several."""
TRIAL_SIDE = 8
"""Latents of this height and width are decoded once to learn the scale."""
OLD_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
"""What an autoencoder's attention was called in folders from before diffusers 0.16."""


class LatentDecoder(nn.Module):
    """Latents ``(N, C, h, w)`` to images ``(N, 3, s*h, s*w)`` in about [-1, 1].

    What ``AutoencoderKL.decode``, ``AutoencoderTiny.decode`` and ``VQModel.decode`` (told not to
    quantize) do, without the encoder.
    """

    def __init__(self, decoder: nn.Module, post_quant_conv: nn.Module | None, guided: bool) -> None:
        super().__init__()
        self.post_quant_conv = nn.Identity() if post_quant_conv is None else post_quant_conv
        self.decoder = decoder
        self.guided = guided
        """Whether the norms of the decoder look at the latents too (spatial norm of MoVQ)."""

    def forward(self, latents: Tensor) -> Tensor:
        """Images for ``latents``, which are as ``decode`` takes them (not unit variance)."""
        hidden = self.post_quant_conv(latents)
        images: Tensor = self.decoder(hidden, latents) if self.guided else self.decoder(hidden)
        return images


class Denoiser(nn.Module):
    """``UNet2DModel`` of plain tensors: ``(N, C, h, w)`` and ``(N,)`` to noise ``(N, C, h, w)``."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """What the UNet predicts for noisy ``sample`` at ``timestep`` (whole or not)."""
        noise: Tensor = self.unet(sample, timestep, return_dict=False)[0]
        return noise


class PromptedDenoiser(nn.Module):
    """``UNet2DConditionModel`` of plain tensors; see :class:`Denoiser`."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> Tensor:
        """What the UNet predicts, told a prompt ``(N, tokens, dim)``; the rest is Stable Diffusion
        XL's: ``(N, dim)`` and the picture's sizes ``(N, 6)``.
        """
        added = None if text_embeds is None else {"text_embeds": text_embeds, "time_ids": time_ids}
        noise: Tensor = self.unet(
            sample, timestep, encoder_hidden_states, added_cond_kwargs=added, return_dict=False
        )[0]
        return noise


DECODERS = ("AutoencoderKL", "AutoencoderTiny", "VQModel")
UNETS = ("UNet2DModel", "UNet2DConditionModel")
SUPPORTED = (*DECODERS, *UNETS)


class DiffusersFolder(Source):
    """``stable-diffusion/vae`` and its kind."""

    kind = "diffusers"
    example = "stable-diffusion/vae"

    def claims(self, text: str) -> bool:
        """A folder of a model or of a pipeline, or what would be a part of a pipeline."""
        folder = Path(text)
        if folder.is_file():
            return False
        return is_part(folder) or any((folder / name).is_file() for name in (CONFIG, PIPELINE))

    def open(self, text: str, options: SourceOptions) -> Generator:
        """Build the class that the folder names, load its weights, and try it once."""
        folder = Path(text)
        if not (folder / CONFIG).is_file():
            raise not_a_model(folder)
        config = read_json(folder / CONFIG)
        name = config.get("_class_name")
        if not isinstance(name, str):
            raise UserError(
                f"{folder / CONFIG} names no class of diffusers (_class_name)",
                hint="name a folder that diffusers' save_pretrained wrote",
            )
        model = construct(name, config, str(folder))
        module = wrapped(name, model)
        state = {renamed(key): tensor for key, tensor in read_folder_state(folder).items()}
        load(module, state, folder)
        whole = folder.resolve()
        label = f"{whole.parent.name}-{whole.name}" if is_part(whole) else whole.name
        record = {"kind": self.kind, "class": name, "config": known_settings(type(model), config)}
        return Generator(label, signature_of(name, model, module, state, options), record, module)

    def build(self, record: Mapping[str, Any]) -> nn.Module:
        """The recorded class with the recorded settings, as it was wrapped."""
        name, config = record.get("class"), record.get("config")
        if not isinstance(name, str) or not isinstance(config, dict):
            raise UserError(
                "the artifact names no diffusers class with its settings",
                hint="the artifact is not sound",
            )
        return wrapped(name, construct(name, config, "the artifact"))


# From a folder to a module.


def is_part(folder: Path) -> bool:
    """Whether ``folder``, which need not exist, lies in the folder of a pipeline."""
    return (
        folder.parent != folder and (folder.parent / PIPELINE).is_file() and len(folder.parts) > 1
    )


def not_a_model(folder: Path) -> UserError:
    """The error for a pipeline as a whole, or a part of one that is no model."""
    pipeline = folder if (folder / PIPELINE).is_file() else folder.parent
    parts = []
    for path in sorted(pipeline.glob(f"*/{CONFIG}")):
        try:
            fits = read_json(path).get("_class_name") in SUPPORTED
        except UserError:
            fits = False
        if fits:
            parts.append(str(path.parent))
    said = (
        f"{folder} is a whole pipeline, and one part of it is wanted"
        if folder == pipeline
        else f"the pipeline {pipeline} has no model {folder.name!r}"
    )
    hint = f"name one of {', '.join(parts)}" if parts else "it has no part of a supported class"
    return UserError(said, hint=hint)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: it can't be read, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {first_line(error)})",
            hint="fetch the folder again",
        ) from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no JSON object", hint="fetch the folder again")
    return data


def construct(name: str, config: Mapping[str, Any], what: str) -> nn.Module:
    """A model of the class ``name`` with random weights.

    Raises:
        UserError: the class is not supported, or refuses the settings.
        MissingDependency: diffusers is not installed.
    """
    if name not in SUPPORTED:
        raise UserError(
            f"{what} holds the diffusers class {name!r}, which genslim does not take",
            hint=f"it takes {', '.join(SUPPORTED)}",
        )
    try:
        ensure_torchvision_imports()
        import diffusers
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "a diffusers folder needs diffusers, which is not installed",
            hint='install it: pip install "genslim[diffusers]"',
        ) from error
    kind = getattr(diffusers, name)
    try:
        model: nn.Module = kind(**known_settings(kind, config))
    except Exception as error:  # whatever the settings provoke in the class
        raise UserError(
            f"the settings of {what} fit no {name}: {type(error).__name__}: {first_line(error)}",
            hint="fetch the folder again",
        ) from error
    return model.eval()


def known_settings(kind: type[nn.Module], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the class has; files of other versions hold more."""
    known = arguments_of(kind.__init__).parameters
    return {key: value for key, value in config.items() if key in known and key != "self"}


def wrapped(name: str, model: Any) -> nn.Module:
    """The part of ``model`` that makes pictures or noise, of plain tensors."""
    if name == "UNet2DModel":
        return Denoiser(model).eval()
    if name == "UNet2DConditionModel":
        return PromptedDenoiser(model).eval()
    guided = model.config.get("norm_type") == "spatial"
    return LatentDecoder(model.decoder, getattr(model, "post_quant_conv", None), guided).eval()


def read_folder_state(folder: Path) -> dict[str, Tensor]:
    """All tensors in the folder's file of weights, or in the files that its index names.

    Raises:
        UserError: there are none, or they are damaged.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder} holds no weights ({WEIGHTS[0]})", hint="fetch the folder again")
    if path.suffix != ".json":
        return read_state(path)
    names = read_json(path).get("weight_map")
    files = set(names.values()) if isinstance(names, dict) else set()
    if not files or not all(isinstance(f, str) and f == Path(f).name for f in files):
        raise UserError(f"{path} names no files of this folder", hint="fetch the folder again")
    return {k: v for file in sorted(files) for k, v in read_state(folder / file).items()}


def renamed(key: str) -> str:
    """The present name of a weight."""
    if ".attentions." in key:
        for old, new in OLD_NAMES.items():
            key = key.replace(old, new)
    return key


def load(module: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Load what ``module`` has of ``state``, as float32.

    Raises:
        UserError: some of its weights are missing, or of another shape.
    """
    prefix = "unet." if hasattr(module, "unet") else ""
    wanted = module.state_dict().keys()
    mine = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    try:
        module.load_state_dict({k: v for k, v in mine.items() if k in wanted})
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(
            f"the weights in {folder} don't fit its {CONFIG}: {reason[:300]}",
            hint="fetch the folder again",
        ) from error


# The contract.


def signature_of(
    name: str, model: Any, module: nn.Module, state: Mapping[str, Tensor], options: SourceOptions
) -> Signature:
    """The inputs by the settings, the output as one call shows.

    Raises:
        UserError: ``--input`` does not fit, or the model wants inputs that are not known here.
    """
    try:
        inputs = latents_of(name, model, state) if name in DECODERS else noisy_of(model)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"the inputs of this {name} can't be told from its settings: {first_line(error)}",
            hint="fetch the folder again",
        ) from error
    for text in options.input:
        inputs = resized(inputs, text)
    step = max(TRIAL_SIDE, inputs[0].multiple_of)
    trial = {
        i.name: torch.zeros(replace(i, sizes={"height": step, "width": step}).concrete(1))
        for i in inputs
    }
    try:
        with torch.no_grad():
            made = run_module(module, Signature(inputs, ()), trial)
    except Exception as error:  # whatever the model raises is about its inputs
        raise UserError(
            f"this {name} does not run on {', '.join(trial)} alone: {first_line(error)}",
            hint="models that are told more are not supported",
        ) from error
    scale = made.shape[2] // step
    shape = (BATCH, made.shape[1], f"{scale}*height", f"{scale}*width")
    if name in DECODERS:
        # All three are trained on images in [-1, 1]; AutoencoderTiny's last layer brings [0, 1]
        # there itself. None clips.
        return Signature(inputs, (Output("images", shape, options.value_range or (-1.0, 1.0)),))
    # Noise is standard normal, and so is about what is predicted in its place (velocity): one
    # value in 16,000 lies outside.
    return Signature(inputs, (Output("noise", shape, options.value_range or (-4.0, 4.0)),))
