"""A mode below which a network runs while its operations are watched, one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Watching(TorchDispatchMode, ABC):
    """Numbers the operations of a run, in the order in which they are dispatched.

    Two runs of the same code number alike, whatever the sizes of their tensors.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; to skip what compiles would import it, which takes seconds."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation and look at it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        index = self.count
        self.count += 1
        self.look(index, func, args, kwargs, out)
        return out

    @abstractmethod
    def look(
        self, index: int, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
    ) -> None:
        """See the operation that ran as number ``index``; what it gave may be written into."""
