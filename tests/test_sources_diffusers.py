"""A folder of diffusers opens as a generator, is compressed without it, and its faults are told."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Cli, run_program
from safetensors.torch import load_file, save_file

import genslim
from genslim import Generator, Prior, UserError, artifact
from genslim.errors import MissingDependency
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.sources.diffusers import SUPPORTED
from genslim.torchvision_guard import ensure_torchvision_imports

DECODER = {
    "block_out_channels": [16, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 8,
}
UNET = {
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 4,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {**DECODER, "latent_channels": 4, "scaling_factor": 0.5},
    "AutoencoderTiny": {
        "encoder_block_out_channels": [16] * 2,
        "decoder_block_out_channels": [16] * 2,
        "num_encoder_blocks": [1, 1],
        "num_decoder_blocks": [1, 1],
    },
    "VQModel": {**DECODER, "num_vq_embeddings": 16, "vq_embed_dim": 5},
    "UNet2DModel": {
        **UNET,
        "sample_size": 20,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    },
    "UNet2DConditionModel": {
        **UNET,
        "sample_size": [16, 24],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "cross_attention_dim": 12,
    },
}
KL, UNET2D = "AutoencoderKL", "UNet2DModel"


def model_of(name: str, **more: Any) -> Any:
    """A small model of diffusers with random weights."""
    ensure_torchvision_imports()
    import diffusers

    torch.manual_seed(0)
    return getattr(diffusers, name)(**{**SETTINGS[name], **more}).eval()


def folder_of(name: str, where: str | Path = "saved", **more: Any) -> Path:
    """The model as ``save_pretrained`` writes it."""
    model_of(name).save_pretrained(where, **more)
    return Path(where)


@pytest.fixture
def pipeline() -> Path:
    """A folder with the parts of a pipeline."""
    folder = Path("pipeline")
    folder_of(KL, folder / "vae")
    folder_of(UNET2D, folder / "unet")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "config.json").write_text('{"model_type": "clip"}')
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder


# What each class becomes.


@torch.no_grad()
def test_the_five_classes_do_what_diffusers_does() -> None:
    expected: dict[str, Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]] = {
        "AutoencoderKL": lambda m, x: m.decode(x["latents"]).sample,
        "AutoencoderTiny": lambda m, x: m.decode(x["latents"]).sample,
        "VQModel": lambda m, x: m.decode(x["latents"], force_not_quantize=True).sample,
        "UNet2DModel": lambda m, x: m(x["sample"], x["timestep"]).sample,
        "UNet2DConditionModel": lambda m, x: m(**x).sample,
    }
    assert set(expected) == set(SUPPORTED)
    for name, run in expected.items():
        generator = genslim.load(folder_of(name, name))
        inputs = Inputs(generator.signature, "parity").draw(2)
        images = generator(inputs)
        assert torch.equal(images, run(model_of(name), inputs)), name
        assert generator.name == name


@pytest.mark.parametrize(
    ("name", "channels", "scale", "latent"),
    [(KL, 4, 2, 2.0), ("AutoencoderTiny", 4, 2, 1.0), ("VQModel", 5, 2, None)],
)
def test_decoders_take_latents_of_any_size(
    name: str, channels: int, scale: int, latent: float | None
) -> None:
    generator = genslim.load(folder_of(name))
    (spec,) = generator.signature.inputs
    assert spec.shape == ("batch", channels, "height", "width")
    assert spec.concrete(3) == (3, channels, 16, 16)
    if latent is None:  # as spread as the codebook's vectors
        latent = float(model_of(name).quantize.embedding.weight.detach().std())
    assert spec.draw == Prior("normal", latent)
    assert generator.signature.images.shape == ("batch", 3, f"{scale}*height", f"{scale}*width")
    assert generator.signature.images.value_range == (-1.0, 1.0)
    odd = generator({"latents": torch.randn(1, channels, 7, 9)})
    assert odd.shape == (1, 3, 7 * scale, 9 * scale)


def test_decoders_keep_no_encoder() -> None:
    module = genslim.load(folder_of(KL)).module
    assert module is not None
    assert {name.split(".")[0] for name in module.state_dict()} == {"post_quant_conv", "decoder"}
    assert module.get_submodule("decoder.up_blocks.0.resnets.0.conv1") is not None


def test_a_decoder_with_spatial_norm_sees_its_latents() -> None:
    # Its norms have 32 groups, and look at as many channels as the decoder takes.
    wider = {"block_out_channels": [32, 64], "vq_embed_dim": None}
    model = model_of("VQModel", norm_type="spatial", **wider)
    model.save_pretrained("movq")
    latents = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = model.decode(latents, force_not_quantize=True).sample
    assert torch.equal(genslim.load("movq")({"latents": latents}), expected)


def test_a_unet_takes_a_sample_and_a_time_step() -> None:
    generator = genslim.load(folder_of(UNET2D))
    sample, timestep = generator.signature.inputs
    assert sample.concrete(2) == (2, 3, 20, 20)
    assert sample.multiple_of == 2
    assert (timestep.shape, timestep.draw) == (("batch",), Prior("uniform", 1000))
    assert generator.signature.images.name == "noise"
    assert generator.signature.images.value_range == (-4.0, 4.0)


def test_a_unet_takes_a_prompt() -> None:
    generator = genslim.load(folder_of("UNet2DConditionModel"))
    sample, _, prompt = generator.signature.inputs
    assert sample.concrete(2) == (2, 4, 16, 24)
    assert (prompt.name, prompt.shape) == ("encoder_hidden_states", ("batch", 77, 12))


@torch.no_grad()
def test_the_unet_of_stable_diffusion_xl_takes_two_more() -> None:
    model = model_of(
        "UNet2DConditionModel",
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 10,
    )
    model.save_pretrained("xl")
    generator = genslim.load("xl")
    inputs = Inputs(generator.signature, "parity").draw(2)
    assert list(inputs)[3:] == ["text_embeds", "time_ids"]
    assert inputs["text_embeds"].shape == (2, 10)
    plain = dict(list(inputs.items())[:3])
    added = dict(list(inputs.items())[3:])
    expected = model(**plain, added_cond_kwargs=added).sample
    assert torch.equal(generator(inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPPORTED)
def test_each_exports_and_onnx_runtime_agrees(name: str) -> None:
    generator = genslim.load(folder_of(name))
    session = onnxruntime.InferenceSession(onnx_of(generator))
    inputs = Inputs(generator.signature, "parity").draw(3)
    (images,) = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    np.testing.assert_allclose(images, generator(inputs).numpy(), rtol=1e-3, atol=1e-4)


# Sizes that the user states.


def test_the_size_to_measure_at_can_be_named() -> None:
    latents = genslim.load(folder_of(KL), input="1,4,8,12").signature.inputs[0]
    assert latents.concrete(1) == (1, 4, 8, 12)
    folder = folder_of("UNet2DConditionModel", "unet")
    generator = genslim.load(folder, input=("sample:1,4,8,8", "encoder_hidden_states:1,5,12"))
    shapes = {k: v.shape for k, v in Inputs(generator.signature, "parity").draw(2).items()}
    assert shapes["sample"] == (2, 4, 8, 8)
    assert shapes["encoder_hidden_states"] == (2, 5, 12)
    assert generator(Inputs(generator.signature, "parity").draw(2)).shape == (2, 4, 8, 8)


def test_a_value_range_can_be_stated() -> None:
    generator = genslim.load(folder_of(UNET2D), value_range=(-1.0, 1.0))
    assert generator.signature.data_range == 2.0


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("sample:1,4,8,8", "can't have the shape [1, 4, 8, 8]"),
        ("sample:1,3,9,8", "sides multiples of 2"),
        ("1,3", "can't have the shape [1, 3]"),
        ("sample:1,3,8,8,8", "can't have the shape"),
        ("timestep:1,1", "can't have the shape"),
        ("latents:1,3,8,8", "name one of sample, timestep"),
        ("sample:some", "is no shape"),
    ],
)
def test_a_shape_that_does_not_fit(cli: Cli, shape: str, says: str) -> None:
    assert says in cli("compress", "prune", folder_of(UNET2D), "--input", shape).refused()


# Ways in which weights are stored.


def images_of(folder: Path) -> torch.Tensor:
    generator = genslim.load(folder)
    return generator(Inputs(generator.signature, "parity").draw(1))


def test_weights_in_several_files_in_a_pickle_and_in_half_precision() -> None:
    expected = images_of(folder_of(KL))
    shards = folder_of(KL, "shards", max_shard_size="50KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert torch.equal(images_of(shards), expected)
    assert torch.equal(images_of(folder_of(KL, "bin", safe_serialization=False)), expected)
    half = folder_of(KL, "half")
    path = half / "diffusion_pytorch_model.safetensors"
    save_file({k: v.half() for k, v in load_file(path).items()}, path)
    assert genslim.load(half).dtype is torch.float32
    assert torch.allclose(images_of(half), expected, atol=0.05)


def test_old_names_of_attention() -> None:
    folder = folder_of(KL)
    expected = images_of(folder)
    path = folder / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {k.replace(f".{new}.", f".{name}."): v for k, v in state.items()}
    assert any(".proj_attn." in k for k in state)
    save_file(state, path)
    assert torch.equal(images_of(folder), expected)


def test_settings_of_another_version_are_passed_over() -> None:
    folder = folder_of(KL)
    expected = images_of(folder)
    alter(folder, of_the_future=True)
    assert torch.equal(images_of(folder), expected)


# Artifacts need no folder.


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_artifact_opens_without_the_folder(name: str) -> None:
    folder = folder_of(name)
    generator = genslim.load(folder)
    inputs = Inputs(generator.signature, "parity").draw(2)
    expected = generator(inputs)
    artifact.save(generator, Path("kept"), kind="original")
    shutil.rmtree(folder)
    loaded = genslim.load("kept")
    assert loaded.signature == generator.signature
    assert torch.equal(loaded(inputs), expected)
    record = json.loads(Path("kept/artifact.json").read_text())
    assert record["source"]["kind"] == "diffusers"
    assert record["source"]["class"] == name
    assert not [key for key in record["source"]["config"] if key.startswith("_")]


def test_a_changed_decoder_is_described_by_its_edits() -> None:
    generator = genslim.load(folder_of(KL))
    module = generator.trainable()
    resnet = module.get_submodule("decoder.up_blocks.0.resnets.0")
    for name, layer in {
        "conv1": torch.nn.Conv2d(32, 16, 3, padding=1),
        "norm2": torch.nn.GroupNorm(8, 16),
        "conv2": torch.nn.Conv2d(16, 32, 3, padding=1),
    }.items():
        setattr(resnet, name, layer)
    changed = generator.variant(module=module)
    inputs = Inputs(generator.signature, "parity").draw(1)
    loaded = artifact.save(changed, Path("changed"), kind="step")
    assert torch.equal(loaded(inputs), changed(inputs))
    edits = json.loads(Path("changed/artifact.json").read_text())["edits"]
    assert set(edits) == {f"decoder.up_blocks.0.resnets.0.{n}" for n in ("conv1", "norm2", "conv2")}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"class": "subprocess.Popen", "config": {}}, "'subprocess.Popen', which genslim does not"),
        ({"class": "DDPMScheduler", "config": {}}, "it takes AutoencoderKL"),
        ({"class": KL, "config": {"block_out_channels": "wide"}}, "fit no AutoencoderKL"),
        ({"class": KL}, "names no diffusers class with its settings"),
        ({"config": {}}, "names no diffusers class with its settings"),
    ],
)
def test_a_record_that_is_not_sound(cli: Cli, source: dict[str, Any], says: str) -> None:
    artifact.save(genslim.load(folder_of(KL)), Path("kept"), kind="original")
    path = Path("kept/artifact.json")
    record = json.loads(path.read_text())
    record["source"] = {"kind": "diffusers", **source}
    path.write_text(json.dumps(record))
    assert says in cli("compress", "prune", "kept").refused()


def test_loading_is_silent() -> None:
    folder = folder_of(KL)
    code = "import sys, genslim; print(genslim.load(sys.argv[1]).name)"
    outcome = run_program([sys.executable, "-c", code, folder])
    assert (outcome.status, outcome.out, outcome.err) == (0, "saved\n", "")


# What can be wrong with a folder.


def alter(folder: Path, **changes: Any) -> None:
    """Change settings in a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(cli: Cli, source: object, status: int = 2) -> str:
    line = cli("compress", "prune", source).refused(status=status)
    assert not Path("runs").exists()
    return line


