"""Drawings made by code: a dilated kernel, the tape of an expression, a network, its receptive field.

Each is a piece of SVG, text that browsers and notebooks draw. Blue goes forward, orange goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from autograd.core import VJPNode, add_outgrads
from autograd.tracer import isbox, new_box, notrace_primitives, register_notrace, trace_stack

from tinyseg.errors import is_whole, plural
from tinyseg.io.files import write_whole
from tinyseg.networks import DilatedFCN
from tinyseg.views import check

BLUE, ORANGE, BLACK, GREY, LIGHT, WHITE = "#0072b2", "#c04a00", "#1c1c1c", "#767676", "#e4e4e4", "#ffffff"


@dataclass(frozen=True, repr=False)
class Drawing:
    """A drawing as SVG; a notebook shows it."""

    svg: str

    def __repr__(self) -> str:
        return f"Drawing({len(self.svg):,} characters of SVG)"

    def _repr_html_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write it as an SVG file, whole or not at all.

        Raises:
            ValueError: the name does not end in .svg.
        """
        write_whole(check.path(path, (".svg",)), self.svg)


def kernels(dilations: Sequence[int] = (1, 2, 3), size: int = 3) -> Drawing:
    """Kernels of size x size weights at some dilations, side by side on equal grids of pixels.

    Raises:
        ValueError: a dilation is no whole number of at least 1, there is none, or the size is not odd.
    """
    dilations = check.dilations("kernels", dilations)
    if not is_whole(size) or size % 2 == 0:
        raise ValueError(f"kernels: expected an odd size of at least 1, got {size!r}")
    size = int(size)
    cell, pieces = 20, []
    side = max(dilations) * (size - 1) + 3
    for k, d in enumerate(dilations):
        left, window = k * (side + 1) * cell + cell, d * (size - 1) + 1
        offsets = [side // 2 + d * (i - size // 2) for i in range(size)]
        for i, j in product(offsets, offsets):
            pieces.append(box(left + j * cell, cell + i * cell, cell, cell, BLUE))
        right, bottom = left + side * cell, cell + side * cell
        for at in range(0, (side + 1) * cell, cell):
            pieces.append(line((left + at, cell), (left + at, bottom), LIGHT))
            pieces.append(line((left, cell + at), (right, cell + at), LIGHT))
        x = left + side * cell / 2
        edge = x - window * cell / 2
        pieces.append(box(edge, edge - left + cell, window * cell, window * cell, "none", ORANGE, 3))
        pieces.append(text(x, (side + 2.2) * cell, f"dilation {d}", 22))
        pieces.append(
            text(x, (side + 3.4) * cell, f"{plural(size**2, 'weight')}, {window} x {window} pixels", 16, GREY)
        )
    width = len(dilations) * (side + 1) * cell + cell
    return drawing("Kernels at dilations " + ", ".join(map(str, dilations)), width, (side + 4) * cell, pieces)


def fields(dilations: Sequence[int], image: int = 64) -> Drawing:
    """How the receptive field grows from layer to layer of 3 x 3 kernels, and what dilation 1 would see.

    `image` is the side of an image in pixels, which two lines mark.

    Raises:
        ValueError: a dilation, or the side, is no whole number of at least 1, or there is no dilation.
    """
    dilations = check.dilations("fields", dilations)
    if not is_whole(image):
        raise ValueError(f"fields: expected a side of at least 1 pixel, got {image!r}")
    image = int(image)
    dense, window, row, middle = 1, 1, 26, 320
    widest = max(1 + 2 * sum(dilations), image)
    scale = 360 / widest
    pieces = []
    for k, d in enumerate(dilations):
        y, dense, window = 58 + k * row, dense + 2, window + 2 * d
        pieces.append(text(104, y + 15, f"dilation {d}", 16, anchor="end"))
        pieces.append(box(middle - scale * window / 2, y, scale * window, row - 6, BLUE))
        pieces.append(box(middle - scale * dense / 2, y + 6, scale * dense, row - 18, LIGHT))
        pieces.append(text(middle + 190, y + 15, f"{window} pixels", 16, BLUE, "start"))
    bottom = 58 + len(dilations) * row
    for side in (-1, 1):
        x = middle + side * scale * image / 2
        pieces.append(line((x, 44), (x, bottom), ORANGE, dashed=True))
    pieces.append(text(middle, 24, f"dashed: an image of {image} pixels", 16, ORANGE))
    pieces.append(
        text(middle, bottom + 24, f"light: with every dilation 1, {dense} pixels in the end", 16, GREY)
    )
    return drawing("The receptive field, layer by layer", 620, bottom + 40, pieces)


def network(net: DilatedFCN) -> Drawing:
    """A network from top to bottom: every layer, what it sees, and what is concatenated.

    Raises:
        ValueError: it is no network of this family.
    """
    if not isinstance(net, DilatedFCN):
        raise ValueError(f"network: expected a network such as modified(), got {check.came(net)}")
    seen, rows = 1, [("image", plural(net.channels, "channel"), "", False)]
    rows.append(("input", "x + norm(x)", "", False))
    for i, d in enumerate(net.dilations, 1):
        seen += 2 * d
        block = net.layers[f"block{i}"]
        rows.append(
            (f"block{i}", f"3 x 3, dilation {d}, {plural(net.maps, 'map')}", f"sees {seen}", block.residual)
        )
    joined = len(rows)
    rows.append(("concatenate", f"{net.channels + len(net.dilations) * net.maps} maps", "", False))
    if net.dropout:
        rows.append(("dropout", f"{net.dropout:g} of them, in training", "", False))
    for i, width in enumerate(net.widths, 1):
        rows.append((f"head{i}", f"1 x 1, {plural(width, 'map')}", "", net.layers[f"head{i}"].residual))
    linear = net.head == "linear"
    rows.append(("output", f"1 x 1, {plural(1 if linear else net.classes, 'map')}", "", False))
    loss = "squared error" if linear else "softmax, cross-entropy"
    high, left, width, rail, pieces = 40, 50, 340, 470, []
    for k, (name, what, sees, residual) in enumerate(rows):
        y = 16 + k * high
        if k:
            pieces.append(line((left + width / 2, y - 12), (left + width / 2, y), BLUE, arrow=True))
        pieces.append(box(left, y, width, 28, WHITE if k in (0, joined) else "#e8f2f9", BLUE, rounded=6))
        pieces.append(text(left + 10, y + 19, name, 16, BLACK, "start", bold=True))
        pieces.append(text(left + width - 10, y + 19, what, 15, BLACK, "end"))
        if residual:
            pieces.append(
                curve((left, y - 8), (left - 34, y - 8), (left - 34, y + 36), (left, y + 36), ORANGE)
            )
        if 0 < k < joined:
            pieces.append(line((left + width, y + 14), (rail, y + 14), GREY))
            pieces.append(text(left + width + 6, y + 8, sees, 12, GREY, "start"))
    y = 16 + joined * high + 14
    pieces += [line((rail, 30 + high), (rail, y), GREY), line((rail, y), (left + width, y), GREY, arrow=True)]
    if any(row[3] for row in rows):
        pieces.append(text(0, 16 + high + 20, "+ x", 15, ORANGE, "start"))
    y = 16 + len(rows) * high
    pieces.append(line((left + width / 2, y - 12), (left + width / 2, y), BLUE, arrow=True))
    pieces.append(text(left + width / 2, y + 18, f"loss: {loss}", 16))
    return drawing("A dilated fully convolutional network", 500, y + 32, pieces)


# The tape: autograd calls the primitives, and we see what it records.


class Step(VJPNode):
    """A primitive that was called, or an argument (`name` is then given)."""

    def __init__(self, value, fun, args, kwargs, parent_argnums, parents):
        super().__init__(value, fun, args, kwargs, parent_argnums, parents)
        self.graph, self.value, self.name = parents[0].graph, value, fun.__name__.removesuffix("_args")
        self.depth = 1 + max(parent.depth for parent in parents)
        self.graph.append(self)

    def initialize_root(self, value, name, graph):
        self.parents, self.vjp, self.depth = [], lambda g: (), 0
        self.graph, self.value, self.name = graph, value, name
        graph.append(self)


for function in tuple(notrace_primitives[VJPNode]):  # comparisons and the like: autograd records none of them
    register_notrace(Step, function)


def tape(function: Callable, *values, names: Sequence[str] = ()) -> Drawing:
    """What autograd records of function(*values), from top to bottom, and the cotangents on their way back.

    Args:
        function: of numbers or arrays; its result is one number.
        values: floats, or arrays of them.
        names: what the arguments are called; by default x1, x2 and so on.

    Raises:
        ValueError: the result is not one number, or does not depend on the arguments; a name is missing; the
            values are no numbers, or the function is none.
    """
    graph: list[Step] = []  # every step stands after its parents
    if not callable(function):
        raise ValueError(f"tape: expected a function, got {check.came(function)}")
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"tape: expected a tuple of names, got {check.came(names)}")
    names = tuple(map(str, names)) or tuple(f"x{i}" for i in range(1, len(values) + 1))
    if len(names) != len(values):
        raise ValueError(f"tape: expected a name for each of {len(values)} arguments, got {names}")
    arrays = [check.numbers("tape", "arguments that are floats, or arrays of them", v) for v in values]
    floats = [v if v.dtype.kind == "f" else v.astype(float) for v in arrays]  # float32 stays float32
    roots = [Step.new_root(v if v.ndim else v[()], name, graph) for v, name in zip(floats, names)]

    with trace_stack.new_trace() as level:
        y = function(*(new_box(root.value, level, root) for root in roots))
    end, last = (y._value, y._node) if isbox(y) else (y, None)
    wanted = "tape: expected one number that depends on the arguments; the result"
    if isinstance(end, tuple | list):
        raise ValueError(f"{wanted} is a {type(end).__name__}")
    if last is None:
        raise ValueError(f"{wanted} does not depend on them")
    if np.shape(end) != ():
        raise ValueError(f"{wanted} has the shape {np.shape(end)}")
    cotangents: dict[Step, Any] = {last: np.ones_like(end)}
    ways: dict[tuple[Step, int], Any] = {}  # the cotangent that a step sends to its n-th parent
    for step in reversed(graph):
        if step in cotangents:
            for n, (parent, g) in enumerate(zip(step.parents, step.vjp(cotangents[step]))):
                ways[step, n], _ = add_outgrads(None, g)  # what an index sends back is sparse; this fills it
                known = cotangents.get(parent)
                cotangents[parent] = ways[step, n] if known is None else known + ways[step, n]
    used = [step for step in graph if step in cotangents]
    return drawing("The tape of an expression", *laid_out(used, cotangents, ways))


