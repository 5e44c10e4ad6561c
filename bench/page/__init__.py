"""The one self-contained HTML page: nothing is fetched, everything lies inside it.

Read first: :mod:`bench.page.rendering`. A section of the page is a file here that works out what it
says, and a template of the same name in ``templates/`` that says it.
"""

from bench.page.rendering import notebook, render

__all__ = ["notebook", "render"]
