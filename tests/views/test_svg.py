"""Drawings: well-formed, the same each time, and what they say is true."""

import re
from pathlib import Path
from xml.etree import ElementTree

import autograd
import autograd.numpy as np
import numpy
import pytest

from tinyseg import lungnet, modified, original, views
from tinyseg.io.graph import summary
from tinyseg.ops import conv2d
from tinyseg.views.svg import BLUE, ORANGE

ROOT = Path(__file__).parent.parent.parent


def parsed(drawing):
    """The texts and the rectangles of a drawing, by its XML."""
    tree = ElementTree.fromstring(drawing.svg)
    assert tree.find("{*}title").text
    return [one.text for one in tree.iter("{*}text".replace("{*}", "{http://www.w3.org/2000/svg}"))], [
        one.attrib for one in tree.iter("{http://www.w3.org/2000/svg}rect")
    ]


def loss(a, b):
    return np.sum((a * np.tanh(b * numpy.arange(3.0)) - 1.0) ** 2)


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (lambda a, b: np.tanh(a * b) + a, (0.5, 2.0)),
        (lambda a: a * a * a, (1.5,)),
        (loss, (0.7, numpy.array([0.3, -0.2, 1.0]))),
    ],
)
def test_the_cotangents_on_the_tape_are_autograds(function, values):
    texts, _ = parsed(views.tape(function, *values))
    gradients = autograd.grad(function, tuple(range(len(values))))(*values)
    for i, (value, gradient) in enumerate(zip(values, gradients), 1):
        at = texts.index(f"x{i}")
        said = [f"{value:.4g}", f"g = {gradient:.4g}"] if np.ndim(value) == 0 else ["(3,)", "g = (3,)"]
        assert texts[at + 1 : at + 3] == said


def test_the_tape_names_each_primitive_that_was_called():
    texts, _ = parsed(views.tape(lambda a, b: np.tanh(a * b) + a, 0.5, 2.0, names=("<a>", "b")))
    assert {"<a>", "b", "multiply", "tanh", "add", "1.262"} <= set(texts)


def test_no_two_nodes_of_a_tape_lie_on_each_other():
    def deep(a, b, c):
        return np.sin(a) * np.cos(b) + np.exp(c) * a + np.tanh(a * b * c) + b * c

    _, boxes = parsed(views.tape(deep, 0.1, 0.2, 0.3))
    nodes = [tuple(float(one[k]) for k in ("x", "y", "width", "height")) for one in boxes if "x" in one]
    for i, (x, y, w, h) in enumerate(nodes):
        assert not any(abs(x - u) < w and abs(y - v) < h for u, v, _, _ in nodes[:i])


def test_an_argument_used_twice_by_one_step_has_two_ways():
    svg = views.tape(lambda a: a / a, 4.0).svg
    ways = re.findall(r'<line x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', svg)
    said = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="start"[^>]*>([^<]+)', svg)
    assert len(set(ways)) == 2
    assert [float(words) for _, words in said] == [1 / 4, -1 / 4]  # (a / b)' by a, by b
    assert float(said[1][0]) - float(said[0][0]) > 50  # side by side, not one upon the other


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda a: 1.0, "does not depend"),
        (lambda a: a * numpy.ones(2), r"shape \(2,\)"),
        (lambda a: (a, a), "is a tuple"),
    ],
)
def test_a_tape_needs_one_number(function, what):
    with pytest.raises(ValueError, match=f"tape: expected one number.*{what}"):
        views.tape(function, 2.0)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_a_kernel_is_drawn_where_the_convolution_looks(dilation):
    x = numpy.random.default_rng(0).normal(size=(1, 1, 9, 9))
    vjp, y = autograd.make_vjp(lambda x: conv2d(x, numpy.ones((1, 1, 3, 3)), dilation=dilation))(x)
    g = numpy.zeros_like(y)
    g[0, 0, 4, 4] = 1
    sees = {(i - 4, j - 4) for i, j in numpy.argwhere(vjp(g)[0, 0]).tolist()}
    texts, boxes = parsed(views.kernels((dilation,)))
    taps = numpy.array([[float(one["y"]), float(one["x"])] for one in boxes if one["fill"] == BLUE])
    middle = taps.mean(axis=0)
    assert {(round(i), round(j)) for i, j in ((taps - middle) / 20).tolist()} == sees
    assert f"9 weights, {2 * dilation + 1} x {2 * dilation + 1} pixels" in texts


@pytest.mark.parametrize("net", [original(), modified(), lungnet(classes=6), modified(dilations=(2, 5))])
def test_a_network_is_drawn_as_it_is(net):
    texts, _ = parsed(views.network(net))
    table = summary(net).splitlines()[1:-1]
    for name in net.layers:
        assert (name in texts) == (name != "dropout" or net.dropout > 0)
    seen = [line.split()[-1] for line in table if line.split()[0].startswith("block")]
    assert [text for text in texts if text and text.startswith("sees")] == [f"sees {one}" for one in seen]
    assert f"{net.channels + net.maps * len(net.dilations)} maps" in texts
    arcs = views.network(net).svg.count(f'fill="none" stroke="{ORANGE}"')
    assert arcs == sum(getattr(layer, "residual", False) for layer in net.layers.values())
    assert (net.head == "linear") == ("loss: squared error" in texts)