def laid_out(steps: list[Step], cotangents: dict, ways: dict) -> tuple[int, int, list[str]]:
    """(width, height, pieces) of a graph whose steps lie in rows by their depth.

    A way that skips rows gets a place in each of them, so that it passes beside what is there.
    """
    rows: list[list] = [[] for _ in range(1 + max(step.depth for step in steps))]
    for step in steps:
        rows[step.depth].append(step)
    paths = {}  # of each way, the places that it goes through: a step, or the way's key where it passes
    for step, n in ways:
        parent = step.parents[n]
        between = range(parent.depth + 1, step.depth)
        for depth in between:
            rows[depth].append((step, n, depth))
        paths[step, n] = [parent, *((step, n, depth) for depth in between), step]
    above: dict = {}
    for path in paths.values():
        for one, other in zip(path, path[1:]):
            above.setdefault(other, []).append(one)
    wide, high = 150, 116
    across: dict[Any, float] = {}  # of each place its middle
    width = wide * max(map(len, rows))
    for row in rows:  # each beside its parents, in the order of their places
        row.sort(key=lambda one: np.mean([across[other] for other in above.get(one, [])] or [0]))
        for k, one in enumerate(row):
            across[one] = (k + 0.5) * width / len(row)

    def depth_of(one):
        return one.depth if isinstance(one, Step) else one[2]

    def side(one, other):  # where a way leaves a box: on the side on which it goes on
        return across[one] + max(-45, min(45, (across[other] - across[one]) / 4))

    pieces = []
    for (step, n), path in paths.items():
        points = [(across[one], 44 + high * depth_of(one)) for one in path]
        twins = [i for i, parent in enumerate(step.parents) if parent is path[0]]  # a * a has two ways to a
        aside = 56 * (twins.index(n) - (len(twins) - 1) / 2)
        points[0] = side(path[0], path[1]) + aside, points[0][1] + 30
        points[-1] = side(path[-1], path[-2]) + aside, points[-1][1] - 34
        pieces += [line(one, other, BLUE) for one, other in zip(points, points[1:-1])]
        pieces.append(line(points[-2], points[-1], BLUE, arrow=True))
        (x, y), (right, down) = points[0], points[1]
        middle = (x + right) / 2 + 6, (y + down) / 2 + 5
        pieces.append(text(*middle, said(ways[step, n]), 15, ORANGE, "start"))
    for step in steps:
        x, y = across[step], 44 + high * step.depth
        pieces.append(box(x - 62, y - 32, 124, 62, WHITE if step.depth else "#e8f2f9", BLUE, rounded=6))
        pieces.append(text(x, y - 14, step.name, 16, bold=True))
        pieces.append(text(x, y + 4, said(step.value), 15, BLUE))
        pieces.append(text(x, y + 23, f"g = {said(cotangents[step])}", 15, ORANGE))
    return width, high * len(rows) - 20, pieces


