"""``python -m generators``: the same as the generators program."""

import sys

from generators.cli import generators

sys.exit(generators())
