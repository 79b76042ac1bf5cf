"""docs/layers.md keeps its word: each layer there is checked, trained, saved, loaded, exported or refused."""

import re
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pytest

from tinyseg import DilatedFCN, Preprocessing, begin, evaluate, fit, load, predict, save, using
from tinyseg.errors import InputError
from tinyseg.fast import FAST
from tinyseg.gradcheck import check_layer
from tinyseg.io.onnx import to_onnx
from tinyseg.layers import BatchNorm, Block, Calls, Conv2d, InstanceNorm, Sequential
from tinyseg.ops import DEFINITIONS

PAGE = (Path(__file__).parent.parent / "docs/layers.md").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page's code defines, and what it prints."""
    from contextlib import chdir, redirect_stdout
    from io import StringIO

    names, printed = {"__name__": "page"}, StringIO()
    with chdir(tmp_path_factory.mktemp("page")), redirect_stdout(printed):
        for code in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S):
            if "to_onnx" in code:
                pytest.importorskip("onnx")
            exec(code, names)
    return names | {"printed": printed.getvalue()}


def test_what_the_page_prints(page):
    said = re.findall(r"^```text\n(.*?)^```", PAGE, flags=re.M | re.S)
    (table,) = (text.splitlines() for text in said if text.startswith("name"))
    summary = said[-1].splitlines()
    lines = page["printed"].splitlines()
    assert [line.split()[0] for line in lines[: len(table)]] == [line.split()[0] for line in table]
    assert [line.split()[-1] for line in lines[: len(table)]] == [line.split()[-1] for line in table]
    assert [line.split() for line in lines[len(table) :]] == [line.split() for line in summary]
    page["test_group_norm"]()
    assert page["counts"].dice > 0.9 and page["p"].shape == (12, 1, 16, 16)


def small(page):
    return page["small"]


def unet(page):
    return page["make_unet"]()


def with_dropout_and_no_norm(page):
    class Net(page["SoftmaxHead"], Sequential):
        pass

    from tinyseg.layers import Dropout

    return Net(Block(Conv2d(1, 3, 5)), Dropout(0.1), Block(Conv2d(3, 3), residual=True), Conv2d(3, 2, 1))


@pytest.mark.parametrize("build", [small, unet, with_dropout_and_no_norm])
def test_all_the_way(build, page, tmp_path):
    net, data = build(page), page["data"]
    check_layer(net, np.random.default_rng(1).normal(size=(1, 1, 8, 8)))
    first, last = None, None
    for last in fit(net, data, begin(net, seed=1), epochs=6, schedule=lambda step, steps: 1e-2):
        first = first or last
    assert last.loss < first.loss
    loss, _, p = evaluate(net, last.params, last.state, data)
    assert p.shape == (12, 1, 16, 16) and np.isfinite(loss)
    save(tmp_path / "net.npz", net, last.params, last.state, Preprocessing(16))
    _, params, state, _ = load(tmp_path / "net.npz", net)
    np.testing.assert_array_equal(predict(net, params, state, data.images), p)
    with pytest.raises(InputError, match="a file never says what code to run"):
        load(tmp_path / "net.npz")
    plain = using(net, DEFINITIONS)
    np.testing.assert_allclose(predict(plain, params, state, data.images), p, atol=1e-5)


