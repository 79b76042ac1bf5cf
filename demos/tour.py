"""Run tour.ipynb from the top, and store it again without outputs but its small pictures.

    python demos/tour.py

So what changes in the notebook are its cells, and GitHub still shows what comes out. Needs the extra `tour`.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).with_name("tour.ipynb")
LARGEST = 200_000  # letters of a picture that is stored


def run(notebook, *, seconds: int = 300) -> None:
    """Run all cells of a notebook, in this folder; each may take so many seconds.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell ends in an error.
    """
    NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": str(TOUR.parent)}}).execute()


def pictures_alone(notebook) -> None:
    """Drop all outputs of a notebook, and when its cells ran, but PNG pictures that are not large."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            picture = output.get("data", {}).get("image/png")
            if picture and len(picture) <= LARGEST:
                text = output.data.get("text/plain", "a picture")
                kept.append(
                    nbformat.v4.new_output("display_data", {"image/png": picture, "text/plain": text})
                )
        cell.outputs, cell.execution_count = kept, None


if __name__ == "__main__":
    tour = nbformat.read(TOUR, 4)
    run(tour)
    pictures_alone(tour)
    tour.metadata = {"kernelspec": tour.metadata.kernelspec, "language_info": {"name": "python"}}
    nbformat.write(tour, TOUR)
