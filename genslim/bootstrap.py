"""Confidence intervals of a median over rounds, by resampling openings and blocks of rounds.

Two things make the ordinary bootstrap, which draws rounds one by one, too sure of itself:

- Rounds that follow each other are alike: the clock drifts, another program comes and goes. The
  stationary bootstrap (Politis & Romano 1994, "The stationary bootstrap") draws blocks of random
  length, and how long they are on average follows from the samples' own autocorrelation
  (Politis & White 2004, corrected by Patton, Politis & White 2009).
- One and the same artifact opened twice runs at two speeds, as memory and threads come to lie
  elsewhere, and no number of rounds shows it. So sessions are opened anew several times, and
  openings are drawn first, blocks within them second (Kalibera & Jones 2013, "Rigorous benchmarking
  in reasonable time"). As a few openings spread less than all there could be, the interval is
  widened as Student's t is (Hesterberg 2015, "What teachers should know about the bootstrap").

Drawing rounds within openings too errs on the wide side, as the spread of openings holds that of
rounds already (Davison & Hinkley 1997, "Bootstrap methods and their application", section 3.8):
95 % intervals of made-up rounds held their median in 93 to 99 % of cases. It is kept for that:
with whole openings alone it was 73 % for three openings and 87 % for five, and on a busy machine 7
of 40 comparisons of an artifact with itself were called changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEAST_ROUNDS = 6
"""Fewer independent values have no 95 % interval of their median: even their range holds it with
a probability of ``1 - 2 ** (1 - N)`` only, 0.94 for five."""


def median_interval(
    values: tuple[float, ...], opened: tuple[int, ...] = (0,), confidence: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of the median.

    Args:
        values: in the order in which they were taken.
        opened: the places in ``values`` at which an opening begins, the first 0.
        confidence: how often such an interval holds the median, between 0 and 1.

    Returns:
        Its ends. Of fewer than ``LEAST_ROUNDS`` values the least and the greatest, although these
        hold the median less often than was asked.
    """
    outside = tail(confidence, len(opened))
    if len(values) < LEAST_ROUNDS:
        return min(values), max(values)
    medians = resampled_medians(values, opened)
    low, high = np.quantile(medians, [outside, 1 - outside]).tolist()
    return low, high


def difference_interval(
    ours: tuple[float, ...],
    theirs: tuple[float, ...],
    opened: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (0,)),
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of the median of ``ours`` less that of ``theirs``, taken apart.

    Args:
        ours: values of one run.
        theirs: values of another, their number any.
        opened: for each the places at which an opening begins.
        confidence: how often such an interval holds the difference.

    Returns:
        Its ends; as wide as the values allow where one has fewer than ``LEAST_ROUNDS``.
    """
    outside = tail(confidence, min(map(len, opened)))
    if min(len(ours), len(theirs)) < LEAST_ROUNDS:
        return min(ours) - max(theirs), max(ours) - min(theirs)
    medians = resampled_medians(ours, opened[0]) - resampled_medians(theirs, opened[1], seed=1)
    low, high = np.quantile(medians, [outside, 1 - outside]).tolist()
    return low, high


def tail(confidence: float, openings: int) -> float:
    """The share of resamples that lies outside on each side.

    Raises:
        ValueError: no confidence.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is none: it lies between 0 and 1")
    if openings == 1:
        return (1 - confidence) / 2
    from scipy.special import stdtrit

    student = float(stdtrit(openings - 1, (1 + confidence) / 2))
    return NormalDist().cdf(-student * (openings / (openings - 1)) ** 0.5)


