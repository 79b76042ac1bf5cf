"""Draw the drawings of the pages: `python docs/drawings.py` writes docs/drawings/*.svg."""

from pathlib import Path

import autograd.numpy as np

from tinyseg import lungnet, modified, views

DRAWINGS = {
    "kernels": views.kernels((1, 2, 3)),
    "tape": views.tape(lambda a, b: np.tanh(a * b) + a, 0.5, 2.0, names=("a", "b")),
    "modified": views.network(modified()),
    "lungnet": views.network(lungnet()),
    "fields": views.fields(lungnet().dilations),
}

if __name__ == "__main__":
    folder = Path(__file__).parent / "drawings"
    folder.mkdir(exist_ok=True)
    for name, drawing in DRAWINGS.items():
        drawing.save(folder / f"{name}.svg")
