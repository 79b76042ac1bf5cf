"""How datasets, snapshots, checks and networks look where a cell of a notebook ends in one.

A notebook asks an object for `_repr_html_`. The classes themselves know nothing of HTML; they get it here.
"""

from __future__ import annotations

from dataclasses import fields
from html import escape

import numpy as np

from tinyseg.app.drawing import contact_sheet
from tinyseg.app.report import data_uri
from tinyseg.data import Dataset
from tinyseg.gradcheck.report import WRONG, Report
from tinyseg.networks import DilatedFCN
from tinyseg.training import Snapshot
from tinyseg.views.look import png
from tinyseg.views.svg import network

RED, SPACED = "#d55e00", ' style="padding: .2em .6em"'


def of_dataset(data: Dataset) -> str:
    """What it holds in a line, and its first images with the truth on them."""
    first = data.take(range(min(6, len(data))))
    shown = image_tag(contact_sheet(first), "the first images, and what is known of them") if first else ""
    return f"<p>{escape(repr(data))}</p>{shown}"


def of_snapshot(snapshot: Snapshot) -> str:
    """Where the training stands, the losses of its epoch as a curve, and its arrays, folded away."""
    arrays = [(name, array) for part in (snapshot.params, snapshot.state) for name, array in part.items()]
    rows = [
        [name, " x ".join(map(str, np.shape(array))), *(f"{end(array):.3g}" for end in (np.min, np.max))]
        for name, array in arrays
        if np.size(array)
    ]
    folded = table(["array", "shape", "lowest", "highest"], rows)
    return (
        f"<p>{escape(repr(snapshot))}</p>{curve(snapshot.losses)}"
        f"<details><summary>{len(arrays)} arrays</summary>{folded}</details>"
    )


def of_report(report: Report) -> str:
    """The table of a check, what is wrong in red, and its notes."""
    marked = [row.verdict == WRONG for row in report.rows]
    notes = [*(row.note for row in report.rows if row.note), *report.notes]
    return table(*report.table(), marked=marked) + "".join(f"<p>{escape(note)}</p>" for note in notes)


def of_network(net: DilatedFCN) -> str:
    """The network drawn, and its fields, folded away."""
    rows = [[field.name, str(getattr(net, field.name))] for field in fields(net) if field.repr]
    folded = f"<details><summary>its fields</summary>{table(['field', 'value'], rows)}</details>"
    return network(net)._repr_html_() + folded


forms = {Dataset: of_dataset, Snapshot: of_snapshot, Report: of_report, DilatedFCN: of_network}
for kind, form in forms.items():
    setattr(kind, "_repr_html_", form)  # noqa: B010  mypy knows no such attribute of the class


# Pieces of HTML. A notebook has no style sheet of ours, as a run's page has: the style stands in each piece.


def image_tag(pixels: np.ndarray, words: str) -> str:
    """A picture (H, W, 3) uint8 within the page itself."""
    address = data_uri(png(pixels, most=900), "image/png")
    return f'<img src="{address}" alt="{escape(words)}" style="max-width: 100%">'


def table(heads: list[str], rows: list[list[str]], marked=()) -> str:
    """Rows of texts under their heads; those that are marked in red."""
    marked = list(marked) or [False] * len(rows)
    colours = [f' style="color: {RED}; font-weight: bold"' if one else "" for one in marked]
    lines = [
        f"<tr{colour}>{''.join(f'<td{SPACED}>{escape(cell)}</td>' for cell in row)}</tr>"
        for row, colour in zip(rows, colours)
    ]
    head = "".join(f"<th{SPACED}>{escape(name)}</th>" for name in heads)
    return (
        '<div style="max-height: 24rem; overflow: auto"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def curve(values, width: int = 320, height: int = 80) -> str:
    """Numbers as a line from left to right, the lowest and highest below it; nothing of fewer than two."""
    values = np.array([value for value in values if np.isfinite(value)])
    if len(values) < 2:
        return ""
    low, high = values.min(), values.max()
    values = values[np.unique(np.linspace(0, len(values) - 1, 2 * width).astype(int))]  # as many as one sees
    x = np.linspace(0, width, len(values))
    y = height - 4 - (height - 8) * (values - low) / (high - low or 1)
    points = " ".join(f"{across:.1f},{down:.1f}" for across, down in zip(x, y))
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        'style="max-width: 100%; background: white"><title>the loss of each minibatch</title>'
        f'<polyline points="{points}" fill="none" stroke="#0072b2" stroke-width="1.5"/></svg>'
        f"<p>the loss of each minibatch of the epoch, {low:.3g} to {high:.3g}</p>"
    )
