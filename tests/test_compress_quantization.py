"""The parts of quantization: pairs, ranges, equalization, training, the cache, the sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from compress.norm_folding import without_batch_norms
from compress.quantization import calibration as cache
from compress.quantization import int8
from compress.quantization.equalization import equalized
from compress.quantization.int8 import Int8
from compress.quantization.layers import layer_times
from compress.quantization.mixing import Mixed, hold
from compress.quantization.pairs import Pairs, Range
from compress.quantization.placement import by_nncf_but_sums, by_onnxruntime
from compress.quantization.ranges import CHOICES, Histogram, histograms
from compress.quantization.training import Rounded, Rounding
from compress.quantize import Quantize
from genslim.console import SILENT
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.graph_rewrites import rewritten, sites
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import load_model
from genslim.runtimes import runtime
from genslim.signature import Images, Input, Output, Signature
from genslim.signs import for_openvino, signed, unsigned
from genslim.target import Target


class Dense(nn.Module):
    """What Real-ESRGAN is made of: concatenations, a residual sum, rectifiers with a slope."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 16, 3, padding=1)
        self.grow = nn.Conv2d(16, 16, 3, padding=1)
        self.fuse = nn.Conv2d(32, 16, 3, padding=1)
        self.tail = nn.Conv2d(16, 3, 3, padding=1)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.head(images)
        y = self.act(self.grow(x))
        x = x + 0.2 * self.fuse(torch.cat([x, y], 1))
        return self.tail(self.act(x))


def signature(folder: Path) -> Signature:
    """Images of 24x24 in, images of 24x24 out."""
    draw = Images(str(folder))
    spec = Input("images", ("batch", 3, 24, 24), draw=draw)
    return Signature((spec,), (Output("enlarged", ("batch", 3, 24, 24), (0.0, 1.0)),))


@pytest.fixture
def dense(pictures: Path) -> Generator:
    """A network whose channels differ in range, as trained ones do."""
    torch.manual_seed(0)
    module = Dense().eval()
    with torch.no_grad():
        factors = torch.logspace(-1.5, 0.5, 16)
        module.head.weight.mul_(factors.view(-1, 1, 1, 1))
        module.head.bias.mul_(factors)
    return Generator("dense", signature(pictures), {"kind": "test"}, module)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pictures."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 48)).save(folder / f"{number}.png")
    return folder


def run(generator: Generator, graph: bytes, name: str, count: int = 4) -> torch.Tensor:
    """What a graph makes of the first inputs on a runtime."""
    inputs = Inputs(generator.signature, "quality").draw(count)
    place = generator.variant(module=None, onnx=graph)
    with runtime(name).open(place, Target(name, batch=count, threads=1)) as session:
        arrays = session.run({n: t.numpy() for n, t in inputs.items()})
    return torch.from_numpy(arrays[generator.signature.images.name])


@pytest.fixture
def pairs(dense: Generator) -> Pairs:
    """The network with pairs of NNCF's, their ranges as wide as what was seen."""
    graph = onnx_of(dense)
    batches = cache.calibration(dense.signature, 0)
    found = Pairs(by_nncf_but_sums(graph, batches[:1]), graph)
    seen = histograms(found, batches)
    return found.with_ranges({name: h.whole() for name, h in seen.items()})


def test_what_is_concatenated_shares_a_range(dense: Generator, pairs: Pairs) -> None:
    """With several zero points OpenVINO computes what reads it in floating point."""
    together = [set(tensors) for tensors in pairs.groups.values()]
    concat = next(n for n in pairs.model.graph.node if n.op_type == "Concat")
    read = {pairs.rounds(name) for name in concat.input}
    assert len(read) == 2
    assert any(read <= tensors for tensors in together)
    of = {product.label: product.group for product in pairs.products}
    place = dense.variant(module=None, onnx=pairs.graph)
    with runtime("openvino").open(place, Target("openvino", batch=1, threads=1)) as session:
        assert session.execution.precision == "int8", of


