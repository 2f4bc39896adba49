"""Archaic words in the tracked text files, which `make lint` refuses: `python tests/words.py`.

`tests/words_allowed.txt` lists exceptions: a line "path: word" allows a word in one file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

FAIL = True  #: whether an archaic word is an error
ROOT = Path(__file__).parents[1]
FILES = ("*.py", "*.md", "*.ipynb", "*.yml", "*.yaml", "Makefile")
PHRASES = (
    "untold|dearer|afresh|amid|foretell|foretold|mended|for want of|whoever|of each size|rivals?"
    "|hopeless"
)
ARCHAIC = re.compile(rf"(?<![\w-])({PHRASES.replace(' ', chr(92) + 's+')})(?![\w-])", re.IGNORECASE)
COUNTED = ("told", "beside")


def main() -> int:
    """Print every archaic word with its place; return 1 where one is not allowed."""
    allowed = set((ROOT / "tests/words_allowed.txt").read_text(encoding="utf-8").splitlines())
    listed = subprocess.check_output(["git", "ls-files", *FILES], cwd=ROOT, text=True)
    found, counts = 0, Counter()
    for name in sorted(set(listed.split()) - {"tests/words.py"}):
        text = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).exists() else ""
        counts.update(word for word in re.findall(r"[a-z]+", text.lower()) if word in COUNTED)
        for match in ARCHAIC.finditer(text):
            word = " ".join(match[1].lower().split())
            if f"{name}: {word}" not in allowed:
                found += 1
                print(f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {word}")
    print(f"archaic words: {found}; " + ", ".join(f"{word}: {counts[word]}" for word in COUNTED))
    return int(FAIL and found > 0)


if __name__ == "__main__":
    sys.exit(main())