def test_the_receptive_field_grows_as_the_summary_says():
    texts, boxes = parsed(views.fields(lungnet().dilations))
    seen = [text for text in texts if re.fullmatch(r"\d+ pixels", text)]
    fields = [int(line.split()[-1]) for line in summary(lungnet()).splitlines() if "block" in line]
    assert seen == [f"{one} pixels" for one in fields] and "21 pixels in the end" in texts[-1]
    bars = numpy.array([float(one["width"]) for one in boxes if one["fill"] == BLUE])
    numpy.testing.assert_allclose(bars / bars[-1], numpy.array(fields) / fields[-1], rtol=1e-4)


def test_drawings_of_the_pages_are_what_the_code_draws():
    names = {}
    exec((ROOT / "docs/drawings.py").read_text(), names)
    stored = {path.stem: path.read_text() for path in (ROOT / "docs/drawings").glob("*.svg")}
    assert stored == {name: drawing.svg for name, drawing in names["DRAWINGS"].items()}


def test_a_drawing_shows_itself_and_says_little(tmp_path):
    drawing = views.kernels((1,))
    assert drawing._repr_html_() == drawing.svg and len(repr(drawing)) < 50
    drawing.save(tmp_path / "kernel.svg")
    assert (tmp_path / "kernel.svg").read_text() == drawing.svg


def test_what_an_index_sends_back_is_added_up():
    texts, _ = parsed(views.tape(lambda a: a[0] * a[1] + a[2], numpy.arange(3.0)))
    assert texts[texts.index("x1") + 1 : texts.index("x1") + 3] == ["(3,)", "g = (3,)"]


@pytest.mark.parametrize("dilations", [2, (), (0,), (1.5,), "12"])
def test_what_are_no_dilations_is_refused(dilations):
    for draw in (views.kernels, views.fields):
        with pytest.raises(ValueError, match="expected a tuple of whole dilations"):
            draw(dilations)


@pytest.mark.parametrize("size", [2, 0, -3, 3.0, "3", None, True])
def test_what_is_no_side_is_refused(size):
    with pytest.raises(ValueError, match=f"expected an odd size of at least 1, got {size!r}"):
        views.kernels((1,), size=size)
    with pytest.raises(ValueError, match="expected a side of at least 1 pixel, got -5"):
        views.fields((1,), -5)


def test_a_network_of_float32_has_a_tape():
    net = modified(dilations=(1,), maps=1, widths=(1,))
    params, state = net.init(numpy.random.default_rng(0))
    x = numpy.ones((1, 1, 8, 8), numpy.float32)
    texts, _ = parsed(views.tape(lambda x: np.mean(net(params, state, x)[0]), x))
    assert "(1, 1, 8, 8)" in texts
    with pytest.raises(ValueError, match="expected a network such as modified.., got <function modified"):
        views.network(modified)


@pytest.mark.parametrize("value", ["x", 1j, None, [[1.0], [1.0, 2.0]]])
def test_what_is_no_number_has_no_tape(value):
    with pytest.raises(ValueError, match="tape: expected arguments that are floats, or arrays of them, got"):
        views.tape(lambda a: a * a, value)
    with pytest.raises(ValueError, match="tape: expected a function, got "):
        views.tape(value, 1.0)


def test_a_drawing_is_saved_as_svg_alone(tmp_path):
    views.kernels().save(str(tmp_path / "b.SVG"))
    assert (tmp_path / "b.SVG").read_text() == views.kernels().svg
    (tmp_path / "b.SVG").unlink()
    for name in (None, 3, b"a.svg"):
        with pytest.raises(ValueError, match="save: expected a name that ends in .svg, got "):
            views.kernels().save(name)
    for name in ("a.png", "a"):
        with pytest.raises(ValueError, match="save: expected a name that ends in .svg, got "):
            views.kernels().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [numpy.uint8, numpy.int8, numpy.int64])
def test_short_integers_of_numpy_are_integers(kind):
    assert views.fields((kind(100), kind(100))).svg == views.fields((100, 100)).svg
    assert views.fields(numpy.array([1, 55], kind), kind(64)).svg == views.fields((1, 55), 64).svg
    assert views.kernels((kind(64),), kind(3)).svg == views.kernels((64,), 3).svg


@pytest.mark.parametrize("names", [None, 3, "ab"])
def test_names_are_several(names):
    with pytest.raises(ValueError, match="tape: expected a tuple of names, got "):
        views.tape(lambda a, b: a * b, 1.0, 2.0, names=names)


def test_what_is_no_network_is_not_drawn():
    with pytest.raises(ValueError, match=r"network such as modified\(\), got float64 \(30, 30\)"):
        views.network(numpy.zeros((30, 30)))


def test_a_missing_name_is_refused():
    with pytest.raises(ValueError, match="a name for each of 2 arguments"):
        views.tape(lambda a, b: a * b, 1.0, 2.0, names=("a",))
