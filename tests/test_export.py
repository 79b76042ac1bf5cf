"""The exported graph against tinyseg itself: ONNX Runtime computes what the network does."""

import json
import sys

import numpy as np
import pytest

from tinyseg.errors import InputError
from tinyseg.export import to_onnx
from tinyseg.networks import lungnet, modified, original
from tinyseg.preprocessing import Preprocessing

NETS = {
    "original": original(),
    "modified": modified(),
    "lungnet": lungnet(classes=6),
    "lungnet, colour": lungnet(maps=4, channels=3, classes=11),
    "batch at hand": lungnet(maps=4, norm="batch", running=False),
    "slow": modified(maps=1, dilations=(1, 2), conv="scipy"),
}


def trained(net, seed=0):
    """Parameters and statistics as a training leaves them: none at its initial value."""
    rng = np.random.default_rng(seed)
    params, state = net.init(rng)
    params = {k: (a + 0.01 * rng.normal(size=a.shape)).astype(np.float32) for k, a in params.items()}
    state = {k: (a + rng.random(a.shape)).astype(np.float32) for k, a in state.items()}
    return params, state


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
    for value, channels in ((model.graph.input[0], net.channels), (model.graph.output[0], None)):
        dims = value.type.tensor_type.shape.dim
        assert [dims[i].dim_param for i in (0, 2, 3)] == ["N", "H", "W"]
        assert channels in (None, dims[1].dim_value)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "output"]
    assert {"input", "block1", "head1", "output"} <= {
        name for node in model.graph.node for name in node.output
    }


def test_who_has_the_file_knows_what_images_it_wants(tmp_path):
    onnx = pytest.importorskip("onnx")
    net, how = modified(maps=1), Preprocessing(96, bits=12, names=("nothing", "nerve"))
    to_onnx(net, *net.init(np.random.default_rng(0)), tmp_path / "net.onnx", preprocessing=how)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert Preprocessing(**json.loads(metadata["preprocessing"])) == how


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
