"""``python -m export``: the same as the export program."""

import sys

from export.cli import export

sys.exit(export())
