"""The exported graph against tinyseg itself: ONNX Runtime computes what the network does."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from tinyseg.errors import InputError
from tinyseg.fast import FAST
from tinyseg.io.masks import Meaning
from tinyseg.io.onnx import to_onnx
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.layers import Block, Conv2d, InstanceNorm, Sequential, using
from tinyseg.networks import DilatedFCN, lungnet, modified, original
from tinyseg.ops import DEFINITIONS, SCIPY

NETS = {
    "original": original(weight_std=None),
    "modified": modified(weight_std=0.2),
    "modified, small weights": modified(),
    "lungnet": lungnet(classes=6),
    "lungnet, colour": lungnet(maps=4, channels=3, classes=11),
    "batch at hand": lungnet(maps=4, norm="batch", running=False),
    "slow": modified(maps=2, dilations=(1, 2), weight_std=None, engine=SCIPY),
}


def trained(net, seed=0):
    """Parameters and statistics as a training leaves them: none at its initial value."""
    rng = np.random.default_rng(seed)
    params, state = net.init(rng)
    params = {k: (a + 0.01 * rng.normal(size=a.shape)).astype(np.float32) for k, a in params.items()}
    state = {k: (a + rng.random(a.shape)).astype(np.float32) for k, a in state.items()}
    return params, state


def is_alive(y):
    """Whether a network's output depends on what it sees, and is no constant that any graph can have."""
    return y.std(axis=(0, 2, 3)).max() > 0.01 * np.abs(y).max()


@pytest.mark.parametrize("name", NETS)
def test_onnx_runtime_computes_the_same(name, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net = NETS[name]
    params, state = trained(net)
    to_onnx(net, params, state, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 64, 64), (3, 40, 57), (2, 1, 9)):  # one graph for any number and size
        x = np.random.default_rng(1).random((shape[0], net.channels, *shape[1:]), np.float32)
        (output,) = session.run(["output"], {"image": x})
        expected = net(params, state, x)[0]
        assert output.dtype == np.float32 and output.shape == expected.shape
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-4 * min(1, np.abs(expected).max()))
        assert is_alive(expected)


@pytest.mark.parametrize("name", NETS)
def test_the_graph_is_sound_and_named_like_the_parameters(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    net = NETS[name]
    params, state = trained(net)
    to_onnx(net, params, state, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in model.graph.initializer}
    for key, array in (params | state).items():
        np.testing.assert_array_equal(arrays[key], array)
    maps = 1 if net.head == "linear" else net.classes
    for value, channels in ((model.graph.input[0], net.channels), (model.graph.output[0], maps)):
        dims = value.type.tensor_type.shape.dim
        assert [dims[i].dim_param for i in (0, 2, 3)] == ["N", "H", "W"]
        assert dims[1].dim_value == channels
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "output"]
    names = [name for node in model.graph.node for name in node.output]
    assert len(set(names)) == len(names) and names[-1] == "output"
    blocks = [f"block{i}" for i in range(1, len(net.dilations) + 1)]
    blocks += [f"head{i}" for i in range(1, len(net.widths) + 1)]
    assert {f"{block}.{result}" for block in blocks for result in ("conv", "norm.relu")} <= set(names)
    assert "concatenate" in names
    assert {re.match("[a-z]+[0-9]*", name).group() for name in names} == {
        "input", *blocks, "concatenate", "output"
    }  # fmt: skip
    for node in model.graph.node:  # and what a result is named after is what it is made of
        for key in set(node.input) & (params | state).keys():
            assert node.output[0].startswith(key.rpartition(".")[0])


def test_who_has_the_file_knows_what_images_it_wants(tmp_path):
    onnx = pytest.importorskip("onnx")
    net, how = modified(maps=1), Preprocessing(96, 1, (0, 4095), Meaning(names=("nothing", "nerve"), above=7))
    to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx", preprocessing=how)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    said = json.loads(metadata["preprocessing"])
    assert Preprocessing(**said | {"masks": Meaning(**said["masks"])}) == how