def test_scales_are_scalars(pairs: Pairs) -> None:
    """ONNX Runtime refuses arrays of one in sums."""
    constants = {tensor.name: tensor for tensor in pairs.model.graph.initializer}
    names = {name for group in pairs.groups for name in (f"{group}.scale", f"{group}.zero")}
    assert names <= constants.keys()
    assert all(not constants[name].dims for name in names)


def test_products_behind_an_interleaving_are_known(small_gan: Generator) -> None:
    """Pairs go before what only moves values about; the layers keep their names."""
    plain = onnx_of(small_gan)
    [first, *_] = [site for site in sites(plain) if site.kind == "convolution for each phase"]
    graph = rewritten(plain, [first])
    found = Pairs(by_nncf_but_sums(graph, cache.calibration(small_gan.signature, 0)[:1]), graph)
    assert [product.label for product in found.products] == ["1", "4", "7"]
    assert all(product.rounded for product in found.products)


def test_openvino_computes_a_signed_graph_as_onnxruntime_does(
    dense: Generator, pairs: Pairs
) -> None:
    """It does not by itself: convolutions of concatenated int8 tensors come out wrong."""
    symmetric = pairs.with_ranges({n: r.symmetric() for n, r in pairs.ranges.items()})
    int8 = signed(symmetric.graph)
    kinds = {
        tensor.data_type
        for node in load_model(int8).graph.node
        if node.op_type == "QuantizeLinear"
        for tensor in load_model(int8).graph.initializer
        if tensor.name == node.input[2]
    }
    assert kinds == {3}, "int8 of ONNX"
    exact = dense(Inputs(dense.signature, "quality").draw(4))
    theirs, ours = run(dense, int8, "onnxruntime"), run(dense, int8, "openvino")
    assert float((theirs - exact).abs().mean()) < 0.02 * float(exact.std())
    assert float((theirs - ours).abs().mean()) < 0.02 * float(exact.std())


@pytest.mark.parametrize("amx", [False, True])
def test_openvino_gets_int8_where_its_kernels_want_it(
    dense: Generator, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, amx: bool
) -> None:
    """On a CPU with AMX; what is concatenated only if the graph is run on this one."""
    monkeypatch.setattr("genslim.signs.has_amx", lambda: amx)
    symmetric = pairs.with_ranges({n: r.symmetric() for n, r in pairs.ranges.items()}).graph

    def kinds(graph: bytes) -> set[np.dtype[Any]]:
        model = load_model(graph)
        zeros = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        return {numpy_helper.to_array(t).dtype for t in model.graph.initializer if t.name in zeros}

    here, elsewhere = for_openvino(symmetric), for_openvino(symmetric, elsewhere=True)
    signs = np.dtype(np.int8), np.dtype(np.uint8)
    assert kinds(here) == {signs[0] if amx else signs[1]}
    assert kinds(elsewhere) == ({*signs} if amx else {signs[1]})
    expected = run(dense, symmetric, "onnxruntime")
    for graph in (here, elsewhere):
        assert torch.equal(run(dense, graph, "onnxruntime"), expected)
    mixed = for_openvino(pairs.graph)
    assert torch.equal(run(dense, mixed, "onnxruntime"), run(dense, pairs.graph, "onnxruntime"))


def test_signs_are_changed_without_changing_numbers(dense: Generator, pairs: Pairs) -> None:
    symmetric = pairs.with_ranges({n: r.symmetric() for n, r in pairs.ranges.items()}).graph
    assert torch.equal(
        run(dense, symmetric, "onnxruntime"), run(dense, signed(symmetric), "onnxruntime")
    )
    assert unsigned(symmetric) == symmetric
    assert Pairs(signed(symmetric), pairs.original).ranges == Pairs(symmetric, symmetric).ranges


def test_ranges_are_read_and_written(pairs: Pairs) -> None:
    name = next(iter(pairs.groups))
    changed = pairs.with_ranges({name: Range(-1.0, 3.0)})
    assert changed.ranges[name].low == pytest.approx(-1.0, abs=0.01)
    assert changed.ranges[name].high == pytest.approx(3.0, abs=0.01)
    others = {n: r for n, r in pairs.ranges.items() if n != name}
    assert {n: changed.ranges[n] for n in others} == others


