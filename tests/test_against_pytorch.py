"""The same networks in PyTorch, where it is installed: equal outputs and equal gradients."""

import numpy as np
import pytest
from autograd import make_vjp
from engines import PyTorch, Work

from tinyseg.networks import lungnet, modified, original

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("train", [True, False], ids=["train", "evaluate"])
@pytest.mark.parametrize(
    "net",
    [
        original(dropout=0.0),
        modified(),
        lungnet(dropout=0.0),
        lungnet(maps=4, channels=3, classes=5, dropout=0.0),
    ],
    ids=["original", "modified", "lungnet", "lungnet-3-5"],
)
def test_outputs_and_gradients(net, train):
    rng = np.random.default_rng(0)
    params, state = net.init(rng)
    params = {name: array + 0.1 * rng.normal(size=array.shape) for name, array in params.items()}
    state = {name: array + rng.random(array.shape) for name, array in state.items()}
    x = rng.normal(size=(2, net.channels, 20, 23))
    theirs = PyTorch(Work(net, params, state, x, labels=np.zeros((2, 20, 23), np.uint8)))
    expected = theirs.output(train)

    vjp, y = make_vjp(lambda params: net(params, state, x, train=train)[0])(params)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-8, atol=1e-9)

    cotangent = rng.normal(size=y.shape)
    expected.backward(torch.tensor(cotangent))
    for name, gradient in vjp(cotangent).items():
        np.testing.assert_allclose(
            gradient, theirs.params[name].grad.numpy(), rtol=1e-7, atol=1e-7, err_msg=name
        )
