"""What goes into the models of diffusers: latents, noisy samples, time steps and prompts.

Told from a model's settings (its ``config``), and sized as the user says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from genslim.errors import UserError
from genslim.signature import BATCH, Input, Prior
from genslim.sources.weights import parse_shape

SIDE = 16
"""Height and width of latents that are measured unless --input says otherwise."""
UNET_SIDE = 32
"""The same of a UNet whose settings state none."""
PROMPT = "encoder_hidden_states"
TOKENS = 77
"""Tokens of a prompt: the length that CLIP's text encoders give."""
STEPS = 1000
"""Time steps that denoisers are trained with."""


def latents_of(name: str, model: Any, state: Mapping[str, Tensor]) -> tuple[Input, ...]:
    """Latents as large as those that the decoder was trained on.

    A diffusion model's latents have unit variance after multiplication by ``scaling_factor``.
    Those of a VQModel are vectors of its codebook, whose spread is that of the weights.
    """
    config = model.config
    scale = 1 / float(config.get("scaling_factor") or 1.0)
    channels = config["latent_channels"]
    if name == "VQModel":
        channels = config["vq_embed_dim"] or channels
        codebook = state.get("quantize.embedding.weight")
        spread = float(codebook.float().std()) if codebook is not None else 0.0
        scale = spread if 0 < spread < math.inf else scale
    draw = Prior("normal", scale)
    shape = (BATCH, channels, "height", "width")
    return (Input("latents", shape, draw, sizes={"height": SIDE, "width": SIDE}),)


def noisy_of(model: Any) -> tuple[Input, ...]:
    """A noisy sample, its time step, and what the UNet is told of the prompt."""
    config = model.config
    side = config["sample_size"] or UNET_SIDE
    # Every level but the first halves both sides, and joins what comes back with what went in.
    multiple = 2 ** (len(config["block_out_channels"]) - 1)
    sides = side if isinstance(side, list | tuple) else (side, side)
    height, width = (-(-int(s) // multiple) * multiple for s in sides)
    sample = Input(
        "sample",
        (BATCH, config["in_channels"], "height", "width"),
        Prior("normal"),
        sizes={"height": height, "width": width},
        multiple_of=multiple,
    )
    inputs: tuple[Input, ...] = (sample, Input("timestep", (BATCH,), Prior("uniform", STEPS)))
    if "cross_attention_dim" not in config:
        return inputs
    told = config["encoder_hid_dim"] or config["cross_attention_dim"]
    told = told[0] if isinstance(told, list | tuple) else told
    inputs += (Input(PROMPT, (BATCH, TOKENS, told), Prior("normal")),)
    if config["addition_embed_type"] == "text_time":
        pooled = config["projection_class_embeddings_input_dim"]
        pooled -= 6 * config["addition_time_embed_dim"]
        inputs += (
            Input("text_embeds", (BATCH, pooled), Prior("normal")),
            Input("time_ids", (BATCH, 6), Prior("uniform", 1024)),
        )
    return inputs


def resized(inputs: tuple[Input, ...], text: str) -> tuple[Input, ...]:
    """The inputs with the sizes that one ``[NAME:]SHAPE`` states, of the first where it has none.

    Height and width are those to measure at, and the number of tokens may be another.

    Raises:
        UserError: there is no such input, or it can't have this shape.
    """
    name, _, shape = text.rpartition(":")
    name = name or inputs[0].name
    spec = next((i for i in inputs if i.name == name), None)
    if spec is None:
        raise UserError(
            f"there is no input {name!r}", hint=f"name one of {', '.join(i.name for i in inputs)}"
        )
    sides = parse_shape(shape)
    sizes: dict[str, int] = {}
    own = list(spec.shape)
    fits = len(sides) == len(own)
    for axis, side in enumerate(sides[: len(own)]):
        match own[axis]:
            case str(free):
                sizes[free] = side
                fits = fits and (axis == 0 or side % spec.multiple_of == 0)
            case _ if name == PROMPT and axis == 1:
                own[axis] = side
            case fixed:
                fits = fits and side == fixed
    if not fits:
        among = f", sides multiples of {spec.multiple_of}" if spec.multiple_of > 1 else ""
        raise UserError(
            f"input {name!r} can't have the shape {list(sides)}",
            hint=f"its shape is {', '.join(str(s) for s in spec.shape)}{among}",
        )
    sizes.pop(BATCH)
    sized = replace(spec, shape=tuple(own), sizes=sizes or None)
    return tuple(sized if i.name == name else i for i in inputs)
