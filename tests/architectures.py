"""A zoo of generators with random weights, for tests that every architecture must pass.

Each builder gets an empty folder, writes there what a user would have (weights, a diffusers
folder, a few pictures) and opens it with :func:`genslim.load`. Depth and structure are those of
the published networks; widths and sizes are as small as keeps a forward pass quick on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import networks
import torch
from conftest import random_dcgan, write_pictures
from settling import pictures, settle
from torch import nn

import genslim
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.torchvision_guard import ensure_torchvision_imports

Builder = Callable[[Path], Generator]


# Weights that spandrel recognises.


def spandrel(
    place: str,
    kind: str,
    size: str = "1,3,32,32",
    spread: float = 0.2,
    last: tuple[str, ...] = (),
    **settings: Any,
) -> Builder:
    """A builder of spandrel's ``kind`` from ``spandrel.architectures.PLACE``, for images."""

    def build(folder: Path) -> Generator:
        from safetensors.torch import save_file

        ensure_torchvision_imports()
        torch.manual_seed(0)
        module = getattr(import_module(f"spandrel.architectures.{place}"), kind)(**settings)
        example = pictures((2, *(int(side) for side in size.split(",")[1:])))
        settle(module, (example,), spread, 0.5, last)
        path = folder / f"{kind.lower()}.safetensors"
        save_file({k: v.contiguous().clone() for k, v in module.state_dict().items()}, path)
        side = max(80, 2 * example.shape[-1])
        images = write_pictures(folder / "images", size=(side, side))
        generator = genslim.load(path, images=images, input=size)
        check_same(module, generator)
        return generator

    return build


def check_same(module: nn.Module, generator: Generator) -> None:
    """Check that spandrel told the architecture and its settings from the weights alone."""
    loaded = generator.module
    assert type(loaded) is type(module), type(loaded)
    layers = {n: type(m) for n, m in module.named_modules()}
    plain = {n: type(m) for n, m in loaded.named_modules()}
    folded = {n for n in plain if layers[n] is not plain[n]}  # loaded with their weights computed
    gone = {n for n in layers if any(n.startswith(f"{place}.") for place in folded)}
    assert layers.keys() - gone == plain.keys()
    inputs = Inputs(generator.signature, "parity").draw(1)
    with torch.no_grad():
        expected = run_module(module.eval(), generator.signature, inputs)
    torch.testing.assert_close(generator(inputs), expected, rtol=1e-3, atol=1e-3)


# Folders as diffusers saves them.


def diffusers(
    name: str, size: str, spread: float = 0.3, centre: float = 0.0, **settings: Any
) -> Builder:
    """A builder of the diffusers class ``name``; a decoder for an autoencoder."""

    def build(folder: Path) -> Generator:
        ensure_torchvision_imports()
        import diffusers

        torch.manual_seed(0)
        model = getattr(diffusers, name)(**settings)
        if name == "VQModel":
            nn.init.normal_(model.quantize.embedding.weight)
        model.save_pretrained(folder / "first")
        generator = genslim.load(folder / "first", input=size)
        module = generator.trainable()
        example = tuple(Inputs(generator.signature, "recovery").draw(2).values())
        settle(module, example, spread, centre)
        part = getattr(module, "unet", module).state_dict()
        model.load_state_dict({**model.state_dict(), **part})
        model.save_pretrained(folder / "model")
        return genslim.load(folder / "model", input=size)

    return build


# The user's own modules.


def own(
    kind: Callable[[], nn.Module],
    *sizes: str,
    images: bool = False,
    value_range: tuple[float, float] | None = None,
    spread: float = 0.5,
) -> Builder:
    """A builder of one of the modules of networks.py, opened as ``networks:NAME``."""

    def build(folder: Path) -> Generator:
        from safetensors.torch import save_file

        torch.manual_seed(0)
        module = kind()
        shapes = [tuple(int(s) for s in z.rpartition(":")[2].split(",")) for z in sizes]
        example = tuple(
            pictures((8, *s[1:])) if images and len(s) == 4 else torch.randn(8, *s[1:])
            for s in shapes
        )
        settle(module, example, spread)
        path = folder / f"{kind.__name__}.safetensors"
        save_file({k: v.contiguous().clone() for k, v in module.state_dict().items()}, path)
        return genslim.load(
            f"{kind.__module__}:{kind.__name__}",
            input=sizes,
            weights=path,
            images=write_pictures(folder / "images") if images else None,
            value_range=value_range,
        )

    return build


