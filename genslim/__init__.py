"""genslim makes trained image generators small and fast, and shows what every step cost.

Read first: :mod:`genslim.artifact`, :mod:`genslim.generator`, :mod:`genslim.signature`.
Names are resolved when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genslim.errors import GateFailed, GenslimError, MissingDependency, UserError
    from genslim.generator import Generator
    from genslim.loading import load
    from genslim.run import Run
    from genslim.serving.session import Session
    from genslim.signature import Holes, Images, Input, Output, Prior, Sampler, Signature
    from genslim.target import Target

PLACES = {
    "load": "loading",
    "Generator": "generator",
    "Signature": "signature",
    "Input": "signature",
    "Output": "signature",
    "Prior": "signature",
    "Images": "signature",
    "Holes": "signature",
    "Sampler": "signature",
    "Target": "target",
    "Run": "run",
    "Session": "serving.session",
    "GenslimError": "errors",
    "UserError": "errors",
    "GateFailed": "errors",
    "MissingDependency": "errors",
}
"""Where each public name lives."""

__all__ = [
    "GateFailed",
    "Generator",
    "GenslimError",
    "Holes",
    "Images",
    "Input",
    "MissingDependency",
    "Output",
    "Prior",
    "Run",
    "Sampler",
    "Session",
    "Signature",
    "Target",
    "UserError",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"genslim.{PLACES[name]}"), name)
    raise AttributeError(f"module 'genslim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