def test_a_part_of_a_pipeline(pipeline: Path) -> None:
    assert genslim.load(pipeline / "vae").name == "pipeline-vae"
    assert genslim.load(pipeline / "unet").signature.images.name == "noise"


def test_a_pipeline_without_a_part(cli: Cli, pipeline: Path) -> None:
    line = refusal(cli, pipeline)
    assert "name one of pipeline/unet, pipeline/vae" in line
    assert "whole pipeline" in line


@pytest.mark.parametrize("part", ["scheduler", "decoder"])
def test_a_part_that_is_no_model(cli: Cli, pipeline: Path, part: str) -> None:
    line = refusal(cli, pipeline / part)
    assert f"has no model '{part}'" in line
    assert "name one of pipeline/unet, pipeline/vae" in line


def test_a_pipeline_of_nothing_known(cli: Cli) -> None:
    Path("flux").mkdir()
    Path("flux/model_index.json").write_text("{}")
    assert "no part of a supported class" in refusal(cli, "flux")


def test_a_folder_of_another_library(cli: Cli, pipeline: Path) -> None:
    assert "names no class of diffusers" in refusal(cli, pipeline / "text_encoder")


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "os.system", ""])
def test_a_class_that_is_not_supported(cli: Cli, name: str) -> None:
    folder = folder_of(KL)
    alter(folder, _class_name=name)
    line = refusal(cli, folder)
    assert repr(name) in line
    assert f"it takes {', '.join(SUPPORTED)}" in line


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'"text"', b"[" * 100_000, b"{}"]
)
def test_damaged_settings(cli: Cli, content: bytes) -> None:
    folder = folder_of(KL)
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refusal(cli, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"block_out_channels": [16, 30]},
        {"up_block_types": ["NoSuchBlock"] * 2},
        {"act_fn": "__import__('os')"},
        {"norm_num_groups": 0},
        {"scaling_factor": "much"},
    ],
)
def test_settings_that_make_no_sense(cli: Cli, changes: dict[str, Any]) -> None:
    folder = folder_of(KL)
    alter(folder, **changes)
    assert "settings" in refusal(cli, folder)