@given(low=st.floats(-100, 0), high=st.floats(0.001, 100))
def test_a_symmetric_range_holds_the_whole_range(low: float, high: float) -> None:
    chosen = Range(low, high).symmetric()
    assert chosen.zero == 128
    assert chosen.low <= low + 1e-6
    assert chosen.high >= high - 1e-6


def test_all_products_in_float_are_the_original(dense: Generator, pairs: Pairs) -> None:
    names = [product.name for product in pairs.products]
    assert all(product.rounded for product in pairs.products)
    whole = pairs.without(names)
    assert not any(product.rounded for product in whole.products)
    assert not any("Quantize" in n.op_type for n in load_model(whole.graph).graph.node)
    exact = dense(Inputs(dense.signature, "quality").draw(4))
    assert torch.allclose(run(dense, whole.graph, "onnxruntime"), exact, atol=1e-5)


def test_one_product_in_float_reads_what_was_not_rounded(dense: Generator, pairs: Pairs) -> None:
    """The one behind the concatenation, which is then there twice."""
    name = next(p.name for p in pairs.products if p.label == "fuse")
    mixed = pairs.without([name])
    assert [p.rounded for p in mixed.products if p.name == name] == [False]
    assert sum(p.rounded for p in mixed.products) == 3
    exact = dense(Inputs(dense.signature, "quality").draw(4))
    rounded, made = (run(dense, p.graph, "onnxruntime") for p in (pairs, mixed))
    assert not torch.equal(rounded, made)
    assert float((made - exact).abs().mean()) < 0.02 * float(exact.std())
    concats = [n for n in load_model(mixed.graph).graph.node if n.op_type == "Concat"]
    makers = {n.output[0]: n.op_type for n in load_model(mixed.graph).graph.node}
    assert [[makers[name] for name in n.input] for n in concats] == [["Conv", "LeakyRelu"]]


def test_ranges_leave_out_what_is_rare() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=400_000).astype(np.float32)
    values[0] = 15.0
    seen = Histogram()
    seen.widen(values)
    seen.count(values)
    ranges = {name: choose(seen) for name, choose in CHOICES.items()}
    assert ranges["min-max"].high == pytest.approx(15.0)
    assert ranges["all but 0.1 %"].high == pytest.approx(3.1, abs=0.2)
    assert ranges["all but 0.01 %"].high < 5
    assert 3 < ranges["least squared error"].high < 10

    def error(chosen: Range) -> float:
        rounded = np.clip(np.rint(values / chosen.scale) + chosen.zero, 0, 255) - chosen.zero
        return float(np.square(rounded * chosen.scale - values).mean())

    assert min(ranges, key=lambda name: error(ranges[name])) == "least squared error"


def test_an_activation_that_never_moves_has_a_range() -> None:
    seen = Histogram()
    seen.widen(np.zeros(5, np.float32))
    seen.count(np.zeros(5, np.float32))
    assert all(choose(seen).scale > 0 for choose in CHOICES.values())


def test_equalizing_is_exact_and_makes_ranges_alike(dense: Generator) -> None:
    assert dense.module is not None
    equal, groups = equalized(dense, dense.module)
    assert "head" in groups, "a residual stream"
    assert "grow" in groups
    inputs = Inputs(dense.signature, "quality").draw(4)
    moved = dense.variant(module=equal)(inputs) - dense(inputs)
    assert float(moved.abs().max()) < 1e-5

    def spread(module: nn.Module) -> float:
        reach = module.head(inputs["images"]).detach().abs().amax((0, 2, 3))
        return float(reach.max() / reach.min())

    assert spread(equal) < 0.5 * spread(dense.module)


def test_channels_behind_what_bends_are_left_as_they_are(tiny_gan: Generator) -> None:
    """The last layer's pass a tanh: twice as large they would make another picture."""
    assert tiny_gan.module is not None
    module, _ = without_batch_norms(tiny_gan.module, tiny_gan)
    equal, groups = equalized(tiny_gan, module)
    assert groups
    inputs = Inputs(tiny_gan.signature, "quality").draw(8)
    moved = tiny_gan.variant(module=equal)(inputs) - tiny_gan(inputs)
    assert float(moved.abs().max()) < 1e-4


