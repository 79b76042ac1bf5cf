"""docs/layers.md keeps its word: each layer there is checked, trained, saved, loaded, exported or refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from tinyseg import DilatedFCN, Preprocessing, begin, evaluate, fit, load, predict, save, using
from tinyseg.errors import InputError
from tinyseg.gradcheck import check_layer
from tinyseg.io.onnx import to_onnx
from tinyseg.layers import Block, Calls, Conv2d, InstanceNorm, Sequential
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
    said = re.findall(r"^```text\n(.*?)^```", PAGE, flags=re.M | re.S)[-1]
    assert page["printed"].split() == said.split()
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
    for last in fit(net, data, begin(net, seed=1), epochs=6, schedule=lambda step: 1e-2):
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
