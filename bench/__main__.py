"""``python -m bench``: the same as the bench program."""

import sys

from bench.cli import bench

sys.exit(bench())
