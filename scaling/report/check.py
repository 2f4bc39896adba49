"""Check whether figures and reports match their runs, code and packages. Redraws nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling import provenance
from scaling.figures import plots
from scaling.report.numbers import Rows, agree, entries, from_csv, results, to_csv
from scaling.report.render import HTML, LATEX, unbound
from scaling.runs import Runs, load_run
from scaling.runs.imported import reread
from scaling.store.manifest import read_manifest


def stale(figures: Path, runs: Path) -> dict[str, list[str]]:
    """Return {figure: reasons why it is stale} of a folder; [] if it is up to date."""
    sidecars = sorted(figures.glob("*.json"))
    if not sidecars:
        raise ValueError(
            f"{figures} holds no figure with a sidecar; `make figures` draws those of the study, "
            "`python -m scaling report RUN... -o FOLDER` writes a report"
        )
    sealed = {path.parent.name: path.parent for path in runs.glob("*/manifest.json")}
    hashes = {name: read_manifest(path).get("sha256", "") for name, path in sealed.items()}
    found = {}
    for path in sidecars:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
        found[sidecar.get("figure", path.stem)] = list(_reasons(sidecar, figures, hashes))
    return found


def _reasons(sidecar: dict[str, Any], figures: Path, runs: dict[str, str]) -> Iterator[str]:
    """Yield what has changed since a figure was drawn."""
    missing = [
        key
        for key in ("runs", "files", "packages", "code", "redraw", "drawn_by")
        if key not in sidecar
    ]
    if missing:
        yield f"its sidecar lacks {', '.join(missing)}"
        return
    files = {name: provenance.sha256(figures / name) for name in sidecar["files"]
             if (figures / name).exists()}  # fmt: skip
    every = sidecar["redraw"] == plots.REDRAW  # a figure of the study is drawn from all of its runs
    now = runs if every else {name: runs[name] for name in sidecar["runs"] if name in runs}
    yield from _differences("run", sidecar["runs"], now)
    yield from _differences("file", sidecar["files"], files)
    yield from _differences("package", sidecar["packages"], plots.drawing_packages())
    yield from _differences("code", sidecar["code"], plots.drawing_code(sidecar["drawn_by"]))


def _differences(what: str, then: dict[str, str], now: dict[str, str]) -> Iterator[str]:
    """Yield one reason for the names that were added, and one for those changed or removed."""
    added, changed = (
        now.keys() - then.keys(),
        {name for name in then if then[name] != now.get(name)},
    )
    for how, names in (("added", sorted(added)), ("changed", sorted(changed))):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"{what} {how}: {', '.join(names[:3])}{more}"


def differences(out: Path) -> list[str]:
    """Return where a report's texts, results and runs disagree; [] if they agree."""
    rows = from_csv((out / "results.csv").read_bytes().decode())
    found = []
    for file, language in (("report.html", HTML), ("report.tex", LATEX)):
        text = (out / file).read_bytes().decode()
        found += [f"{file}: {why}" for why in unbound(text, rows, language)]
    try:
        now = from_csv(to_csv(results(entries(runs_of(rows)))))
    except ValueError as error:
        return [*found, f"results.csv: {error}"]
    changed = [
        name for name in rows.keys() | now.keys() if not agree(rows.get(name), now.get(name))
    ]
    return found + [f"results.csv: {name} is not what its run gives" for name in sorted(changed)]


def runs_of(rows: Rows) -> Runs:
    """Return the runs named in a report's rows, read again; ValueError if one is missing."""
    found = []
    for name in (name for name in rows if name.endswith(".path")):
        start, path = name.removesuffix("path"), Path(rows[name]["value"])
        if not path.exists():
            raise ValueError(f"its runs are not there: {path}")
        how = json.loads(rows.get(f"{start}source", {"value": "{}"})["value"])
        model = rows[f"{start}model"]["value"]
        found.append(reread(path, model, how) if how else load_run(path))
    return Runs(found)