def test_batch_norms_are_folded(tiny_gan: Generator) -> None:
    assert tiny_gan.module is not None
    norms = [n for n, m in tiny_gan.module.named_modules() if isinstance(m, nn.BatchNorm2d)]
    module, folded = without_batch_norms(tiny_gan.module, tiny_gan)
    assert folded == norms
    inputs = Inputs(tiny_gan.signature, "quality").draw(8)
    assert torch.allclose(tiny_gan.variant(module=module)(inputs), tiny_gan(inputs), atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())


def test_a_module_rounds_as_its_graph_does(dense: Generator, pairs: Pairs) -> None:
    module = dense.trainable()
    rounding = Rounding(module, pairs)
    assert set(rounding.layers) == {"head", "grow", "fuse", "tail"}
    keys = set(module.state_dict())
    inputs = Inputs(dense.signature, "quality").draw(4)
    exact = dense(inputs)
    with rounding.applied(), torch.no_grad():
        made = module(inputs["images"])
    theirs = run(dense, pairs.graph, "onnxruntime")
    assert float((theirs - made).abs().mean()) < 0.25 * float((theirs - exact).abs().mean())
    assert set(module.state_dict()) == keys, "leaves no trace"
    assert torch.equal(module(inputs["images"]), exact)


def test_what_is_learned_goes_back_into_the_graph(dense: Generator, pairs: Pairs) -> None:
    module = dense.trainable()
    rounding = Rounding(module, pairs)
    with rounding.applied():
        optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-2)
        inputs = Inputs(dense.signature, "recovery").draw(4)
        for _ in range(3):
            module(inputs["images"]).square().mean().backward()
            optimiser.step()
        unseen = Inputs(dense.signature, "quality").draw(4)
        with torch.no_grad():
            expected = module(unseen["images"])
    learned = rounding.learned()
    assert learned.ranges != pairs.ranges
    made = run(dense, learned.graph, "onnxruntime")
    before = run(dense, pairs.graph, "onnxruntime")
    assert float((made - expected).abs().mean()) < 0.2 * float((before - expected).abs().mean())


def test_zero_points_come_back_where_they_gain(
    dense: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Int8, "symmetric", True)
    work = Int8(Quantize("int8", target="onnxruntime"), dense, SILENT)
    even = work.best(work.ranged(work.plain, work.placed[1]))
    monkeypatch.setattr(int8, "WORTH_A_ZERO_POINT", 1.0)
    assert work.with_zero_points(even) is even
    assert not work.uneven
    monkeypatch.setattr(int8, "WORTH_A_ZERO_POINT", 1e-9)
    found = work.with_zero_points(even)
    assert work.uneven
    assert found.ssim > even.ssim
    for group, own in even.own.items():
        chosen = found.pairs.ranges[group]
        wanted = own if group in work.uneven else work.evened(own)
        assert (chosen.scale, chosen.zero) == pytest.approx((wanted.scale, wanted.zero))


def test_symmetric_ranges_stay_symmetric_while_they_are_learned(
    dense: Generator, pairs: Pairs
) -> None:
    """Else a zero point would come back, which some runtimes' quickest kernels do not take."""
    even = pairs.with_ranges({name: r.symmetric() for name, r in pairs.ranges.items()})
    module = dense.trainable()
    rounding = Rounding(module, even)
    inputs = Inputs(dense.signature, "recovery").draw(4)
    with rounding.applied():
        optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-2)
        module(inputs["images"]).square().mean().backward()
        optimiser.step()
    learned = rounding.learned().ranges
    assert learned != even.ranges
    assert {r.zero for r in learned.values()} == {128}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_rounding_is_torch_s(kind: torch.dtype) -> None:
    """Of what lies in the middle of a step, and beyond the range, too."""
    low, high = torch.tensor(-1.3), torch.tensor(2.1)
    x = torch.linspace(-2, 3, 1001).to(kind)
    rounded = Rounded.apply(x, low, high)  # type: ignore[no-untyped-call]
    scale = float(high - low) / 255
    theirs = torch.fake_quantize_per_tensor_affine(x.float(), scale, round(1.3 / scale), 0, 255)
    assert rounded.dtype == kind
    coarse = 0.0 if kind == torch.float32 else 1.5 * scale
    assert float((rounded.float() - theirs).abs().max()) <= coarse + 1e-6