def test_arrays_of_another_network_are_refused(tmp_path):
    pytest.importorskip("onnx")
    net = modified(maps=1)
    params, state = net.init(np.random.default_rng(0))
    with pytest.raises(ValueError, match="to_onnx: array 'output.bias' is missing"):
        to_onnx(net, {k: a for k, a in params.items() if k != "output.bias"}, state, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="output.bias should be float32"):
        to_onnx(net, params | {"output.bias": np.zeros(1)}, state, tmp_path / "net.onnx")
    with pytest.raises(InputError, match="cannot be written"):
        to_onnx(net, params, state, tmp_path / "nowhere" / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    net = modified(maps=1)
    with pytest.raises(InputError, match="pip install onnx onnxruntime"):
        to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx")


ENGINES = {"fast": FAST, "definitions": DEFINITIONS, "scipy": SCIPY}
EVERY_NORM = {
    "batch": modified(maps=2, dilations=(1, 3), weight_std=None),
    "at hand": original(maps=2, dilations=(1, 3), running=False),
    "instance": lungnet(maps=2, widths=(4, 3), dilations=(1, 3), classes=4),
}


@pytest.mark.parametrize("norm", EVERY_NORM)
def test_the_engine_makes_no_other_graph(norm, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    params, state = trained(EVERY_NORM[norm])
    x = np.random.default_rng(1).random((2, 1, 23, 18), np.float32)
    files = []
    for name, engine in ENGINES.items():
        net = replace(EVERY_NORM[norm], engine=engine)
        to_onnx(net, params, state, tmp_path / name)
        files.append((tmp_path / name).read_bytes())
        session = runtime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        expected = net(params, state, x)[0]
        assert is_alive(expected)
        np.testing.assert_allclose(session.run(["output"], {"image": x})[0], expected, rtol=1e-5, atol=1e-5)
    assert len(set(files)) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_of_their_own_with_any_engine(engine, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net = using(Sequential(Block(Conv2d(2, 3, 5, 2), InstanceNorm(3)), Conv2d(3, 2, 1)), ENGINES[engine])
    params, state = trained(net)
    to_onnx(net, params, state, tmp_path / "net.onnx", shape=(1, 2, 12, 14))
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).random((3, 2, 9, 16), np.float32)
    expected = net(params, state, x)[0]
    np.testing.assert_allclose(session.run(None, {"image": x})[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", EVERY_NORM)
def test_the_outputs_bias_is_in_the_graph(norm, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net = EVERY_NORM[norm]
    params, state = trained(net)
    x, results = np.random.default_rng(1).random((1, 1, 9, 11), np.float32), []
    bias = np.arange(1, len(params["output.bias"]) + 1, dtype=np.float32)
    for value in (0 * bias, bias):
        given = params | {"output.bias": value}
        to_onnx(net, given, state, tmp_path / "net.onnx")
        session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
        results.append(session.run(["output"], {"image": x})[0])
        np.testing.assert_allclose(results[-1], net(given, state, x)[0], rtol=0, atol=1e-5)
    shift = np.broadcast_to(bias[:, None, None], results[0].shape)
    np.testing.assert_allclose(results[1] - results[0], shift, rtol=1e-5)


class DoubledWhenAlone(DilatedFCN):
    """Looks at the number of images in Python, where no graph can follow."""

    def __call__(self, params, state, x, *, train=False, rng=None):
        y, state = super().__call__(params, state, x, train=train, rng=rng)
        return (2 * y if len(x) == 1 else y), state


@pytest.mark.parametrize("runtime", [True, False], ids=["onnxruntime", "reference evaluator"])
def test_a_graph_that_computes_another_thing_is_not_written(runtime, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    if runtime:
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for std in (None, 0.05, 0.02):  # small weights make small outputs, which are to be right as well
        net = DoubledWhenAlone(maps=2, dilations=(1,), weight_std=std)
        params, state = net.init(np.random.default_rng(0))
        with pytest.raises(ValueError, match="another result than the network on images of 1 x 40 x 72"):
            to_onnx(net, params, state, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("norm", EVERY_NORM)
def test_onnxs_own_evaluator_stands_in_for_the_runtime(norm, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    asked = []

    class Watched(ReferenceEvaluator):
        def run(self, names, feed):
            asked.append(feed["image"].shape)
            return super().run(names, feed)

    net = EVERY_NORM[norm]
    params, state = trained(net)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnxruntime", None)
        without.setattr("onnx.reference.ReferenceEvaluator", Watched)
        to_onnx(net, params, state, tmp_path / "without.onnx")
    sizes = [(2, 20, 24), (1, 40, 72), (3, 30, 12), (4, 80, 120), (5, 21, 27)]  # one graph for all
    assert asked == [(n, 1, h, w) for n, h, w in sizes]
    x = np.random.default_rng(1).random((2, 1, 9, 11), np.float32)
    (output,) = ReferenceEvaluator(onnx.load(tmp_path / "without.onnx")).run(["output"], {"image": x})
    np.testing.assert_allclose(output, net(params, state, x)[0], rtol=0, atol=1e-5)
    pytest.importorskip("onnxruntime")
    to_onnx(net, params, state, tmp_path / "with.onnx")
    assert (tmp_path / "with.onnx").read_bytes() == (tmp_path / "without.onnx").read_bytes()
    assert len(asked) == 5
