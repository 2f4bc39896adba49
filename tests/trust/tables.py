"""Write the measured numbers into docs/trust.md: each table by the command named above it.

A measurement calls `note`; its counts, with date and versions, go to docs/trust.json, and the
page's tables are made anew from all of it. `python -m tests.trust.tables` makes them only,
`python -m tests.trust.tables drift` measures drift, `licences` lists those of the environment.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from scaling import provenance

DOCS = Path(__file__).parents[2] / "docs"
VERSIONS = ("torch", "numpy", "pandas", "pyarrow", "scipy")
TABLE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def note(name: str, command: str, rows: Mapping[str, Mapping[str, Any]], keep: bool = True) -> None:
    """Note the counts of a measurement, one row per thing tried, and write the page's tables.

    Rows of things not tried this time are kept, with their dates.
    """
    path = DOCS / "trust.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    date = datetime.now(UTC).date().isoformat()
    earlier = known.get(name, {}).get("rows", {}) if keep else {}
    known[name] = {
        "command": command,
        "commit": (provenance.code_state()[0] or "")[:7],
        "packages": provenance.versions(VERSIONS),
        "cpu": provenance.device()["cpu"],
        "rows": earlier | {what: {**row, "date": date} for what, row in rows.items()},
    }
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    write_page(json.loads(text))  # columns in the order of the file


def write_page(known: Mapping[str, Any]) -> None:
    """Put every measurement's table between its marks in docs/trust.md."""
    page = DOCS / "trust.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(TABLE.sub(lambda found: filled(found, known), text), encoding="utf-8")


def filled(found: re.Match[str], known: Mapping[str, Any]) -> str:
    """Return a mark with its table between its ends."""
    start, name, end = found.groups()
    return start + table(known[name]) + end if name in known else start + end


def table(entry: Mapping[str, Any]) -> str:
    """Return a measurement as Markdown: its command, when and with what, a row per thing tried."""
    columns = list(dict.fromkeys(name for row in entry["rows"].values() for name in row))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in entry["rows"].items():
        cells = (shown(row.get(column, "")) for column in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    packages = ", ".join(f"{name} {number}" for name, number in entry["packages"].items())
    head = f"`{entry['command']}`, commit {entry['commit'] or 'unknown'}; "
    return f"\n{head}{packages}; {entry['cpu']}.\n\n" + "\n".join(lines) + "\n\n"


def shown(value: Any) -> str:
    """Return a cell: thousands apart, four digits of a fraction."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def measure_drift(settings: list[str]) -> None:
    """Note how far one pool agrees under each setting; by default under all that there are."""
    from scaling.records import Plan
    from scaling.tasks import get_task
    from tests.trust.drift import MODEL, drift

    task, plan = get_task("sums"), Plan(chains=32, max_new_tokens=64)
    problems = task.problems(20)
    with tempfile.TemporaryDirectory() as folder:
        table = drift(MODEL, task, problems, plan, Path(folder), settings or None)
    print(table.to_string(index=False))
    rows = {row.pop("setting"): row for row in table.to_dict("records")}
    note("drift", "python -m tests.trust.tables drift", rows)


def list_licences() -> None:
    """Note how many packages of this environment have which licence; names where they are few."""
    found: dict[str, set[str]] = {}
    for package in metadata.distributions():
        found.setdefault(licence(package.metadata), set()).add(package.metadata["Name"].lower())
    rows = {
        name: {"packages": len(names), "which": ", ".join(sorted(names)) if len(names) < 6 else ""}
        for name, names in found.items()
    }
    note("licences", "python -m tests.trust.tables licences", rows, keep=False)


SAME = {"Apache": "Apache-2.0", "BSD": "BSD-3-Clause", "Apache License 2.0": "Apache-2.0"}


def licence(about: Any) -> str:
    """Return the licence that a package's metadata names: expression, classifiers, or free text."""
    kinds = [kind for kind in about.get_all("Classifier") or () if kind.startswith("License :: ")]
    licences = [kind.split(" :: ")[-1] for kind in kinds if not kind.endswith("OSI Approved")]
    text = about["License-Expression"] or " and ".join(licences) or about["License"] or "not stated"
    text = re.sub(r"( Software)? License$| License \(.*\)$|^The ", "", text.partition("\n")[0])
    return SAME.get(text, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["drift"]:
        measure_drift(sys.argv[2:])
    elif sys.argv[1:2] == ["licences"]:
        list_licences()
    else:
        write_page(json.loads((DOCS / "trust.json").read_text(encoding="utf-8")))