ARCHITECTURES: dict[str, Builder] = {
    "esrgan-6": spandrel("ESRGAN", "ESRGAN", num_blocks=6, num_filters=64),
    "esrgan-23": spandrel("ESRGAN", "ESRGAN", num_blocks=23, num_filters=32),
    "rcan": spandrel("RCAN", "RCAN", n_resgroups=4, n_resblocks=6, n_feats=64, spread=51),
    "compact": spandrel("Compact", "Compact", num_feat=64, num_conv=16),
    "swiftsrgan": spandrel("SwiftSRGAN", "SwiftSRGAN"),
    "span": spandrel("SPAN", "SPAN", num_in_ch=3, num_out_ch=3, feature_channels=48),
    "realcugan-2x": spandrel("RealCUGAN", "UpCunet2x", last=("unet1.conv_bottom",)),
    "realcugan-3x": spandrel("RealCUGAN", "UpCunet3x", last=("unet1.conv_bottom",)),
    "realcugan-4x": spandrel("RealCUGAN", "UpCunet4x"),
    "nafnet": spandrel(
        "NAFNet",
        "NAFNet",
        width=32,
        enc_blk_nums=[2, 2, 4],
        middle_blk_num=6,
        dec_blk_nums=[2, 2, 2],
    ),
    "fbcnn": spandrel("FBCNN", "FBCNN", nc=[32, 64, 128, 512], nb=2),
    "plksr": spandrel("PLKSR", "PLKSR", n_blocks=12),
    "realplksr": spandrel("PLKSR", "RealPLKSR", n_blocks=12),
    "mosr": spandrel("MoSR", "MoSR", n_block=12),
    "kbnet-s": spandrel(
        "KBNet",
        "KBNet_s",
        width=32,
        enc_blk_nums=[1, 1, 2],
        middle_blk_num=2,
        dec_blk_nums=[1, 1, 1],
    ),
    "safmn": spandrel("SAFMN", "SAFMN", dim=64),
    "swinir": spandrel(
        "SwinIR",
        "SwinIR",
        img_size=32,
        embed_dim=60,
        depths=[4, 4, 4, 4],
        num_heads=[6, 6, 6, 6],
        window_size=8,
        mlp_ratio=2.0,
        upscale=4,
        upsampler="pixelshuffledirect",
    ),
    "dcgan": lambda folder: random_dcgan(),
    "autoencoderkl-decoder": diffusers(
        "AutoencoderKL",
        "latents:1,4,8,8",
        block_out_channels=[32, 64, 64],
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=2,
        norm_num_groups=16,
    ),
    "autoencodertiny-decoder": diffusers(
        "AutoencoderTiny",
        "latents:1,4,8,8",
        encoder_block_out_channels=[32] * 4,
        decoder_block_out_channels=[64] * 4,
        spread=0.15,
    ),
    "vqmodel-decoder": diffusers(
        "VQModel",
        "latents:1,3,16,16",
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        layers_per_block=2,
        norm_num_groups=16,
        num_vq_embeddings=64,
    ),
    "unet2d": diffusers(
        "UNet2DModel",
        "sample:1,3,32,32",
        spread=1.0,
        block_out_channels=[32, 64, 64],
        down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        layers_per_block=2,
        norm_num_groups=16,
        sample_size=32,
    ),
    "unet2d-condition": diffusers(
        "UNet2DConditionModel",
        "sample:1,4,16,16",
        spread=1.0,
        block_out_channels=[32, 64],
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        layers_per_block=2,
        norm_num_groups=16,
        cross_attention_dim=32,
        attention_head_dim=4,
        sample_size=16,
    ),
    "cyclegan-resnet": own(
        networks.cyclegan_resnet, "images:1,3,64,64", images=True, value_range=(-1.0, 1.0)
    ),
    "pix2pix-unet": own(
        networks.pix2pix_unet, "images:1,3,64,64", images=True, value_range=(-1.0, 1.0)
    ),
}
"""What the test matrix runs over."""

