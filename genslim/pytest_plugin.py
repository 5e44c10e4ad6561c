"""The pytest plugin: the fixture ``genslim_benchmark``, for users' own test suites.

    def test_speed(genslim_benchmark):
        genslim_benchmark("original.pth", "runs/00-mine", min_ssim=0.95, max_ratio=0.5)

pytest imports this module whenever it starts in an environment that has genslim, so it imports
nothing; what the fixture does is found through an entry point when a test first calls it, like the
commands of ``bench``. (A project with a package ``bench`` of its own can still start pytest.)

Where pytest-benchmark is there, its table and JSON show the latencies: it is given a clock that
replays them, as they were taken in turn with the original's and not in rounds of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from genslim.errors import GenslimError, MissingDependency

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

FIXTURE = "genslim_benchmark"
HARNESS = "benchmark"
"""The name of pytest-benchmark's plugin, fixture and marker."""


class Replay:
    """A clock that shows times measured before, and the time of day when there are none."""

    __name__ = "replay"

    def __init__(self) -> None:
        self._readings: deque[float] = deque()

    def load(self, seconds: Sequence[float]) -> None:
        """Let the next pairs of readings lie ``seconds`` apart, one after the other."""
        for taken in seconds:
            self._readings.extend((0.0, taken))

    def __call__(self) -> float:
        """The next reading in seconds."""
        return self._readings.popleft() if self._readings else time.perf_counter()


REPLAY = pytest.StashKey[Replay]()


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixture in the form that fits: beside pytest-benchmark, or alone."""
    beside = config.pluginmanager.hasplugin(HARNESS)
    config.pluginmanager.register(Beside() if beside else Alone(), FIXTURE)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have pytest-benchmark read the replaying clock in tests that use the fixture."""
    uses = FIXTURE in getattr(item, "fixturenames", ())
    if uses and item.config.pluginmanager.hasplugin(HARNESS):
        replay = item.stash[REPLAY] = Replay()
        said = item.get_closest_marker(HARNESS)
        options = {**(said.kwargs if said else {}), "timer": replay}
        item.add_marker(pytest.mark.benchmark(**options), append=False)


class Beside:
    """The fixture where pytest-benchmark is there."""

    @pytest.fixture
    def genslim_benchmark(
        self, request: pytest.FixtureRequest, benchmark: BenchmarkFixture
    ) -> Iterator[Callable[..., Any]]:
        """Measure a compressed generator beside its original; see bench.plugin.Benchmark."""

        def record(seconds: Sequence[float], facts: Mapping[str, Any]) -> None:
            benchmark.extra_info.update(facts)
            request.node.stash[REPLAY].load(seconds)
            benchmark.pedantic(lambda: None, rounds=len(seconds))  # type: ignore[no-untyped-call]

        fixture = Calls(timed=benchmark.enabled, record=record)
        yield fixture
        # It was used, if in vain, where a measurement failed: no warning that it was not.
        benchmark.skipped = benchmark.skipped or fixture.called


class Alone:
    """The fixture without pytest-benchmark: it measures and asserts, and shows nothing."""

    @pytest.fixture
    def genslim_benchmark(self) -> Callable[..., Any]:
        """Measure a compressed generator beside its original; see bench.plugin.Benchmark."""
        return Calls(timed=True, record=lambda seconds, facts: None)


class Calls:
    """Finds the benchmark when called; an error of ours fails the test with its one line."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self.called = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See bench.plugin.Benchmark."""
        __tracebackhide__ = True
        if self.called:
            pytest.fail("genslim_benchmark was called twice; parametrize the test", pytrace=False)
        self.called = True
        try:
            return announced()(**self._settings)(*args, **kwargs)
        except GenslimError as error:
            line = str(error)
        pytest.fail(line, pytrace=False)


def announced() -> Callable[..., Any]:
    """The benchmark behind the entry point.

    Raises:
        MissingDependency: none is installed.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group="genslim.pytest", name=HARNESS):
        found: Callable[..., Any] = point.load()
        return found
    raise MissingDependency("no package announces a benchmark", hint="install genslim anew")
