"""Write a report on runs: an HTML page, a LaTeX fragment, BibTeX and `results.csv`."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from scaling.figures import plots
from scaling.report.figures import FIGURES, draw
from scaling.report.numbers import entries, results, to_csv
from scaling.report.render import bibliography, render
from scaling.runs import Run
from scaling.store.files import refuse_foreign, write_outputs

TEXTS = ("results.csv", "report.bib", "report.html", "report.tex")


def write(runs: Iterable[Run], out: Path, force: bool = False) -> list[Path]:
    """Write the report on some runs into `out`; return its files.

    Errors: ValueError, with nothing written, for no runs, too many or an open one, and if `out`
    holds files that the kit did not write.
    """
    found = entries(runs)
    texts = [out / name for name in TEXTS]
    refuse_foreign([*texts, *(p for name in FIGURES for p in plots.paths_of(name, out))], force)
    logs = [entry.run for entry in found if not entry.run.imported]
    redraw = " ".join(["python -m scaling report", *(str(run.path) for run in logs), f"-o {out}"])
    written = []
    for name, fig in draw(found).items():
        command = redraw if len(logs) == len(found) else ""
        written += plots.save(fig, name, out, logs, {}, command, "report", force)
    rows = results(found)
    images = {
        name: base64.b64encode((out / f"{name}.svg").read_bytes()).decode() for name in FIGURES
    }
    pages = [render(f"{name}.jinja", rows, found, images) for name in TEXTS[2:]]
    contents = to_csv(rows), bibliography(), *pages
    write_outputs({path: text.encode() for path, text in zip(texts, contents, strict=True)}, force)
    return [*written, *texts]
