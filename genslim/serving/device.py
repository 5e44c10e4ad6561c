"""What runs the batches of a session: a generator opened on one runtime."""

from __future__ import annotations

import numpy as np

from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.runtimes import Arrays, Execution, runtime
from genslim.serving.request import Images
from genslim.target import Target


class Device:
    """A generator opened on a target.

    Args:
        generator: what to run.
        target: settled; ``batch`` is the greatest that will be run.

    Raises:
        MissingDependency: the runtime can't be used on this machine.
        GenslimError: it can't run this generator, or not as the target asks.
    """

    def __init__(self, generator: Generator, target: Target) -> None:
        place = runtime(target.runtime)
        place.require()
        self._opened = place.open(generator, target)
        self._name = target.runtime
        self._images = generator.signature.images.name

    @property
    def execution(self) -> Execution:
        """What really executes."""
        return self._opened.execution

    def run(self, inputs: Arrays) -> Images:
        """The images of a batch of any size.

        Raises:
            GenslimError: the runtime fails, or an image is not finite.
        """
        count = len(next(iter(inputs.values())))
        try:
            images = self._opened.run(self._filled_up(inputs, count))[self._images]
        except GenslimError:
            raise
        except Exception as error:  # runtimes raise what they like
            line = next(iter(str(error).strip().splitlines()), "")
            raise GenslimError(
                f"{self._name} fails on these inputs: {type(error).__name__}: {line[:200]}",
                hint="try another runtime, or other inputs",
            ) from error
        images = images[:count]
        if len(images) != count:
            raise GenslimError(
                f"{self._name} made {len(images)} images of {count} inputs",
                hint="the generator mixes up its batch: use max_batch=1",
            )
        if not np.isfinite(images).all():
            raise GenslimError(
                "the images made of these inputs are NaN or infinite",
                hint="send inputs as the generator was trained with, or use another precision",
            )
        return images

    def _filled_up(self, inputs: Arrays, count: int) -> Arrays:
        """The inputs, with the last one again where the graph takes one batch alone."""
        fixed = self._opened.fixed_batch
        if fixed is None or count % fixed == 0:
            return inputs
        missing = fixed - count % fixed
        return {
            name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
            for name, array in inputs.items()
        }

    def close(self) -> None:
        """Give back what the runtime holds."""
        self._opened.close()
