"""Sessions: every caller gets its own images, and what one does harms no other."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import genslim
from genslim.errors import GenslimError, UserError
from genslim.generator import Generator
from genslim.run import Run
from genslim.runtimes.openvino import OpenVinoSession
from genslim.runtimes.pytorch import PyTorchSession
from genslim.serving.batcher import Batcher, QueueFull
from genslim.signature import BATCH, Images, Input, Output, Prior, Signature

CALLERS = 16
CLOSE = 1e-4
"""Batches of other sizes are computed in another order."""


@pytest.fixture
def session(small_gan: Generator) -> Iterator[genslim.Session]:
    """``small_gan`` on torch, in batches of up to 8."""
    with genslim.Session(small_gan, runtime="torch", threads=1, max_batch=8) as opened:
        yield opened


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is clear, no batch comes to its end."""
    gate = threading.Event()
    gate.set()
    run = PyTorchSession.run

    def held(self: PyTorchSession, inputs: Any) -> Any:
        assert gate.wait(60)
        return run(self, inputs)

    monkeypatch.setattr(PyTorchSession, "run", held)
    yield gate
    gate.set()


def latents(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def plain(generator: Generator, z: np.ndarray) -> np.ndarray:
    """What the bare module makes."""
    return generator({"z": torch.from_numpy(z)}).numpy()


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("max_wait", [0.0, 0.01])
def test_every_one_of_16_callers_gets_its_own_images(small_gan: Generator, max_wait: float) -> None:
    sizes = [1, 3, 8, 20, 2]  # smaller than a batch, a batch, more than two

    def call(caller: int) -> None:
        for turn, size in enumerate(sizes):
            z = latents(size, seed=100 * caller + turn)
            images = session.generate({"z": z})
            np.testing.assert_allclose(images, plain(small_gan, z), atol=CLOSE)

    with (
        genslim.Session(
            small_gan, runtime="torch", threads=1, max_batch=8, max_wait=max_wait
        ) as session,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        list(callers.map(call, range(CALLERS)))
        made = session.statistics
    assert (made.requests, made.images, made.failed) == (CALLERS * 5, CALLERS * sum(sizes), 0)
    assert made.batches < made.requests  # a batch held several
    assert made.mean_batch == made.images / made.batches <= 8
    assert 0 < made.busy_seconds <= made.seconds


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_quantized_artifact_is_served(
    quantized_gan: Generator, working_folder: Path, runtime: str
) -> None:
    run = Run(working_folder / "runs" / "00-gan")
    with run.locked():
        run.start(quantized_gan)
    z = np.random.default_rng(0).normal(size=(20, 32)).astype(np.float32)
    with genslim.Session(run.newest, runtime=runtime, threads=1, max_batch=16) as session:
        assert session.execution.runtime == runtime
        # ONNX Runtime has no integer kernel for transposed convolutions.
        assert ("int8" in session.execution.precision) == (runtime == "openvino")
        with ThreadPoolExecutor(CALLERS) as callers:
            found = list(callers.map(lambda i: session.generate({"z": z[i : i + 1]}), range(20)))
        whole = session.generate({"z": z})
    np.testing.assert_allclose(np.concatenate(found), whole, atol=0.05)
    assert whole.std() > 0.1


def test_a_graph_of_one_batch_is_filled_up(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    model = onnx.load_model_from_string(graph_gan.onnx)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    fixed = replace(graph_gan, onnx=model.SerializeToString())
    ran: list[int] = []
    run = OpenVinoSession.run

    def counting(self: OpenVinoSession, inputs: Any) -> Any:
        ran.append(len(inputs["z"]))
        return run(self, inputs)

    monkeypatch.setattr(OpenVinoSession, "run", counting)
    z = np.random.default_rng(0).normal(size=(7, 32)).astype(np.float32)
    with (
        genslim.Session(fixed, threads=1, max_batch=16) as session,
        genslim.Session(graph_gan, threads=1, max_batch=16) as free,
    ):
        np.testing.assert_allclose(session.generate({"z": z}), free.generate({"z": z}), atol=CLOSE)
    assert 8 in ran
    assert 7 in ran


def images_signature(multiple: int = 2) -> Signature:
    sides = (BATCH, 3, "height", "width")
    sizes = {"height": 8, "width": 8}
    return Signature(
        (Input("image", sides, Images(), sizes, multiple), Input("noise", (BATCH, 1), Prior())),
        (Output("images", sides, (0.0, 1.0)),),
    )


class Shift(nn.Module):
    """Adds a number to an image; one of 5 or more is a failure, and one of 3 makes a NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        if (noise >= 5).any():
            raise ValueError("too loud")
        nan = torch.where(noise == 3, torch.nan, 0.0)
        return image * self.weight + (noise + nan)[:, :, None, None]


@pytest.fixture
def shift() -> Generator:
    return Generator("shift", images_signature(), {"kind": "test"}, Shift())


def shifted(session: genslim.Session, by: float, side: int = 8, count: int = 1) -> Any:
    image = np.full((count, 3, side, side), 0.5)
    return session.submit({"image": image, "noise": np.full((count, 1), by)})


def test_only_requests_of_equal_sides_share_a_batch(
    shift: Generator, gate: threading.Event
) -> None:
    with genslim.Session(shift, runtime="torch", threads=1, max_batch=16) as session:
        gate.clear()
        first = shifted(session, 0.0)
        until(first.running)
        futures = [shifted(session, k / 16, side=8 if k % 2 else 10) for k in range(12)]
        gate.set()
        for k, future in enumerate(futures):
            side = 8 if k % 2 else 10
            assert future.result(60).shape == (1, 3, side, side)
            assert np.allclose(future.result(), 0.5 + k / 16)
        assert session.statistics.batches == 3


@pytest.mark.parametrize(
    ("poison", "message"),
    [(5.0, "torch fails on these inputs: ValueError: too loud"), (3.0, "NaN")],
)
def test_a_poisoned_request_fails_alone(
    shift: Generator, gate: threading.Event, poison: float, message: str
) -> None:
    with genslim.Session(shift, runtime="torch", threads=1, max_batch=8) as session:
        gate.clear()
        first = shifted(session, 0.0)
        until(first.running)
        loudness = [0.0, 0.1, poison, 0.2, 0.3]
        futures = [shifted(session, by) for by in loudness]
        gate.set()
        for by, future in zip(loudness, futures, strict=True):
            if by == poison:
                with pytest.raises(GenslimError, match=message):
                    future.result(60)
            else:
                assert np.allclose(future.result(60), 0.5 + by)
        assert np.allclose(shifted(session, 0.25).result(60), 0.75)
        assert session.statistics.failed == 1
        assert session.statistics.images == 6


def test_what_is_left_of_a_request_that_failed_is_not_run(
    shift: Generator, gate: threading.Event
) -> None:
    with genslim.Session(shift, runtime="torch", threads=1, max_batch=2) as session:
        gate.clear()
        large = shifted(session, 5.0, count=100)
        until(large.running)
        other = shifted(session, 0.1)
        gate.set()
        with pytest.raises(GenslimError, match="too loud"):
            large.result(60)
        assert np.allclose(other.result(60), 0.6)
    assert session.statistics.batches == 2
    assert session.statistics.failed == 1


def test_a_large_request_takes_turns_with_others(
    session: genslim.Session, gate: threading.Event
) -> None:
    gate.clear()
    large = session.submit({"z": latents(80)})
    until(large.running)
    order: list[str] = []
    large.add_done_callback(lambda _: order.append("large"))
    small = session.submit({"z": latents(1)})
    small.add_done_callback(lambda _: order.append("small"))
    gate.set()
    assert large.result(60).shape[0] == 80
    until(lambda: len(order) == 2)
    assert order == ["small", "large"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the inputs are none; this generator takes z"),
        ({"x": latents(1)}, "the inputs are x; this generator takes z"),
        (latents(1), "the inputs are ndarray"),
        ({"z": latents(1)[0]}, r"input 'z' is of shape \(8\).*\(batch, 8\) is wanted"),
        ({"z": latents(1)[:, :7]}, r"shape \(1, 7\)"),
        ({"z": latents(0)}, r"shape \(0, 8\)"),
        ({"z": latents(2) * np.nan}, "16 values that are NaN or infinite"),
        ({"z": np.full((1, 8), 1e300)}, "8 values that are NaN or infinite in float32"),
        ({"z": latents(1).astype(complex)}, "type complex"),
        ({"z": np.array([["a"] * 8])}, "type <U1; float32 is wanted"),
        ({"z": [[1.0], [1.0, 2.0]]}, "is no array"),
        ({"z": torch.zeros(1, 8, requires_grad=True)}, "is no array"),
    ],
)
def test_bad_inputs_are_refused_before_they_wait(
    session: genslim.Session, inputs: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        session.submit(inputs)
    assert session.statistics.requests == 0
    assert session.generate({"z": latents(2)}).shape == (2, 1, 16, 16)


def test_sides_and_batches_of_several_inputs_must_agree(shift: Generator) -> None:
    with genslim.Session(shift, runtime="torch", threads=1, max_batch=2) as session:
        image = np.zeros((2, 3, 8, 8))
        with pytest.raises(UserError, match=r"input 'noise' is of shape \(3, 1\).*batch 2"):
            session.submit({"image": image, "noise": np.zeros((3, 1))})
        with pytest.raises(UserError, match="sides in multiples of 2"):
            session.submit({"image": image[..., :7], "noise": np.zeros((2, 1))})


def test_other_kinds_of_numbers_are_converted_and_copied(
    session: genslim.Session, small_gan: Generator, gate: threading.Event
) -> None:
    z = np.ones((2, 8), dtype=np.int64)
    gate.clear()
    future = session.submit({"z": z})
    z[:] = 7  # the caller goes on with its array
    gate.set()
    expected = plain(small_gan, np.ones((2, 8), np.float32))
    np.testing.assert_allclose(future.result(60), expected, atol=CLOSE)
    expected = plain(small_gan, latents(2))
    images = session.generate({"z": torch.from_numpy(latents(2))})
    np.testing.assert_allclose(images, expected, atol=CLOSE)


def test_images_are_the_callers_own(session: genslim.Session, gate: threading.Event) -> None:
    gate.clear()
    first = session.submit({"z": latents(1)})
    until(first.running)
    futures = [session.submit({"z": latents(1)}) for _ in range(3)]
    gate.set()
    found = [future.result(60) for future in futures]
    found[0][:] = 9.0
    assert found[0].base is None
    assert found[1].max() <= 1
    assert not np.shares_memory(found[0], found[1])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dying_caller_harms_no_other(small_gan: Generator, gate: threading.Event) -> None:
    with genslim.Session(small_gan, runtime="torch", threads=1, max_batch=4) as session:
        gate.clear()

        def dies() -> None:
            session.submit({"z": latents(1)})
            raise SystemExit

        def ends(_: object) -> None:
            raise SystemExit

        threads = [threading.Thread(target=dies) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session.submit({"z": latents(1)}).add_done_callback(ends)  # in the session's own thread
        cancelled = session.submit({"z": latents(3)})
        futures = [session.submit({"z": latents(2, seed)}) for seed in range(5)]
        assert cancelled.cancel()
        gate.set()
        for seed, future in enumerate(futures):
            np.testing.assert_allclose(
                future.result(60), plain(small_gan, latents(2, seed)), atol=CLOSE
            )
        with pytest.raises(CancelledError):
            cancelled.result(60)
        assert session.statistics.images == 4 + 1 + 5 * 2  # the cancelled ones were not made


def test_a_slow_caller_harms_no_other(session: genslim.Session) -> None:
    slow = session.stream(800, batch=8, ahead=1)
    next(slow)  # and takes no more
    for seed in range(5):
        assert session.generate({"z": latents(3, seed)}).shape == (3, 1, 16, 16)
    assert session.statistics.images <= 15 + 3 * 8  # nothing is made ahead without limit
    slow.close()  # type: ignore[attr-defined]


def test_a_caller_that_is_interrupted_leaves_no_work(
    session: genslim.Session, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    gate.clear()
    first = session.submit({"z": latents(1)})
    until(first.running)

    def interrupted(self: object, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.generate({"z": latents(5)})
    gate.set()
    assert session.generate({"z": latents(1)}).shape == (1, 1, 16, 16)
    assert session.statistics.images == 2


def test_a_full_queue_holds_callers_back(small_gan: Generator, gate: threading.Event) -> None:
    settings: dict[str, Any] = {"max_batch": 4, "queue_size": 4}
    with genslim.Session(small_gan, runtime="torch", threads=1, **settings) as session:
        gate.clear()
        futures = [session.submit({"z": latents(2)})]
        until(futures[0].running)
        futures += [session.submit({"z": latents(2)}) for _ in range(2)]
        with pytest.raises(QueueFull, match="the queue is full: 4 images wait"):
            session.submit({"z": latents(1)}, timeout=0)
        with pytest.raises(QueueFull, match=r"for 0\.01 s"):
            session.generate({"z": latents(1)}, timeout=0.01)
        with ThreadPoolExecutor(CALLERS) as callers:
            held = [callers.submit(session.generate, {"z": latents(3, k)}) for k in range(CALLERS)]
            time.sleep(0.05)
            assert session.statistics.requests == 3  # the others wait for room
            gate.set()
            for k, future in enumerate(held):
                np.testing.assert_allclose(
                    future.result(60), plain(small_gan, latents(3, k)), atol=CLOSE
                )
        assert all(future.result(60).shape[0] == 2 for future in futures)
        assert session.statistics.most_waiting <= 3 + 3  # one enters while 3 wait


def test_closing_loses_nothing_that_was_accepted(
    small_gan: Generator, gate: threading.Event
) -> None:
    session = genslim.Session(small_gan, runtime="torch", threads=1, max_batch=4, queue_size=64)
    gate.clear()
    futures = [session.submit({"z": latents(3, 0)})]
    until(futures[0].running)
    futures += [session.submit({"z": latents(3, k)}) for k in range(1, 23)]
    held = ThreadPoolExecutor(1).submit(session.generate, {"z": latents(1)})  # waits for room
    time.sleep(0.02)
    closing = threading.Thread(target=session.close)
    closing.start()
    with pytest.raises(UserError, match="the session is closed"):
        held.result(60)
    with pytest.raises(UserError, match="the session is closed"):
        session.submit({"z": latents(1)})
    assert closing.is_alive()
    gate.set()
    closing.join(60)
    assert all(future.done() for future in futures)
    for k, future in enumerate(futures):
        np.testing.assert_allclose(future.result(), plain(small_gan, latents(3, k)), atol=CLOSE)
    session.close()  # again
    assert not [t for t in threading.enumerate() if t.name.startswith("genslim-session")]


def test_closing_without_waiting_cancels_what_waits(
    small_gan: Generator, gate: threading.Event
) -> None:
    session = genslim.Session(small_gan, runtime="torch", threads=1, max_batch=4)
    gate.clear()
    running = session.submit({"z": latents(2)})
    until(running.running)
    gate.set()
    assert running.result(60).shape[0] == 2
    gate.clear()
    large = session.submit({"z": latents(10)})
    until(large.running)
    waiting = [session.submit({"z": latents(2)}) for _ in range(3)]
    session.close(wait=False)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(UserError, match="closed before all images were made"):
        large.result(60)
    gate.set()


def test_an_exception_in_the_block_cancels_what_waits(
    small_gan: Generator, gate: threading.Event
) -> None:
    session = genslim.Session(small_gan, runtime="torch", threads=1)
    with suppress(ZeroDivisionError), session:
        gate.clear()
        first = session.submit({"z": latents(1)})
        until(first.running)
        second = session.submit({"z": latents(1)})
        raise ZeroDivisionError
    assert second.cancelled()
    gate.set()
    assert first.result(60).shape == (1, 1, 16, 16)


def test_a_session_that_nobody_holds_ends(small_gan: Generator) -> None:
    session = genslim.Session(small_gan, runtime="torch", threads=1)
    future = session.submit({"z": latents(1)})
    del session
    gc.collect()
    assert future.result(60).shape == (1, 1, 16, 16)
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("genslim-session")])


def test_a_callback_may_close_the_session(small_gan: Generator) -> None:
    session = genslim.Session(small_gan, runtime="torch", threads=1)
    future = session.submit({"z": latents(1)})
    future.add_done_callback(lambda _: session.close())
    assert future.result(60).shape == (1, 1, 16, 16)
    session.close()


def test_a_stream_is_in_order_and_made_ahead(
    session: genslim.Session, small_gan: Generator
) -> None:
    z = latents(21)
    stream = session.stream({"z": z}, batch=4, ahead=2)
    first = next(stream)
    until(lambda: session.statistics.images == 12)  # the one that is had, and two ahead
    rest = list(stream)
    assert [len(images) for images in (first, *rest)] == [4, 4, 4, 4, 4, 1]
    np.testing.assert_allclose(np.concatenate([first, *rest]), plain(small_gan, z), atol=CLOSE)


def test_a_stream_draws_the_same_whatever_the_batch(session: genslim.Session) -> None:
    by_seven = np.concatenate(list(session.stream(150, batch=7)))
    whole = np.concatenate(list(session.stream(150)))
    more = np.concatenate(list(islice(session.stream(10_000, batch=50), 3)))
    assert whole.shape == (150, 1, 16, 16)
    np.testing.assert_allclose(by_seven, whole, atol=CLOSE)
    np.testing.assert_allclose(more, whole, atol=CLOSE)
    other = np.concatenate(list(session.stream(150, seed=1)))
    assert np.abs(other - whole).max() > 0.1


@pytest.mark.parametrize("arguments", [{"inputs": 0}, {"inputs": 1, "batch": 0}, {"inputs": -3}])
def test_a_stream_of_nothing_is_refused_at_once(
    session: genslim.Session, arguments: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="1 or more"):
        session.stream(**arguments)


def test_futures_are_awaited_in_asyncio(session: genslim.Session, small_gan: Generator) -> None:
    async def ask(seed: int) -> np.ndarray:
        if seed % 2:
            return await asyncio.to_thread(session.generate, {"z": latents(2, seed)})
        return await asyncio.wrap_future(session.submit({"z": latents(2, seed)}, timeout=0))

    async def all_of_them() -> list[np.ndarray]:
        return await asyncio.gather(*(ask(seed) for seed in range(CALLERS)))

    for seed, images in enumerate(asyncio.run(all_of_them())):
        np.testing.assert_allclose(images, plain(small_gan, latents(2, seed)), atol=CLOSE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch": 0}, "max_batch is 0"),
        ({"threads": -1}, "threads is -1"),
        ({"queue_size": 0}, "queue_size is 0"),
        ({"max_wait": -0.1}, r"max_wait is -0\.1"),
        ({"max_wait": float("nan")}, "max_wait is nan"),
        ({"device": "tpu"}, "device is 'tpu'; there are cpu, cuda"),
        ({"precision": "int4"}, "precision is 'int4'"),
        ({"runtime": "tvm"}, "no runtime called 'tvm'"),
    ],
)
def test_settings_out_of_range_are_refused(
    small_gan: Generator, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        genslim.Session(small_gan, **settings)
    assert not [t for t in threading.enumerate() if t.name.startswith("genslim-session")]


def test_a_generator_that_fails_at_once_is_refused_when_it_is_opened(shift: Generator) -> None:
    deaf = replace(shift, module=nn.Sequential(nn.Conv2d(4, 3, 1)))
    with pytest.raises(GenslimError, match="torch fails on these inputs"):
        genslim.Session(deaf, runtime="torch", threads=1)


def test_a_batch_waits_for_others_where_it_was_asked_to() -> None:
    sizes: list[int] = []

    def run(inputs: Any) -> np.ndarray:
        sizes.append(len(inputs["z"]))
        return np.zeros((sizes[-1], 1, 2, 2), np.float32)

    batcher = Batcher(run, lambda: None, max_batch=4, max_wait=600.0, queue_size=100)
    futures = [batcher.submit({"z": latents(1)}, 1, None) for _ in range(4)]
    wait(futures, 60)  # full: nothing waits for 600 s
    late = batcher.submit({"z": latents(1)}, 1, None)
    batcher.close()  # nor for more than the close
    assert late.result(60).shape == (1, 1, 2, 2)
    assert sizes == [4, 1]
