"""The public surface is a list, and everything in it is there and documented."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest
from conftest import run_program

import genslim

PACKAGES = ("genslim", "compress", "export", "bench", "generators")


def test_every_public_name_resolves_and_is_documented() -> None:
    assert genslim.__all__ == sorted(genslim.__all__)
    assert set(genslim.__all__) == set(genslim.PLACES)
    for name in genslim.__all__:
        thing = getattr(genslim, name)
        assert thing.__name__ == name
        assert inspect.getdoc(thing)
    assert dir(genslim) == genslim.__all__


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        genslim.compres  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_imports_alone_and_keeps_what_it_promises(package: str) -> None:
    module = importlib.import_module(package)
    assert inspect.getdoc(module)
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_costs_nothing(package: str) -> None:
    heavy = ("torch", "numpy", "rich")
    code = f"import sys, {package}; print([m for m in {heavy!r} if m in sys.modules])"
    assert run_program([sys.executable, "-c", code]).out.strip() == "[]"