def test_a_unet_that_is_told_more(cli: Cli) -> None:
    model = model_of(UNET2D, num_class_embeds=10)
    model.save_pretrained("classes")
    line = refusal(cli, "classes")
    assert "does not run on sample, timestep alone" in line
    assert "class_labels" in line


def test_missing_weights(cli: Cli) -> None:
    folder = folder_of(KL)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    assert "holds no weights (diffusion_pytorch_model.safetensors)" in refusal(cli, folder)


def test_weights_cut_short(cli: Cli) -> None:
    path = folder_of(KL) / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "not a sound safetensors file" in refusal(cli, "saved")


def test_weights_of_another_model(cli: Cli) -> None:
    folder = folder_of(KL)
    alter(folder, block_out_channels=[16, 64])
    assert "don't fit its config.json" in refusal(cli, folder)
    shutil.copy(
        folder_of(UNET2D, "unet") / "diffusion_pytorch_model.safetensors",
        folder / "diffusion_pytorch_model.safetensors",
    )
    assert "Missing key" in refusal(cli, folder)


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"weight_map": {}},
        {"weight_map": ["a"]},
        {"weight_map": {"a": "../secret.safetensors"}},
        {"weight_map": {"a": 5}},
    ],
)
def test_an_index_that_names_no_files_of_the_folder(cli: Cli, index: dict[str, Any]) -> None:
    folder = folder_of(KL)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert "names no files of this folder" in refusal(cli, folder)


def test_a_shard_that_is_missing(cli: Cli) -> None:
    folder = folder_of(KL, max_shard_size="50KB")
    sorted(folder.glob("*.safetensors"))[0].unlink()
    assert "no file" in refusal(cli, folder)


def test_a_pickle_with_code_does_not_run(cli: Cli) -> None:
    folder = folder_of(KL)
    (folder / "diffusion_pytorch_model.safetensors").unlink()

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (Path("executed"),)

    torch.save({"conv": Trap()}, folder / "diffusion_pytorch_model.bin")
    assert "it was not executed" in refusal(cli, folder)
    assert not Path("executed").exists()


def test_code_in_a_folder_does_not_run() -> None:
    folder = folder_of(KL)
    (folder / "modeling.py").write_text("raise SystemExit(5)")
    alter(folder, auto_map={"AutoModel": "modeling.Model"})
    assert isinstance(genslim.load(folder), Generator)


def test_without_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(KL)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match="which is not installed") as caught:
        genslim.load(folder)
    assert 'pip install "genslim[diffusers]"' in str(caught.value)


def test_a_file_in_a_pipeline_is_no_part(pipeline: Path) -> None:
    path = pipeline / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="spandrel recognises no architecture"):
        genslim.load(path)