def test_the_exported_unet_computes_the_same(page, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    net = page["make_unet"]()
    to_onnx(net, page["params"], page["state"], tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for shape in ((3, 1, 16, 24), (1, 1, 8, 4)):
        x = np.random.default_rng(0).random(shape, np.float32)
        expected = net(page["params"], page["state"], x)[0]
        np.testing.assert_allclose(session.run(None, {"image": x})[0], expected, atol=1e-4)


class OddOne(DilatedFCN):
    """A network that does other things with one image than with two: no graph can follow."""

    def __call__(self, params, state, x, *, train=False, rng=None):
        y, state = super().__call__(params, state, x, train=train, rng=rng)
        return (2 * y if len(x) == 1 else y), state


class Sorting(Sequential):
    def __call__(self, params, state, x, *, train=False, rng=None):
        import autograd.numpy as anp

        y, state = super().__call__(params, state, x, train=train, rng=rng)
        return anp.sort(y, axis=1), state


def test_what_cannot_be_exported_is_refused_in_one_sentence(page, tmp_path):
    pytest.importorskip("onnx")
    net = Sorting(Conv2d(1, 2, 1))
    with pytest.raises(ValueError, match="layer 0 calls sort, which has no translation"):
        to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx")
    net = page["small"]
    with pytest.raises(ValueError, match="to_onnx: the graph does not run|another result"):
        to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx")
    net = OddOne(maps=1, dilations=(1,))
    with pytest.raises(ValueError, match="another result than the network"):
        to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_subclass_is_not_taken_for_what_it_inherits(tmp_path):
    """Once, saving a subclass gave the architecture of its parent."""
    net = OddOne(maps=1, dilations=(1,))
    params, state = net.init(np.random.default_rng(0))
    save(tmp_path / "net.npz", net, params, state, Preprocessing())
    with pytest.raises(InputError, match="a network of the kind OddOne"):
        load(tmp_path / "net.npz")
    with pytest.raises(InputError, match="expected a network of the kind DilatedFCN, got OddOne"):
        load(tmp_path / "net.npz", DilatedFCN(maps=1, dilations=(1,)))
    assert load(tmp_path / "net.npz", net)[0] is net


def test_a_layers_error_has_its_name_and_a_bad_return_is_named():
    net = Sequential(Conv2d(1, 2), Block(Conv2d(3, 2), InstanceNorm(2)))
    with pytest.raises(ValueError, match="^1: conv: conv2d: weight"):
        net(*net.init(np.random.default_rng(0)), np.zeros((1, 1, 5, 5), np.float32))

    class Forgetful(Conv2d):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)[0]

    layer = Forgetful(1, 1)
    run = Calls({"mine": layer}, *init_named("mine", layer), train=True, rng=None)
    with pytest.raises(ValueError, match=r"mine: a layer returns \(y, state\), this one a ndarray"):
        run("mine", np.zeros((1, 1, 5, 5), np.float32))


def init_named(name, layer):
    from tinyseg.layers import init_all

    return init_all({name: layer}, np.random.default_rng(0))


class Layer:
    """A layer without parameters, from a function of x."""

    def __init__(self, function):
        self.function = function

    def init(self, rng):
        return {}, {}

    def __call__(self, params, state, x, *, train=False, rng=None):
        return self.function(x), state


ODD = {
    "its own count of pixels": lambda x: (
        x - anp.sum(x, axis=(0, 2, 3), keepdims=True) / (x.size // x.shape[1])
    ),
    "its own width": lambda x: x - anp.sum(x, axis=3, keepdims=True) / x.shape[3],
    "a channel of places": lambda x: x + np.linspace(0, 1, x.shape[3], dtype=np.float32),
    "another way for wide images": lambda x: anp.tanh(x) if x.shape[3] > 64 else x,
    "padding of odd sizes": lambda x: anp.pad(
        x, [(0, 0)] * 2 + [(0, s % 2) for s in x.shape[2:]], "constant"
    ),
    "an index of numbers": lambda x: x[:, np.array([1, 0])],
    "a look at values": lambda x: anp.tanh(x) if x.max() > 0 else x,
}


@pytest.mark.parametrize("name", ODD)
def test_no_graph_of_another_network_is_written(name, tmp_path):
    pytest.importorskip("onnx")
    net = Sequential(Conv2d(1, 2), Layer(ODD[name]), Conv2d(2, 2, 1))
    with pytest.raises(ValueError):
        to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_another_network_with_the_same_shapes_is_not_loaded(tmp_path):
    one, other = (Sequential(Conv2d(1, 4, 3, d), InstanceNorm(4, eps), Conv2d(4, 2, 1))
                  for d, eps in ((1, 1e-5), (5, 1.0)))  # fmt: skip
    save(tmp_path / "net.npz", one, *one.init(np.random.default_rng(0)), Preprocessing())
    assert load(tmp_path / "net.npz", using(one, DEFINITIONS))[0] == one
    with pytest.raises(InputError, match="dilation=5.*got .*dilation=1"):
        load(tmp_path / "net.npz", other)


def test_using_reaches_layers_wherever_they_are():
    class Plain:
        def __init__(self):
            self.first, self.others = Conv2d(1, 2), {"a": [Conv2d(2, 2)], "b": (Conv2d(2, 1),)}

        def init(self, rng):
            return {}, {}

    plain = Plain()
    changed = using(Sequential(plain, Conv2d(1, 1)), DEFINITIONS).layers[0]
    inside = changed.first, changed.others["a"][0], changed.others["b"][0]
    assert all(layer.engine is DEFINITIONS for layer in inside)
    assert plain.first.engine is not DEFINITIONS
    net = DilatedFCN(maps=1)
    assert net.layers["block1"].engine is net.engine
    assert using(net, DEFINITIONS).layers["block1"].conv.engine is DEFINITIONS


class Counting:
    """A norm-like layer that keeps a mean, written as a newcomer would write it: with a box in its state."""

    def init(self, rng):
        return {"scale": np.ones(1, np.float32)}, {"mean": np.zeros(1, np.float32)}

    def __call__(self, params, state, x, *, train=False, rng=None):
        if train:
            state = {"mean": 0.9 * state["mean"] + 0.1 * anp.sum(x) / x.size}
        return params["scale"] * x - anp.reshape(state["mean"], (1, 1, 1, 1)), state


def test_no_box_stays_in_a_snapshots_state(page):
    net = page["Small"](Conv2d(1, 2), Counting())
    (snapshot,) = fit(net, page["data"], begin(net), epochs=1)
    assert all(isinstance(array, np.ndarray) for array in snapshot.state.values())
    assert np.isfinite(predict(net, snapshot.params, snapshot.state, page["data"].images)).all()


def test_a_layer_that_is_not_called_keeps_its_state():
    layers = {"a": BatchNorm(1), "b": BatchNorm(1)}
    from tinyseg.layers import init_all

    params, state = init_all(layers, np.random.default_rng(0))
    run = Calls(layers, params, state, train=True, rng=None)
    run("a", np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype("f"))
    assert run.state["b.mean"] is state["b.mean"] and run.state["a.mean"] is not state["a.mean"]


@pytest.mark.parametrize("engine", [FAST, DEFINITIONS], ids=["fast", "definitions"])
@pytest.mark.parametrize("train", [True, False])
def test_a_residual_that_does_not_fit_is_refused_by_both_engines(engine, train):
    block = using(Block(Conv2d(3, 1), BatchNorm(1), residual=True), engine)
    with pytest.raises(ValueError, match=r"residual: expected x \(N, 1 or 1, H, W\)"):
        block(*block.init(np.random.default_rng(0)), np.zeros((1, 3, 4, 4), np.float32), train=train)
