"""Intervals: SciPy's where rounds are independent, wide enough where they are not, always the same.

How often an interval holds the truth is counted on made-up rounds whose truth is known; seeds are
fixed, so that a count is the same each time.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from genslim.bootstrap import (
    LEAST_ROUNDS,
    block_length,
    difference_interval,
    median_interval,
    median_of_rows,
    resampled_medians,
    stationary_indices,
    tail,
)
from genslim.timing import Samples


def correlated(random: np.random.Generator, count: int, rho: float) -> NDArray[np.float64]:
    """An AR(1) series of mean and median 0."""
    noise = random.normal(size=count + 50)
    series = np.zeros(count + 50)
    for i in range(1, count + 50):
        series[i] = rho * series[i - 1] + noise[i]
    return series[50:]


def test_independent_rounds_give_the_interval_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=200)
    ours = median_interval(tuple(values))
    theirs = stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=5000, rng=1
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.04)


def test_the_interval_of_a_ratio_is_that_of_its_logarithms() -> None:
    random = np.random.default_rng(0)
    base = Samples(tuple(random.gamma(9, size=40)))
    head = Samples(tuple(1.3 * np.array(base.milliseconds) * np.exp(0.1 * random.normal(size=40))))
    low, high = head.ratio_interval(base)
    assert low < head.ratio_to(base) < high
    assert low < 1.3 < high
    back = base.ratio_interval(head)
    assert back == pytest.approx((1 / high, 1 / low), rel=0.02)
    assert head.ratio_interval(base) == (low, high), "the same each time"
    inner = head.ratio_interval(base, confidence=0.5)
    assert low < inner[0] < inner[1] < high


def test_correlated_rounds_are_drawn_in_longer_blocks() -> None:
    random = np.random.default_rng(0)
    lengths = [
        np.mean([block_length(correlated(random, 300, rho)) for _ in range(20)])
        for rho in (0.0, 0.5, 0.9)
    ]
    assert lengths[0] < 2.5
    assert lengths[0] < lengths[1] < lengths[2]
    assert block_length(np.ones(20)) == 1


def test_intervals_hold_the_truth_as_often_as_they_say_where_rounds_are_alike() -> None:
    random = np.random.default_rng(0)
    ours = naive = 0
    for _ in range(100):
        values = correlated(random, 200, 0.7)
        low, high = median_interval(tuple(values))
        ours += low <= 0 <= high
        alone = values[random.integers(200, size=(500, 200))]
        low, high = np.quantile(np.median(alone, axis=1), [0.025, 0.975])
        naive += low <= 0 <= high
    assert naive < 75, "what neighbours hide from the ordinary bootstrap"
    assert ours >= 86


def test_intervals_hold_the_truth_as_often_as_they_say_where_openings_differ() -> None:
    random = np.random.default_rng(0)
    ours = few = once = 0
    for _ in range(100):
        values = (random.normal(size=(10, 1)) + 0.5 * random.normal(size=(10, 8))).ravel()
        low, high = median_interval(tuple(values), tuple(range(0, 80, 8)))
        ours += low <= 0 <= high
        low, high = median_interval(tuple(values[:24]), (0, 8, 16))
        few += low <= 0 <= high
        low, high = median_interval(tuple(values[:8]))
        once += low <= 0 <= high
    assert once < 50, "no number of rounds of one opening shows how openings differ"
    assert ours >= 90
    assert few >= 85


def test_few_rounds_give_their_range() -> None:
    values = (3.0, 1.0, 2.0)
    assert median_interval(values) == (1.0, 3.0)
    assert difference_interval(values, (1.0,) * 10) == (0.0, 2.0)
    assert len(values) < LEAST_ROUNDS


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 3))
def test_an_interval_lies_within_the_values_and_holds_no_nan(
    values: list[float], cuts: int
) -> None:
    step = max(1, len(values) // (cuts + 1))
    opened = (0, *(p for p in range(step, len(values), step)))[: cuts + 1]
    low, high = median_interval(tuple(values), opened)
    assert min(values) <= low <= high <= max(values)


def test_two_runs_are_less_sure_than_each() -> None:
    random = np.random.default_rng(0)
    ours, theirs = (tuple(random.normal(size=60)) for _ in range(2))
    low, high = difference_interval(ours, theirs)
    assert low < np.median(ours) - np.median(theirs) < high
    for values in (ours, theirs):
        ends = median_interval(values)
        assert high - low > ends[1] - ends[0]


def test_few_openings_widen_the_interval_as_students_t_does() -> None:
    assert tail(0.95, 1) == pytest.approx(0.025)
    wide = [tail(0.95, openings) for openings in (3, 5, 10, 1000)]
    assert wide == sorted(wide)
    assert wide[-1] == pytest.approx(0.025, rel=0.02)
    expected = stats.norm.cdf(stats.t.ppf(0.025, 4) * np.sqrt(5 / 4))
    assert wide[1] == pytest.approx(expected)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -1.0])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        median_interval((1.0,) * 10, confidence=confidence)


def test_medians_of_rows_are_numpys() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 9))
    rows[np.random.default_rng(1).random((50, 9)) < 0.3] = np.nan
    np.testing.assert_allclose(median_of_rows(rows), np.nanmedian(rows, axis=1))


def test_blocks_run_on_and_have_the_length_that_was_asked() -> None:
    drawn = stationary_indices(50, 5.0, np.random.default_rng(0), 400)
    assert drawn.shape == (400, 50)
    assert set(np.unique(drawn)) == set(range(50)), "every round, round the end"
    follows = (np.diff(drawn, axis=1) % 50 == 1).mean()
    assert follows == pytest.approx(1 - 1 / 5 + 1 / 5 / 50, abs=0.01)


def test_what_is_kept_can_not_be_changed() -> None:
    medians = resampled_medians((1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    with pytest.raises(ValueError, match="read-only"):
        medians[0] = 7
