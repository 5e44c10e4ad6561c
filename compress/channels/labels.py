"""Labels: which elements of a tensor go when a channel goes.

Every channel has a label, a positive integer. A *plane* is a float64 tensor of the same shape as
an activation or a weight that holds at each element the label with which it goes; a tensor has a
plane for each way in which it can lose elements (a weight two: by output and by input channel).
0 stands for elements that need not be there: padding. Labels that must share their fate are
united; labels that can't go are fixed, with the reason.

Floats, because so PyTorch's own layout operations (pixel shuffle, reflection padding, patches) run
on planes; they are exact up to 2^53.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]
Plane = Tensor
Planes = list[Plane]


class Labels:
    """All labels of a network: a union-find forest (Tarjan 1975) with fixed and inexact trees."""

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(1024, np.int64)
        self.count = 1
        """How many there are; 0 is none."""
        self._fixed: dict[int, str] = {}
        self._inexact: list[Ids] = []
        self.unions = 0
        """How many trees were joined so far."""

    def fresh(self, count: int) -> Ids:
        """``count`` new labels, int64."""
        first, self.count = self.count, self.count + count
        while self.count > len(self._parent):
            self._parent = np.concatenate([self._parent, np.zeros_like(self._parent)])
        new = np.arange(first, self.count, dtype=np.int64)
        self._parent[new] = new
        return new

    def find(self, labels: Ids) -> Ids:
        """The label that stands for each label's tree; the same shape, 0 stays 0."""
        found = self._parent[labels]
        while True:
            higher = self._parent[found]
            if np.array_equal(higher, found):
                break
            found = higher
        self._parent[labels] = found
        return found

    def unite(self, a: Ids, b: Ids) -> None:
        """Let ``a[i]`` and ``b[i]`` share their fate; pairs with a 0 are passed over."""
        a, b = np.broadcast_arrays(a, b)
        pairs = np.stack([self.find(a.ravel()), self.find(b.ravel())], 1)
        pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs > 0).all(1)]
        if not len(pairs):
            return
        for x, y in np.unique(pairs, axis=0):
            one, other = (int(v) for v in self.find(np.array([x, y])))
            if one == other:
                continue
            self._parent[max(one, other)] = min(one, other)
            self.unions += 1
            for root in (one, other):
                if reason := self._fixed.get(root):
                    self._fixed.setdefault(min(one, other), reason)

    def fix(self, labels: Ids, reason: str) -> None:
        """Let ``labels`` never go."""
        for root in np.unique(self.find(labels.ravel())):
            if root:
                self._fixed.setdefault(int(root), reason)

    def reason(self, label: int) -> str | None:
        """Why a label can't go; None where it can."""
        return self._fixed.get(int(self.find(np.array([label]))[0]))

    def reasons(self) -> dict[int, str]:
        """Why labels can't go, by those that stand for their trees."""
        roots = self.find(np.array([*self._fixed], np.int64))
        return dict(zip(roots.tolist(), self._fixed.values(), strict=True))

    def any_free(self, labels: Ids) -> bool:
        """Whether one of ``labels`` can go, or is padding, which need not be there at all."""
        roots = np.unique(self.find(labels.ravel()))
        return any(int(root) not in self._fixed for root in roots)

    def mix(self, labels: Ids) -> None:
        """Note that something was computed over ``labels``: a mean, a norm, a softmax.

        When one goes, what is left of it changes what the rest become: such a cut is not the same
        as masking, and recovery has to make up for it.
        """
        self._inexact.append(np.unique(labels))

    @property
    def mixtures(self) -> int:
        """How often something was computed over labels so far."""
        return len(self._inexact)

    def mixed(self) -> set[int]:
        """The labels that something was computed over, as they stand for their trees."""
        if not self._inexact:
            return set()
        found = np.unique(self.find(np.concatenate(self._inexact)))
        return {int(label) for label in found if label}

    # -- planes ------------------------------------------------------------------------------

    def along(self, shape: torch.Size | tuple[int, ...], axis: int, labels: Ids) -> Plane:
        """The plane of ``shape`` in which ``labels`` are laid along ``axis``."""
        view = [1] * len(shape)
        view[axis] = len(labels)
        return torch.from_numpy(labels.astype(np.float64)).view(view).expand(shape)

    def compact(self, plane: Plane) -> Plane:
        """The same plane by the labels that stand for others, without copies of equal slices."""
        small = torch.from_numpy(self.find(ids(thin(plane))).astype(np.float64))
        for axis in range(small.ndim):
            first = small.narrow(axis, 0, min(1, small.shape[axis]))
            if small.shape[axis] > 1 and bool((small == first).all()):
                small = first
        return small.expand(plane.shape)

    def unite_across(self, plane: Plane, keep: tuple[int, ...]) -> Plane:
        """Unite labels that share their place on the axes ``keep``; the plane as it then is."""
        first = plane
        for axis in range(plane.ndim):
            if axis not in keep:
                first = largest(first, axis)
        self.unite_planes(plane, first.expand(plane.shape))
        return self.compact(first.expand(plane.shape))

    def unite_planes(self, a: Plane, b: Plane) -> None:
        """Unite two planes of the same shape, element by element."""
        a, b = self.compact(a), self.compact(b)
        joint = tuple(
            slice(0, 1) if a.stride(x) == 0 and b.stride(x) == 0 and a.shape[x] > 1 else slice(None)
            for x in range(a.ndim)
        )
        self.unite(ids(a[joint]), ids(b[joint]))


def thin(plane: Plane) -> Plane:
    """A plane without the copies of its slices: of length 1 where it was expanded."""
    return plane[
        tuple(
            slice(0, 1) if plane.shape[axis] > 1 and plane.stride(axis) == 0 else slice(None)
            for axis in range(plane.ndim)
        )
    ]


def ids(plane: Plane) -> Ids:
    """A plane's labels as integers."""
    return plane.numpy().astype(np.int64)


def largest(plane: Plane, axis: int) -> Plane:
    """One slice along ``axis`` that has a label wherever one is: padding has none."""
    if plane.stride(axis) == 0 or plane.shape[axis] <= 1:
        return plane.narrow(axis, 0, min(1, plane.shape[axis]))
    return plane.amax(axis, keepdim=True)


def varying(plane: Plane) -> tuple[int, ...]:
    """The axes along which a compact plane's labels differ."""
    return tuple(a for a in range(plane.ndim) if plane.shape[a] > 1 and plane.stride(a) != 0)


def line(plane: Plane, axis: int) -> Ids:
    """The labels along ``axis`` of a plane that varies along nothing else."""
    index = tuple(slice(None) if a == axis else 0 for a in range(plane.ndim))
    return ids(plane[index])