def said(value) -> str:
    """A number with four digits; of an array its shape."""
    return f"{float(value) + 0.0:.4g}" if np.ndim(value) == 0 else str(np.shape(value))


# Pieces of SVG


def drawing(title: str, width: float, height: float, pieces: Sequence[str]) -> Drawing:
    """The pieces on white, as wide as there is room, at most their own width."""
    arrow = (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker>'
    )
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'style="width: 100%; max-width: {width:g}px; background: white" font-family="sans-serif">'
        f"<title>{escape(title)}</title><defs>{arrow}</defs>"
        f'<rect width="100%" height="100%" fill="{WHITE}"/>{"".join(pieces)}</svg>'
    )


def text(x, y, words, size, fill=BLACK, anchor="middle", *, bold=False) -> str:
    """Words at a place, with a white rim, so that a line behind them does not cross them."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight} '
        f'stroke="{WHITE}" stroke-width="3" paint-order="stroke">{escape(words)}</text>'
    )


def box(x, y, width, height, fill, stroke="none", thick=1, *, rounded=0) -> str:
    """A rectangle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{rounded}" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="{thick}"/>'
    )


def line(start, end, colour, *, arrow=False, dashed=False) -> str:
    """A straight line, with a tip at its end or dashed."""
    more = ' marker-end="url(#tip)"' * arrow + ' stroke-dasharray="6 5"' * dashed
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="2"{more}/>'


def curve(start, first, second, end, colour) -> str:
    """A curve from start to end that leaves towards the first point and comes from the second, with a tip."""
    (a, b), (c, d), (e, f), (g, h) = start, first, second, end
    return (
        f'<path d="M{a:g} {b:g}C{c:g} {d:g} {e:g} {f:g} {g:g} {h:g}" fill="none" stroke="{colour}" '
        f'stroke-width="2" marker-end="url(#tip)"/>'
    )
