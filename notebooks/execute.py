"""Execute notebooks in place with nbclient, so that equal results are equal bytes.

`make notebooks` executes all of them, `make notebooks ARGS=notebooks/03_best_of_n.ipynb` one.
"""

from __future__ import annotations

import re
import sys
import time
from hashlib import blake2b
from pathlib import Path

TIMEOUT = 600  #: seconds per cell
MARK = "executed_code"  #: metadata key: hash of the code cells at execution
TABLE = re.compile(r"\bT_[0-9a-f]{5}(?![0-9a-f])")  #: how pandas names a styled table, at random
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  #: of an object, in its repr
WIDGET = "application/vnd.jupyter.widget-view+json"


def code_hash(notebook) -> str:
    """Return a hash of a notebook's code cells."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return blake2b("\0".join(code).encode(), digest_size=12).hexdigest()


def remove_randomness(notebook) -> None:
    """Replace random names in outputs by numbers, and remove times and addresses."""
    names: dict[str, str] = {}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    for number, output in enumerate(outputs):
        data = output.get("data", {})
        for kind, value in data.items():
            if kind == WIDGET:
                value["model_id"] = f"{number:032x}"
            elif isinstance(value, str):
                value = TABLE.sub(lambda at: names.setdefault(at[0], f"T_{len(names):05x}"), value)
                data[kind] = ADDRESS.sub("", value)


def execute(path: Path, save: bool = True) -> float:
    """Run every cell from the repository's root, in order; save outputs; return the seconds.

    Errors: ValueError with the error of a cell that fails, and the file stays as it was.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook, started = nbformat.read(path, as_version=4), time.perf_counter()
    where = {"metadata": {"path": "."}}
    quiet = ["--log-level=ERROR"]  # no message about TCP, which stays on this machine
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=where,
                            store_widget_state=False, extra_arguments=quiet)  # fmt: skip
    try:
        client.execute()
    except CellExecutionError as error:
        raise ValueError(f"{path}: {error.ename}: {error.evalue}") from error
    remove_randomness(notebook)
    notebook.metadata[MARK] = code_hash(notebook)
    if save:
        nbformat.write(notebook, path)
    return time.perf_counter() - started


def main(names: list[str]) -> None:
    """Execute the notebooks named, or all next to this file."""
    paths = [Path(name) for name in names] or sorted(Path(__file__).parent.glob("*.ipynb"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        there = ", ".join(path.name for path in sorted(Path(__file__).parent.glob("*.ipynb")))
        raise ValueError(f"no notebook {', '.join(missing)}; there: {there}")
    for path in paths:
        print(f"{path}: {execute(path):.0f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
