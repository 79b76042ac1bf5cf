"""The same networks written in PyTorch, where it is installed: equal outputs and equal gradients."""

import numpy as np
import pytest
from autograd import make_vjp

from tinyseg.networks import lungnet, modified, original

torch = pytest.importorskip("torch")
F = torch.nn.functional


def in_pytorch(net, params, state, x, train):
    """`net` without dropout, from PyTorch's own ops."""

    def norm(name, x):
        gamma, beta = params[f"{name}.gamma"], params[f"{name}.beta"]
        if net.norm == "instance":
            return F.instance_norm(x, weight=gamma, bias=beta, eps=net.eps)
        mean, variance = state[f"{name}.mean"], state[f"{name}.variance"]
        return F.batch_norm(x, mean.clone(), variance.clone(), gamma, beta, train, eps=net.eps)

    def conv(name, x, dilation=1):
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        return F.conv2d(x, weight, bias, dilation=dilation, padding=dilation * (weight.shape[2] // 2))

    def block(name, x, dilation=1):
        y = conv(f"{name}.conv", x, dilation)
        y = y + norm(f"{name}.norm", y)
        return F.relu(x + y if net.residual and x.shape[1] in (1, y.shape[1]) else y)

    x = x + norm("input.norm", x)
    features = [x]
    for i, dilation in enumerate(net.dilations, 1):
        x = block(f"block{i}", x, dilation)
        features.append(x)
    x = torch.cat(features, dim=1)
    for i in range(1, len(net.widths) + 1):
        x = block(f"head{i}", x)
    return conv("output", x)


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
    theirs = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    expected = in_pytorch(net, theirs, {k: torch.tensor(v) for k, v in state.items()}, torch.tensor(x), train)

    vjp, y = make_vjp(lambda params: net(params, state, x, train=train)[0])(params)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-8, atol=1e-9)

    cotangent = rng.normal(size=y.shape)
    expected.backward(torch.tensor(cotangent))
    for name, gradient in vjp(cotangent).items():
        np.testing.assert_allclose(gradient, theirs[name].grad.numpy(), rtol=1e-7, atol=1e-7, err_msg=name)