def test_ends_of_a_range_are_pulled_by_what_they_clip() -> None:
    x = torch.tensor([-3.0, 0.1, 0.52, 5.0], requires_grad=True)
    low, high = torch.tensor(-1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    rounded = Rounded.apply(x, low, high)  # type: ignore[no-untyped-call]
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]
    assert low.grad is not None
    assert high.grad is not None
    assert float(low.grad) == pytest.approx(1, abs=0.02)
    assert float(high.grad) == pytest.approx(1, abs=0.02)
    assert rounded.detach().tolist() == pytest.approx([-1, 0.1, 0.52, 2], abs=0.01)


def test_histograms_are_kept_and_used_again(
    dense: Generator, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = cache.calibration(dense.signature, 0)
    first = cache.histograms_of(pairs, batches)

    def fail(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(cache, "histograms", fail)
    again = cache.histograms_of(pairs, batches)
    assert again.keys() == first.keys()
    assert all(np.array_equal(again[name].counts, first[name].counts) for name in first)
    with pytest.raises(AssertionError, match="made again"):
        cache.histograms_of(pairs, cache.calibration(dense.signature, 1))
    (file,) = cache.folder().glob("*.npz")
    file.write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="made again"):
        cache.histograms_of(pairs, batches)


def test_the_cache_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 3)
    for number in range(5):
        cache.put(cache.folder() / f"{number}.npz", b"x")
    assert len(list(cache.folder().iterdir())) == 3


def test_openvino_tells_how_long_each_product_takes(dense: Generator, pairs: Pairs) -> None:
    times = layer_times(dense, pairs, Target("openvino", batch=1, threads=1))
    assert set(times) == {product.name for product in pairs.products}
    assert all(before > 0 and after > 0 for before, after in times.values())
    assert layer_times(dense, pairs, Target("onnxruntime", batch=1, threads=1)) == {}


def test_the_fewest_products_are_given_up(pairs: Pairs) -> None:
    costs = {"a": 0.001, "b": 0.03, "c": 0.0, "d": 0.02}
    made: dict[bytes, frozenset[str]] = {}

    class Fake(Pairs):
        """Pairs of which only the names matter."""

        def without(self, names: object) -> Pairs:
            made[repr(sorted(names)).encode()] = frozenset(names)  # type: ignore[call-overload]
            fake = Fake(pairs.graph, pairs.original)
            fake.graph = repr(sorted(names)).encode()  # type: ignore[call-overload]
            return fake

    def ssim_of(found: Pairs) -> float:
        return 0.9 + sum(costs[name] for name in made[found.graph])

    start = Mixed(Fake(pairs.graph, pairs.original), 0.9)
    held = hold(start, 0.93, ssim_of, costs, {})
    assert held.names == ["b"]
    assert hold(start, 0.945, ssim_of, costs, {}).names == ["b", "d"]
    # What saves much is given up last.
    savings = {"a": 1.0, "b": 100.0, "c": 1.0, "d": 1.0}
    assert hold(start, 0.915, ssim_of, costs, savings).names == ["d"]
    best = hold(start, 0.99, ssim_of, costs, {})
    assert best.ssim == pytest.approx(0.951)


def test_onnxruntime_s_pairs_have_ranges_too(dense: Generator) -> None:
    graph = onnx_of(dense)
    batches = cache.calibration(dense.signature, 0)
    found = Pairs(by_onnxruntime(graph, batches[:1]), graph)
    assert all(product.rounded for product in found.products)
    unknown = set(found.groups) - set(histograms(found, batches))
    assert unknown <= {"enlarged_QuantizeLinear_Input"}, "the output goes by another name before"
    assert not any("bias_quantized" in t.name for t in load_model(found.graph).graph.initializer)


def test_tensorrt_s_sign_needs_constants(pairs: Pairs) -> None:
    model = load_model(pairs.graph)
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    node.input[2] = "computed"
    with pytest.raises(GenslimError, match="is computed"):
        signed(model.SerializeToString())
