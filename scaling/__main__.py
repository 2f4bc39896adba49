"""`python -m scaling`: see `scaling.cli`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from scaling.cli import main

        sys.exit(main())
    except ModuleNotFoundError as error:
        if (error.name or "scaling").split(".")[0] == "scaling":
            raise
        remedy = "use .venv/bin/python, which `make study` sets up"
        sys.exit(f"scaling: {sys.executable} lacks the package {error.name}; {remedy}")