@lru_cache(maxsize=256)
def resampled_medians(
    values: tuple[float, ...], opened: tuple[int, ...] = (0,), seed: int = 0
) -> NDArray[np.float64]:
    """What the median might have been.

    Args:
        values: in the order in which they were taken.
        opened: the places in ``values`` at which an opening begins, the first 0.
        seed: of the draws; medians to be combined need different ones.

    Returns:
        ``(RESAMPLES,)``, read-only. The same arguments give the same.
    """
    random = np.random.default_rng(seed)
    groups = np.split(np.asarray(values, np.float64), opened[1:])
    length = block_length(np.concatenate([group - np.median(group) for group in groups]))
    chosen = random.integers(len(groups), size=(RESAMPLES, len(groups)))
    drawn = np.full((*chosen.shape, max(map(len, groups))), np.nan)
    for number, group in enumerate(groups):
        here = chosen == number
        places = stationary_indices(len(group), length, random, int(here.sum()))
        drawn[here, : len(group)] = group[places]
    medians: NDArray[np.float64] = median_of_rows(drawn.reshape(RESAMPLES, -1))
    medians.setflags(write=False)
    return medians


def median_of_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each row, NaN left out (``numpy.nanmedian`` takes ten times as long)."""
    ordered = np.sort(rows, axis=1)
    counts = (~np.isnan(rows)).sum(axis=1)
    ends = np.stack([(counts - 1) // 2, counts // 2], axis=1)
    medians: NDArray[np.float64] = np.take_along_axis(ordered, ends, 1).mean(axis=1)
    return medians


def stationary_indices(
    count: int, length: float, random: np.random.Generator, resamples: int
) -> NDArray[np.int64]:
    """Places to draw from: each block starts anywhere, runs round the end, and ends by chance.

    Args:
        count: how many values there are.
        length: the mean length of a block, at least 1.
        random: where chance comes from.
        resamples: how many draws.

    Returns:
        ``(resamples, count)``, from 0 up to ``count``.
    """
    place = np.arange(count)
    begins = random.random((resamples, count)) < 1 / length
    begins[:, 0] = True
    starts = random.integers(count, size=(resamples, count))
    begun = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    drawn: NDArray[np.int64] = (np.take_along_axis(starts, begun, 1) + place - begun) % count
    return drawn


def block_length(values: NDArray[np.float64]) -> float:
    """The mean length of blocks that serves the stationary bootstrap of a median best.

    The rule of Politis & White 2004 for means, applied to which side of the median each value is
    on: to first order the median moves with the mean of these signs, and outliers do not count.

    Args:
        values: ``(N,)``.

    Returns:
        At least 1 (neighbours are independent), at most ``min(3 * sqrt(N), N / 3)``.
    """
    count = len(values)
    signs = np.sign(values - np.median(values))
    signs -= signs.mean()
    lags = autocovariances(signs)
    if lags[0] == 0:
        return 1.0
    reach = min(2 * first_uncorrelated(lags / lags[0], count), len(lags) - 1)
    # A window that is flat up to half of its reach, and falls to zero from there.
    lag = np.arange(reach + 1)
    weighted = np.minimum(1.0, 2 * (1 - lag / reach)) * lags[: reach + 1]
    spectrum = weighted[0] + 2 * weighted[1:].sum()
    slope = 2 * (lag * weighted).sum()
    if spectrum <= 0:
        return 1.0
    best = np.cbrt((slope / spectrum) ** 2 * count)
    return float(min(max(1.0, best), max(1.0, min(3 * np.sqrt(count), count / 3))))


def autocovariances(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """At lags from 0 to a little beyond the square root of the number of values."""
    count = len(centred)
    most = min(int(np.ceil(np.sqrt(count))) + quiet_run(count), count - 1)
    return np.array([centred[k:] @ centred[: count - k] for k in range(most + 1)]) / count


def first_uncorrelated(correlations: Sequence[float] | NDArray[np.float64], count: int) -> int:
    """The lag, at least 1, from which on a few correlations in a row can't be told from zero.

    The first small one, as Patton's own program has it; the paper's text says the one before.
    """
    limit = 2 * np.sqrt(np.log10(count) / count)
    quiet = [abs(value) < limit for value in correlations[1:]]
    run = quiet_run(count)
    return next((k + 1 for k in range(len(quiet)) if all(quiet[k : k + run])), len(quiet))


def quiet_run(count: int) -> int:
    """How many small correlations in a row are taken for the end of correlation."""
    return max(5, int(np.log10(count)))
