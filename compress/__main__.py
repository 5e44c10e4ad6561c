"""``python -m compress``: the same as the compress program."""

import sys

from compress.cli import compress

sys.exit(compress())
