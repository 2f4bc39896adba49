"""`python -m scaling`: see `scaling.cli`."""

from __future__ import annotations

import os
import sys

from scaling.cli import main

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