OTHERS: dict[str, Builder] = {
    "dncnn": spandrel("DnCNN", "DnCNN", in_nc=3, out_nc=3, nb=17),
    "scunet": spandrel("SCUNet", "SCUNet", "1,3,64,64", config=[2, 2, 2, 2, 2, 2, 2], dim=64),
    "hat": spandrel(
        "HAT",
        "HAT",
        img_size=32,
        embed_dim=60,
        depths=(2, 2),
        num_heads=(6, 6),
        window_size=8,
        upscale=4,
        mlp_ratio=2.0,
    ),
    "omnisr": spandrel("OmniSR", "OmniSR", res_num=2),
    "swin2sr": spandrel(
        "Swin2SR",
        "Swin2SR",
        img_size=32,
        embed_dim=60,
        depths=[2, 2],
        num_heads=[6, 6],
        window_size=8,
        mlp_ratio=2.0,
        upsampler="pixelshuffledirect",
    ),
    "rgt": spandrel("RGT", "RGT", img_size=32, embed_dim=64, depth=[2, 2], num_heads=[4, 4]),
    "ditn": spandrel("DITN", "DITN", ITL_blocks=2, SAL_blocks=2),
    "retinexformer": spandrel("RetinexFormer", "RetinexFormer", stage=1, num_blocks=[1, 1, 1]),
    "uformer": spandrel("Uformer", "Uformer", "1,3,128,128", depths=[1] * 9),
    "craft": spandrel("CRAFT", "CRAFT", depths=[2, 2], num_heads=[6, 6]),
    "atd": spandrel(
        "ATD", "ATD", img_size=32, embed_dim=48, depths=(2, 2), num_heads=(4, 4), mlp_ratio=2.0
    ),
    "drct": spandrel(
        "DRCT",
        "DRCT",
        img_size=32,
        embed_dim=60,
        depths=(6, 6),
        num_heads=(6, 6),
        upscale=2,
        upsampler="pixelshuffle",
    ),
    "mixdehazenet": spandrel("MixDehazeNet", "MixDehazeNet", "1,3,64,64"),
    "dctlsa": spandrel("DCTLSA", "DCTLSA"),
    "fftformer": spandrel("FFTformer", "FFTformer", num_blocks=[1, 1, 2], num_refinement_blocks=1),
    "realcugan-2x-fast": spandrel("RealCUGAN", "UpCunet2x_fast", "1,3,40,40"),
    "esrgan-plus": spandrel("ESRGAN", "ESRGAN", num_blocks=3, num_filters=32, plus=True),
    "esrgan-unshuffle": spandrel(
        "ESRGAN", "ESRGAN", num_blocks=3, num_filters=32, in_nc=12, shuffle_factor=2
    ),
    "realplksr-dysample": spandrel(
        "PLKSR", "RealPLKSR", n_blocks=4, dysample=True, layer_norm=True
    ),
    "mosr-dysample": spandrel("MoSR", "MoSR", n_block=4, upsampler="dys"),
    "kbnet-l": spandrel(
        "KBNet", "KBNet_l", dim=48, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1
    ),
    "safmn-bcie": spandrel("SAFMNBCIE", "SAFMNBCIE", dim=48, n_blocks=2, num_layers=2),
    "stylegan": own(networks.stylegan, "z:1,64"),
    "vae-decoder": own(networks.vae_decoder, "z:1,32", value_range=(0.0, 1.0)),
    "mlp-gan": own(networks.mlp_gan, "z:1,64"),
    "gated-inpainting": own(
        networks.gated_inpainting, "picture:1,3,32,32", "mask:1,1,32,32", images=True, spread=1.0
    ),
    "srresnet": own(networks.srresnet, "picture:1,3,24,24", images=True),
    "shufflenet": own(networks.shufflenet, "z:1,64"),
    "mobilenet": own(networks.mobilenet, "z:1,64"),
    "self-attention": own(networks.self_attention, "z:1,64"),
}
"""What is known of beyond the matrix. Not here: MoESR, DAT and FDAT, which spandrel tells by values
and not by shapes; DRUNet and LaMa, which take a noise level or a mask beside the picture."""
