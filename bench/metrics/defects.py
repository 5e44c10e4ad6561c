"""Defects: what is plainly wrong with an image, by the original's own image of the same input.

Each is a comparison with the reference that an image equal to it can't fail, so that a generator
of dark, flat or coarse pictures is not blamed for what it was made to draw.

==============  ==================================================================================
not finite      a value is NaN or infinite; nothing else is looked at
black           fewer than a tenth as many pixels as in the reference are above 2 % of the range
blank           its deviation is less than a tenth of the reference's
saturated       10 % of the values, or more, are at an end of the range though the reference is at
                least a quarter of the range away, and so many more than in the reference are there
checkerboard    a pattern that alternates from pixel to pixel (Odena, Dumoulin and Olah 2016,
                Distill): its RMS in the difference is above 1 % of the range and holds a quarter
                of the difference's high frequencies, and the image has twice the reference's
banding         where the reference runs smoothly, the image has less than a third as many of the
                256 levels that a screen shows
==============  ==================================================================================

An image that is black is called that alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOT_FINITE = "not finite"
NAMES = (NOT_FINITE, "black", "blank", "saturated", "checkerboard", "banding")

LIT = 0.02
"""Pixels above this share of the range are lit."""
FEWER = 0.1
"""Less than this share of the reference's lit pixels, or deviation, is a defect."""
AT_END = 0.005
"""A value is at an end when it is within this share of the range of it, or beyond."""
AWAY = 0.25
"""... and is wrong there when the reference is this share of the range away."""
SATURATED = 0.1
"""Share of the values."""
PATTERN_RMS = 0.01
"""A checkerboard fainter than this share of the range is not seen."""
PATTERN_SHARE = 0.25
"""White noise holds 1/16 of its high frequencies near the checkerboard's."""
PATTERN_GROWTH = 2.0
NEAR = 1 / 16
"""Width, in cycles a pixel, of what counts as near a frequency."""
LEVELS = 256
FEWER_LEVELS = 1 / 3
STEEP = 0.05
"""Where neighbours differ by less than this share of the range, an image runs smoothly."""
LEAST_LEVELS = 16
"""A smooth part with fewer levels in the reference says nothing about banding."""


def defects(
    images: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    value_range: tuple[float, float],
) -> tuple[tuple[str, ...], ...]:
    """What is wrong with each image, in the order of :data:`NAMES`.

    Args:
        images: ``(N, C, H, W)``; may hold NaN.
        reference: the same shape, finite.
        value_range: the least and the greatest value of a pixel.
    """
    low, high = value_range
    scale = high - low
    return tuple(
        of_image((image - low) / scale, (original - low) / scale)
        for image, original in zip(images, reference, strict=True)
    )


def of_image(image: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[str, ...]:
    """The defects of one image ``(C, H, W)``, in shares of the range."""
    import numpy as np

    if not np.isfinite(image).all():
        return (NOT_FINITE,)
    if (image > LIT).mean() < FEWER * (reference > LIT).mean():
        return ("black",)
    tests = {
        "blank": is_blank,
        "saturated": is_saturated,
        "checkerboard": has_checkerboard,
        "banding": has_banding,
    }
    return tuple(name for name, test in tests.items() if test(image, reference))


def is_blank(image: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
    """Whether hardly anything of the reference's deviation is left."""
    return bool(image.std() < FEWER * reference.std())


def is_saturated(image: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
    """Whether many values stick to an end of the range."""
    stuck_low = (image <= AT_END) & (reference >= AWAY)
    stuck_high = (image >= 1 - AT_END) & (reference <= 1 - AWAY)
    now, before = (((part <= AT_END) | (part >= 1 - AT_END)).mean() for part in (image, reference))
    return bool((stuck_low | stuck_high).mean() >= SATURATED and now - before >= SATURATED)


def has_checkerboard(image: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
    """Whether a pattern that alternates from pixel to pixel was added."""
    added, high = pattern_energy(image - reference)
    grown = pattern_energy(image)[0] > PATTERN_GROWTH * pattern_energy(reference)[0]
    return bool(grown and added > PATTERN_RMS**2 and added > PATTERN_SHARE * high)


def pattern_energy(image: NDArray[np.float32]) -> tuple[float, float]:
    """Energy of an image ``(C, H, W)`` near the Nyquist frequencies, and of all high frequencies.

    Near (1/2, 0), (0, 1/2) and (1/2, 1/2) cycles a pixel, and beyond 1/4 in either direction;
    both a mean over the pixels, so that the first is the squared RMS of the pattern.
    """
    import numpy as np

    _, height, width = image.shape
    power = (np.abs(np.fft.fft2(image.astype(np.float64))) ** 2).mean(0) / (height * width) ** 2
    across, down = np.abs(np.fft.fftfreq(width))[None], np.abs(np.fft.fftfreq(height))[:, None]
    ends = [(f <= NEAR, f >= 0.5 - NEAR) for f in (down, across)]
    (low_down, top_down), (low_across, top_across) = ends
    pattern = (top_down & (low_across | top_across)) | (low_down & top_across)
    beyond = (across > 0.25) | (down > 0.25)
    return float(power[pattern].sum()), float(power[beyond].sum())


def has_banding(image: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
    """Whether smooth gradients have become steps."""
    import numpy as np

    smooth = np.ones(reference.shape, bool)
    for axis in (1, 2):
        gap = np.abs(np.diff(reference, axis=axis)) < STEEP
        before = [(0, 1) if a == axis else (0, 0) for a in range(3)]
        after = [(1, 0) if a == axis else (0, 0) for a in range(3)]
        smooth &= np.pad(gap, before, constant_values=True)
        smooth &= np.pad(gap, after, constant_values=True)
    levels, wanted = (
        len(np.unique(np.round(part[smooth].clip(0, 1) * (LEVELS - 1))))
        for part in (image, reference)
    )
    return (
        wanted >= LEAST_LEVELS
        and not is_blank(image, reference)
        and (levels < FEWER_LEVELS * wanted)
    )
