"""Requests that wait in line, and which of them make the next batch. No lock: its owner has one."""

from __future__ import annotations

import time
from collections import deque

from genslim.serving.request import Part, Request, Shapes


class Line:
    """First come, first served, as far as shapes allow to share a batch.

    A request that fills a batch alone waits again for its next one, behind those that came
    meanwhile: a caller who wants ten thousand images holds up nobody for longer than a batch.

    Args:
        max_batch: images in a batch at most.
    """

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._by_shapes: dict[Shapes, deque[Request]] = {}
        self.images = 0
        """How many wait in all."""
        self.length = 0
        """The same, with no more than a batch of each request: what others wait for."""
        self.most = 0
        """How many ever waited at once."""

    def add(self, request: Request) -> None:
        """Let a request wait."""
        self._by_shapes.setdefault(request.shapes, deque()).append(request)
        self._count(request, +1)
        self.most = max(self.most, self.images)

    @property
    def first(self) -> Request:
        """The one that has waited longest; there must be one."""
        return min((waiting[0] for waiting in self._by_shapes.values()), key=lambda r: r.arrived)

    def beside(self, request: Request) -> int:
        """How many images wait that could share a batch with ``request``, its own among them."""
        return sum(other.left for other in self._by_shapes.get(request.shapes, ()))

    def take(self) -> list[Part]:
        """The next batch, of requests alike in their shapes.

        Empty where all that waited were cancelled.
        """
        shapes = self.first.shapes
        waiting = self._by_shapes[shapes]
        parts: list[Part] = []
        room = self._max_batch
        while waiting and room:
            request = waiting.popleft()
            self._count(request, -1)
            if not request.start():
                continue
            count = min(room, request.left)
            parts.append(Part(request, request.taken, count))
            request.taken += count
            room -= count
            if request.left:
                self._count(request, +1)
                if count == self._max_batch:
                    request.arrived = time.monotonic()
                    waiting.append(request)
                else:
                    waiting.appendleft(request)
        if not waiting:
            del self._by_shapes[shapes]
        return parts

    def drop(self, request: Request) -> None:
        """Forget what is left of a request."""
        waiting = self._by_shapes.get(request.shapes)
        if waiting is not None and request in waiting:
            waiting.remove(request)
            self._count(request, -1)
            if not waiting:
                del self._by_shapes[request.shapes]

    def clear(self) -> list[Request]:
        """Forget all, and say who they were."""
        dropped = [request for waiting in self._by_shapes.values() for request in waiting]
        self._by_shapes.clear()
        self.images = self.length = 0
        return dropped

    def _count(self, request: Request, sign: int) -> None:
        """Count what is left of a request in, or out."""
        self.images += sign * request.left
        self.length += sign * min(request.left, self._max_batch)
