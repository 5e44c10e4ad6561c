"""``python -m genslim``: the same as the genslim program."""

import sys

from genslim.main import main

sys.exit(main())
