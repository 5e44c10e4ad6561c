"""Text to image: tokens of images, prompts, both ways of decoding, the step graph, training."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image
from torch import Tensor

from generators.networks.text_to_image import LENGTH, TextImageModel, drawn, signature
from generators.networks.text_transformer import (
    BYTES,
    PROMPT,
    Transformer,
    looking_back,
    looking_everywhere,
)
from generators.networks.vector_quantizer import (
    TOKENS,
    Codebook,
    VectorQuantizedAutoencoder,
    usage,
)
from generators.prompting import sample_prompts
from generators.samplers import prompted_digits as samples
from generators.text import prompts
from generators.text.cached import quantized, step_graph
from generators.text.compressed import painter_of, transformer_of
from generators.text.decoding import likeliest, many_at_once, one_after_another
from generators.text.eager import TorchReader
from generators.text.pipeline import TextToImage, read_runtime, save_graphs
from generators.text.sessions import OnnxRuntimeReader, OpenVinoReader
from generators.training.language_model import hidden, lesson
from generators.training.text_to_image import TextToImage as Training
from genslim.console import Console
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.onnx_graph import export_module
from genslim.signature import BATCH, Input, Prior

CODES = 12


def tiny_transformer() -> Transformer:
    """Two layers of width 32, its weights far enough from zero to tell tokens apart."""
    torch.manual_seed(0)
    network = Transformer(CODES, width=32, layers=2, heads=2).eval()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return network


def tiny_model() -> TextImageModel:
    return TextImageModel(tiny_transformer()).eval()


def tiny_generator(module: TextImageModel | None = None) -> Generator:
    """As the catalogue gives it, but for inputs, which need no shipped weights."""
    ids = Input("ids", (BATCH, LENGTH), Prior("uniform", CODES + 1.9))
    model = module or tiny_model()
    return Generator("tiny-text", replace(signature(), inputs=(ids,)), {"kind": "x"}, model)


@pytest.fixture
def asked() -> Tensor:
    return prompts.encode(["three", "a handwritten seven", "三"])


# Tokens of images.


def test_images_come_back_from_tokens_in_their_shape() -> None:
    network = VectorQuantizedAutoencoder(CODES, width=8).eval()
    images = torch.rand(3, 1, 32, 32) * 2 - 1
    tokens = network.encode(images)
    assert tokens.shape == (3, TOKENS)
    assert tokens.dtype == torch.int64
    again = network.decode(tokens)
    assert again.shape == images.shape
    assert (again[:, :, :2] == -1).all()
    assert torch.equal(again, network(images)[0])


def test_the_gradient_passes_straight_through_the_rounding() -> None:
    torch.manual_seed(0)
    network = VectorQuantizedAutoencoder(CODES, width=8)
    network.codebook.vectors.normal_()
    latents: list[Tensor] = []
    network.encoder.register_forward_hook(lambda *call: latents.append(call[2]))
    given: list[Tensor] = []
    network.decoder.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    images, commitment, codes = network(torch.rand(4, 1, 32, 32) * 2 - 1)
    latents[0].retain_grad()
    given[0].retain_grad()
    images.square().mean().backward(retain_graph=True)
    assert torch.equal(latents[0].grad, given[0].grad)
    torch.testing.assert_close(given[0], network.codebook.look_up(codes))
    assert float(commitment.detach()) > 0


def test_each_latent_takes_the_nearest_code() -> None:
    book = Codebook(CODES, 3)
    book.vectors.normal_()
    latents = torch.randn(2, 3, 7, 7)
    distance = torch.cdist(latents.movedim(1, -1).reshape(-1, 3), book.vectors)
    assert torch.equal(book(latents).flatten(), distance.argmin(1))


def test_codes_follow_the_mean_of_what_takes_them() -> None:
    book = Codebook(2, 1)
    book.vectors.copy_(torch.tensor([[-1.0], [1.0]]))
    book.counts.fill_(10.0)
    book.sums.copy_(book.vectors * 10)
    latents = torch.tensor([-2.0, -4.0, 3.0, 5.0]).view(1, 1, 2, 2)
    random = torch.Generator().manual_seed(0)
    for _ in range(800):
        book.follow(latents, book(latents), random, restart=False)
    torch.testing.assert_close(book.vectors, torch.tensor([[-3.0], [4.0]]), atol=0.02, rtol=0)


def test_codes_that_nothing_takes_start_again_from_latents() -> None:
    random = torch.Generator().manual_seed(0)
    book = Codebook(4, 2)
    book.vectors.fill_(100.0)
    book.vectors[0] = 0.0
    book.counts[0] = 1.0
    latents = torch.randn(8, 2, 7, 7)
    codes = book(latents)
    assert usage(codes, 4)["codes_used"] == 0.25
    assert book.follow(latents, codes, random, restart=False) == 0
    book.vectors.fill_(100.0)
    book.counts.zero_()
    assert book.follow(latents, codes, random) >= 3
    rows = latents.movedim(1, -1).reshape(-1, 2)
    assert float(torch.cdist(book.vectors[1:], rows).min(1).values.max()) < 1e-5
    assert usage(book(latents), 4)["codes_used"] == 1.0


def test_usage_of_codes_is_an_entropy() -> None:
    alike = usage(torch.arange(8), 8)
    assert alike["perplexity"] == pytest.approx(8)
    assert usage(torch.zeros(8, dtype=torch.int64), 8)["perplexity"] == pytest.approx(1)


# Prompts.


@pytest.mark.parametrize("prompt", ["three", "a handwritten seven", "三", "fünf", "٣", "ß" * 16])
def test_prompts_come_back_from_their_bytes(prompt: str) -> None:
    (row,) = prompts.encode([prompt])
    assert row.shape == (PROMPT,)
    assert prompts.decode(row) == prompt


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("", "empty"), ("  ", "empty"), ("7" * 33, "33 bytes"), ("三" * 11, "33 bytes"),
     ("a\0b", "zero byte"), ("\ud800", "no valid text")],
)  # fmt: skip
def test_prompts_that_can_not_be_read_are_refused(prompt: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        prompts.encode(["seven", prompt])
    assert caught.value.hint


def test_prompts_to_train_with_fit_and_name_their_digit() -> None:
    digits = [i % 10 for i in range(500)]
    drawn_prompts = prompts.draw(digits, seed=3)
    assert prompts.encode(drawn_prompts).shape == (500, PROMPT)
    assert drawn_prompts == prompts.draw(digits, seed=3)
    assert drawn_prompts != prompts.draw(digits, seed=4)
    named = [
        any(language.names[digit].lower() in prompt.lower() for language in prompts.LANGUAGES)
        for digit, prompt in zip(digits, drawn_prompts, strict=True)
    ]
    assert 0.85 < np.mean(named) < 1  # some name none


def test_wordings_held_apart_are_never_trained_with() -> None:
    for language in prompts.LANGUAGES:
        assert not {*language.wordings} & {*language.held_apart}
    for digit in range(10):
        assert len(prompts.held_apart(digit)) >= 8
        assert not {*prompts.held_apart(digit)} & {*prompts.usual(digit)}


def test_prompts_to_judge_by_ask_for_all_digits_alike() -> None:
    wanted, digits = prompts.balanced(200)
    assert torch.bincount(digits).tolist() == [20] * 10
    assert all(
        prompt in prompts.usual(int(digit)) for prompt, digit in zip(wanted, digits, strict=True)
    )


# The transformer.


def test_reading_in_parts_is_reading_at_once(asked: Tensor) -> None:
    network = tiny_transformer()
    codes = torch.randint(CODES, (3, TOKENS - 1)) + BYTES
    tokens = torch.cat([asked, torch.full((3, 1), network.start), codes], 1)
    with torch.no_grad():
        whole, _ = network(tokens, looking_back(LENGTH))
    reader = TorchReader(network)
    parts = [reader.read(tokens[:, : PROMPT + 1])]
    parts += [reader.read(tokens[:, i : i + 1]) for i in range(PROMPT + 1, LENGTH)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


def test_masked_tokens_are_read_with_the_kept_prompt_as_at_once(asked: Tensor) -> None:
    network = tiny_transformer()
    codes = torch.randint(CODES + 1, (3, TOKENS)) + BYTES
    tokens = torch.cat([asked, codes], 1)
    with torch.no_grad():
        whole, _ = network(tokens, looking_everywhere(tokens))
    reader = TorchReader(network)
    reader.read(asked)
    for _ in range(2):  # what is not kept leaves no trace
        read = reader.read(codes, keep=False)
        torch.testing.assert_close(read, whole[:, PROMPT:], atol=1e-5, rtol=0)


def test_the_model_reads_as_its_numbers_say(asked: Tensor) -> None:
    model = tiny_model()
    codes = torch.randint(CODES, (3, TOKENS))
    start = torch.full((3, 1), CODES + 1)
    one_by_one = torch.cat([asked, start, codes[:, :-1]], 1).float()
    later = one_by_one.clone()
    later[:, -1] = (later[:, -1] + 1) % CODES
    with torch.no_grad():
        a, b = model.logits(one_by_one), model.logits(later)
        assert torch.equal(a[:, :-1], b[:, :-1])
        assert not torch.equal(a[:, -1], b[:, -1])
        masked = torch.cat([asked, codes], 1).float()
        masked[:, PROMPT + 5] = CODES
        changed = masked.clone()
        changed[:, -1] = (changed[:, -1] + 1) % CODES
        place = model.logits(masked)[:, 5], model.logits(changed)[:, 5]
    assert not torch.allclose(*place)


def test_tokens_draw_what_the_decoder_draws_of_their_vectors() -> None:
    model, codes = tiny_model(), torch.randint(CODES, (2, TOKENS))
    with torch.no_grad():
        vectors = model.codebook(codes).transpose(1, 2).unflatten(2, (7, 7))
        expected = model.decoder(vectors)
    torch.testing.assert_close(drawn(model, codes), expected, atol=1e-6, rtol=0)


# Decoding.


def test_one_seed_writes_the_same_tokens(asked: Tensor) -> None:
    reader = TorchReader(tiny_transformer())
    for write in (one_after_another, many_at_once):
        first, again, other = (write(reader, asked, seed=seed) for seed in (1, 1, 2))
        assert first.shape == (3, TOKENS)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert int(first.min()) >= 0
        assert int(first.max()) < CODES


def test_no_temperature_takes_the_likeliest(asked: Tensor) -> None:
    network = tiny_transformer()
    codes = one_after_another(TorchReader(network), asked, temperature=0)
    assert torch.equal(codes, one_after_another(TorchReader(network), asked, top_k=1, seed=9))
    tokens = torch.cat([asked, torch.full((3, 1), network.start), codes[:, :-1] + BYTES], 1)
    with torch.no_grad():
        logits, _ = network(tokens, looking_back(LENGTH))
    assert torch.equal(logits[:, PROMPT:].argmax(2), codes)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 48, 49])
def test_masked_decoding_fills_every_token(asked: Tensor, steps: int) -> None:
    reader = TorchReader(tiny_transformer())
    seen: list[Tensor] = []
    read = reader.read

    def watched(tokens: Tensor, *, keep: bool = True) -> Tensor:
        seen.append(tokens)
        return read(tokens, keep=keep)

    reader.read = watched  # type: ignore[method-assign]
    codes = many_at_once(reader, asked, steps=steps)
    assert int(codes.max()) < CODES
    waiting = [int((tokens == BYTES + CODES).sum()) for tokens in seen[1:]]
    assert len(waiting) == steps
    assert waiting[0] == 3 * TOKENS
    assert all(after < before for before, after in pairwise(waiting))
    for before, after in pairwise(seen[1:]):  # what is written stays
        known = before != BYTES + CODES
        assert torch.equal(before[known], after[known])


def test_only_likely_codes_can_come() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert likeliest(logits, 2, None).isfinite().tolist() == [True, True, False, False]
    assert likeliest(logits, None, 0.7).isfinite().tolist() == [True, True, False, False]
    assert likeliest(logits, None, 0.1).isfinite().tolist() == [True, False, False, False]
    assert torch.equal(likeliest(logits, 9, 1.0), logits)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"temperature": float("nan")}]
)
def test_sampling_that_can_not_be_is_refused(asked: Tensor, wrong: dict[str, float]) -> None:
    reader = TorchReader(tiny_transformer())
    for write in (one_after_another, many_at_once):
        with pytest.raises(UserError, match=next(iter(wrong))):
            write(reader, asked, **wrong)  # type: ignore[operator]


@pytest.mark.parametrize("steps", [0, 50])
def test_steps_are_as_many_as_tokens_at_most(asked: Tensor, steps: int) -> None:
    with pytest.raises(UserError, match="1 to 49"):
        many_at_once(TorchReader(tiny_transformer()), asked, steps=steps)


# The step graph.


@pytest.mark.parametrize("runtime", [OnnxRuntimeReader, OpenVinoReader])
def test_the_step_graph_reads_and_writes_as_pytorch_does(
    asked: Tensor, runtime: type[OnnxRuntimeReader] | type[OpenVinoReader]
) -> None:
    network = tiny_transformer()
    eager, session = TorchReader(network), runtime(step_graph(network), 1)
    assert session.codes == CODES
    codes = torch.randint(CODES, (3, TOKENS)) + BYTES
    for reader in (eager, session):
        reader.begin()
    for tokens, keep in ((asked, True), (codes, False), (codes[:, :1], True), (codes[:, :5], True)):
        expected, read = eager.read(tokens, keep=keep), session.read(tokens, keep=keep)
        torch.testing.assert_close(read, expected, atol=1e-5, rtol=0)
    for write in (one_after_another, many_at_once):
        assert torch.equal(write(session, asked, seed=4), write(eager, asked, seed=4))
    assert len(one_after_another(session, asked[:1])) == 1  # another batch


def test_the_step_graph_is_sound_onnx_with_the_cache_beside_it() -> None:
    import onnx

    model = onnx.load_from_string(step_graph(tiny_transformer()))
    onnx.checker.check_model(model, full_check=True)
    inputs = {i.name: i.type.tensor_type.shape.dim for i in model.graph.input}
    assert list(inputs) == ["tokens"] + [
        f"past_{part}_{i}" for i in range(2) for part in ("key", "value")
    ]
    assert inputs["past_key_0"][2].dim_param == "past"
    assert len(model.graph.output) == len(inputs)


def test_int8_steps_are_near_and_smaller(asked: Tensor) -> None:
    network = tiny_transformer()
    plain = step_graph(network)
    int8 = quantized(plain)
    assert len(int8) < 0.8 * len(plain)
    expected = TorchReader(network).read(asked)
    error = (OnnxRuntimeReader(int8, 1).read(asked) - expected).abs().mean()
    assert 0 < float(error) < 0.1 * float(expected.std())


def test_a_graph_gives_back_its_transformer_and_its_painter() -> None:
    generator = tiny_generator()
    model = generator.module
    assert isinstance(model, TextImageModel)
    blob = export_module(model, generator.signature)
    found = transformer_of(blob, model.transformer)
    for (name, a), b in zip(model.transformer.named_parameters(), found.parameters(), strict=True):
        assert torch.equal(a, b), name
    codes = torch.randint(CODES, (2, TOKENS))
    torch.testing.assert_close(
        painter_of(blob, CODES)(codes), drawn(model, codes), atol=1e-5, rtol=0
    )


def test_two_files_draw_for_prompts_without_genslim(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    generator = tiny_generator()
    step, painter = save_graphs(generator, tmp_path / "text")
    for path in (step, painter):
        onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(painter, providers=["CPUExecutionProvider"])
    codes = torch.randint(CODES, (3, TOKENS))
    shares = torch.nn.functional.one_hot(codes, CODES).float()
    (images,) = session.run(None, {"shares": shares.numpy()})
    model = generator.module
    assert isinstance(model, TextImageModel)
    torch.testing.assert_close(torch.from_numpy(images), drawn(model, codes), atol=1e-5, rtol=0)
    prompt = prompts.encode(["three"])
    read = OnnxRuntimeReader(step.read_bytes()).read(prompt)
    torch.testing.assert_close(read, TorchReader(model.transformer).read(prompt), atol=1e-4, rtol=0)


def test_what_writes_no_tokens_has_no_step(tmp_path: Path, tiny_gan: Generator, cli: Cli) -> None:
    with pytest.raises(UserError, match="draws no pictures for prompts"):
        save_graphs(tiny_gan, tmp_path)
    said = cli("generators", "onnx", "dcgan-mnist", "-o", tmp_path / "out").refused()
    assert "draws no pictures for prompts" in said
    assert not (tmp_path / "out").exists()


# From prompts to pictures.


def test_pictures_are_drawn_for_prompts_whatever_runs() -> None:
    generator = tiny_generator()
    blob = export_module(generator.module, generator.signature)  # type: ignore[arg-type]
    graph = generator.variant(module=None, onnx=blob)
    for decoding in ("autoregressive", "masked"):
        images = [
            TextToImage.load(source, runtime=runtime)(["three", "三"], seed=1, decoding=decoding)  # type: ignore[arg-type]
            for source, runtime in (
                (generator, "torch"),
                (generator, "onnxruntime"),
                (graph, "auto"),
            )
        ]
        assert images[0].shape == (2, 1, 32, 32)
        assert float(images[0].abs().max()) <= 1
        for other in images[1:]:
            torch.testing.assert_close(other, images[0], atol=1e-4, rtol=0)


def test_a_prompt_draws_as_often_as_asked(tmp_path: Path) -> None:
    generator, quiet = tiny_generator(), Console(quiet=True)
    made = sample_prompts(generator, tmp_path / "all", 5, ["a", "b"], batch=2, console=quiet)
    assert (made.n, made.batch, made.prompts) == (5, 2, ("a", "b"))
    assert made.tokens_per_second == pytest.approx(49 * made.images_per_second)
    assert len(list((tmp_path / "all").iterdir())) == 5
    digits = sample_prompts(generator, tmp_path / "ten.png", None, [], steps=1, console=quiet)
    assert digits.n == 10, "with no prompt, the ten digits"
    with Image.open(tmp_path / "ten.png") as sheet:
        assert sheet.size == (4 * 32, 3 * 32)
    with pytest.raises(UserError, match="n is 0"):
        sample_prompts(generator, tmp_path / "none", 0, ["a"], console=quiet)
    with pytest.raises(UserError, match="not drawn on 'tensorrt'"):
        read_runtime("tensorrt")


def test_a_generator_of_latents_reads_no_prompts(cli: Cli) -> None:
    line = cli("generators", "sample", "dcgan-mnist", "--prompt", "three").refused()
    assert "dcgan-mnist reads no prompts" in line


def test_what_takes_no_prompts_is_refused(tiny_gan: Generator) -> None:
    with pytest.raises(UserError, match="draws no pictures for prompts"):
        TextToImage.load(tiny_gan)
    graph = tiny_generator().variant(module=None, onnx=b"")
    with pytest.raises(UserError, match="which PyTorch does not run"):
        TextToImage.load(graph, runtime="torch")
    with pytest.raises(UserError, match="no decoding 'backwards'"):
        TextToImage.load(tiny_generator())("three", decoding="backwards")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no prompt"):
        TextToImage.load(tiny_generator())([])


def test_heads_and_feed_forward_are_pruned_and_still_write(asked: Tensor) -> None:
    from compress import Prune

    pruned = Prune(0.5, of="channels", recover="none", allocation="uniform")(tiny_generator())
    assert isinstance(pruned.module, TextImageModel)
    block = pruned.module.transformer.blocks[0]
    assert block.attention.key.out_features == 16  # one head of two
    assert block.feed_forward[1].out_features < 128
    assert pruned.module.transformer.head.out_features == CODES
    eager = TorchReader(pruned.module.transformer)
    session = OnnxRuntimeReader(step_graph(pruned.module.transformer), 1)
    torch.testing.assert_close(session.read(asked), eager.read(asked), atol=1e-5, rtol=0)


def test_the_benchmark_compares_all_ways_with_the_first() -> None:
    from benchmarks import text

    compared = text.ways(tiny_generator(), None, [2], threads=1)
    taken = text.times(compared, batch=2, rounds=3, seconds=1.0)
    assert list(taken) == list(compared)
    figures = text.quality(compared["original, PyTorch eager, masked in 2 steps"], 20)
    assert 0 <= figures["asked"] <= 1
    row = {"tokens_per_second": 1e4, "times_as_fast": 3.5, "interval": [3.0, 4.0], **figures}
    page = text.markdown(
        {"artifact": ["prune"], "batch": 2, "threads": 1, "count": 20, "rows": {"one": row}}
    )
    assert "3.50 (3.00 to 4.00)" in page


# Training.


def test_lessons_hide_some_places_and_show_the_rest(asked: Tensor) -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(CODES, (3, TOKENS))
    read = lesson(asked, codes, CODES, random)
    written = read.tokens[:, PROMPT:] - BYTES
    assert written[0, 0] == CODES + 1
    assert torch.equal(written[0, 1:], codes[0, :-1])
    masked = read.asked[1:]
    assert (written[1:][masked] == CODES).all()
    assert torch.equal(written[1:][~masked], codes[1:][~masked])
    assert not bool(read.allowed[0, 0].triu(1).any())
    assert bool(read.allowed[1, 0, PROMPT:].all())
    counts = hidden(2000, TOKENS, random).sum(1)
    assert int(counts.min()) >= 1
    assert float(counts.float().mean()) / TOKENS == pytest.approx(2 / np.pi, abs=0.03)


def test_training_lowers_both_losses_and_both_parts_of_it() -> None:
    torch.manual_seed(0)
    images = -torch.ones(16, 1, 32, 32)
    labels = torch.arange(16) % 4
    for index, label in enumerate(labels):
        images[index, :, 6 + 5 * int(label) : 10 + 5 * int(label), 6:26] = 1
    objective = Training(
        VectorQuantizedAutoencoder(CODES, width=8),
        Transformer(CODES, width=32, layers=1, heads=2),
        judge=lambda model: {"codes": float(model.codes)},
        held_apart=images,
        seed=0,
        share=0.5,
        rates=(1e-2, 1e-2),
    )
    losses: list[dict[str, float]] = []
    for step in range(120):
        if step == 59:
            assert "codes" not in objective.judge()
            assert objective.sheet().shape == (32, 1, 32, 32)
        losses.append(objective.train_batch(images, labels, step / 120))
    assert losses[55]["reconstruction"] < 0.5 * losses[2]["reconstruction"]
    for part in ("one_by_one", "masked"):
        assert losses[-1][part] < 0.7 * losses[61][part]
    assert objective.judge()["codes"] == CODES
    product = objective.product()
    assert isinstance(product, TextImageModel)
    product.decoder.net[0].weight.data.zero_()
    assert not objective.product().decoder.net[0].weight.any()  # what is rounded stays rounded
    assert objective.sheet().shape == (100, 1, 32, 32)


def test_samples_for_compression_are_the_networks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "shipped", tiny_model)
    monkeypatch.setattr(samples, "POOL", 16)
    samples.pool.cache_clear()
    try:
        stream = torch.Generator().manual_seed(5)
        first, second = samples.prompted_digits(20, stream), samples.prompted_digits(3, stream)
        again = samples.prompted_digits(20, torch.Generator().manual_seed(5))
    finally:
        samples.pool.cache_clear()
    assert first.shape == (20, LENGTH)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first[:3], second)
    assert float(first.max()) <= 255
    starts = (first[:, PROMPT] == CODES + 1).sum()
    assert int(starts) == 10  # half are read one after another
    with torch.no_grad():
        assert tiny_model()(first).shape == (20, 1, 32, 32)
