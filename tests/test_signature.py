"""A signature says what goes in and out; it survives JSON, and shapes are filled in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genslim.errors import UserError
from genslim.signature import BATCH, Holes, Images, Input, Output, Prior, Sampler, Signature
from genslim.target import Target

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
sides = st.integers(1, 4096) | st.sampled_from(["height", "width", "4*height"])
finite = st.floats(allow_nan=False, allow_infinity=False)
ordered = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)
draws = (
    st.builds(Prior, st.sampled_from(["normal", "uniform"]), finite)
    | st.builds(Images, st.none() | names)
    | ordered.map(lambda shares: Holes(*shares))
    | st.builds(Sampler, names)
)
inputs = st.builds(
    Input,
    name=names,
    shape=st.lists(sides, max_size=4).map(lambda rest: (BATCH, *rest)),
    draw=draws,
    sizes=st.none() | st.dictionaries(names, st.integers(1, 4096), max_size=3),
    multiple_of=st.integers(1, 64),
    dtype=st.sampled_from(["float32", "int64"]),
    noise=ordered.map(tuple),
)
outputs = st.builds(
    Output,
    name=names,
    shape=st.lists(sides, max_size=4).map(lambda rest: (BATCH, *rest)),
    value_range=st.tuples(finite, finite),
)
signatures = st.builds(
    Signature,
    inputs=st.lists(inputs, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(outputs, min_size=1, max_size=2).map(tuple),
)


@given(signatures)
def test_json_and_back_is_the_same(signature: Signature) -> None:
    text = json.dumps(signature.to_json())
    assert Signature.from_json(json.loads(text)) == signature


def test_a_signature_from_before_noise_is_read() -> None:
    signature = Signature((Input("z", (BATCH, 8), Prior()),), ())
    data = signature.to_json()
    del data["inputs"][0]["noise"]
    assert Signature.from_json(data) == signature


def test_pictures_are_images_and_what_is_sampled_in_their_shape() -> None:
    image = (BATCH, 1, 32, 32)
    assert Input("x", image, Images()).pictured
    assert Input("x", image, Sampler("digits")).pictured
    assert not Input("tokens", (BATCH, 12), Sampler("prompts")).pictured
    assert not Input("mask", image, Holes(0.1, 0.3)).pictured
    assert not Input("latents", image, Prior()).pictured


@given(signatures, names)
def test_naming_a_folder_changes_the_image_inputs_alone(signature: Signature, folder: str) -> None:
    named = signature.with_images(folder)
    assert not named.needs_images
    for before, after in zip(signature.inputs, named.inputs, strict=True):
        assert after.draw == (Images(folder) if isinstance(before.draw, Images) else before.draw)
        assert after.shape == before.shape
    assert named.outputs == signature.outputs


def test_concrete_shapes() -> None:
    sizes = {"height": 48, "width": 64}
    spec = Input("images", (BATCH, 3, "height", "width"), Images(), sizes=sizes)
    assert spec.concrete(2) == (2, 3, 48, 64)
    assert Input("z", (BATCH, 100), Prior()).concrete(16) == (16, 100)


def test_the_data_range_is_the_width_of_the_stated_range() -> None:
    spec = Input("z", (BATCH, 8), Prior())
    signature = Signature((spec,), (Output("images", (BATCH, 1, 4, 4), (-1.0, 1.0)),))
    assert signature.data_range == 2.0
    assert signature.images.name == "images"


targets = st.builds(
    Target,
    runtime=st.sampled_from(["torch", "onnxruntime", "openvino"]),
    batch=st.none() | st.integers(1, 64),
    threads=st.none() | st.integers(1, 64),
    precision=st.sampled_from(["auto", "fp32", "bf16"]),
)


@given(targets)
def test_a_target_reads_what_it_prints(target: Target) -> None:
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    "text", ["torch:batch=0", "torch:batch=-1", "torch:batch=x", "torch:fast", "torch:precision=8"]
)
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no setting"):
        Target.parse(text)


def test_what_a_target_leaves_open_is_settled_by_the_signature() -> None:
    latents = Signature((Input("z", (BATCH, 8), Prior()),), ())
    images = Signature((Input("x", (BATCH, 3, 8, 8), Images()),), ())
    assert Target().settled(latents).batch == 16
    assert Target().settled(images).batch == 1
    assert Target(batch=4, threads=3).settled(images) == Target(batch=4, threads=3)
    assert (Target().settled(images).threads or 0) >= 1
