"""PyTorch, where it is installed, as an oracle: every op, whole networks, and twenty steps of Adam."""

import numpy as np
import pytest
from autograd import make_vjp
from engines import PyTorch, Work

from tinyseg import fast, ops
from tinyseg.networks import lungnet, modified, original
from tinyseg.ops.norm import BATCH, INSTANCE
from tinyseg.optim import Adam
from tinyseg.parameters import flatten, unflatten
from tinyseg.training import loss_and_gradient

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # for arrays as small as these, more only wait for each other
F = torch.nn.functional

X, C = (2, 3, 7, 9), (3,)
RNG = np.random.default_rng(0)
LABELS, MEAN, VARIANCE, WEIGHTS = RNG.integers(0, 3, (2, 7, 9)), *RNG.random((3, 3))
SPARSE = np.where(RNG.random(LABELS.shape) < 0.7, ops.UNLABELLED, LABELS)


def like(array, x):
    return torch.tensor(array, dtype=x.dtype)


def conv(dilation):
    return lambda *args: F.conv2d(*args, dilation=dilation, padding="same")


def norm_add_relu(norm):
    return lambda y, gamma, beta, x: F.relu(x + y + norm(y, gamma, beta))


def batch_norm(x, gamma, beta):
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)


def instance_norm(x, gamma, beta):
    return F.instance_norm(x, weight=gamma, bias=beta, eps=1e-3)


def semi_supervised(x):
    blank = torch.tensor(SPARSE == ops.UNLABELLED)
    entropy = torch.special.entr(torch.softmax(x, 1)).sum(1)[blank].mean()
    return F.cross_entropy(x, torch.tensor(SPARSE), like(WEIGHTS, x), ignore_index=255) + 0.1 * entropy


def dropout(x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return F.dropout(x, 0.3)


class Kept:
    """Random numbers by which our dropout keeps what PyTorch's has kept."""

    def random(self, shape):
        return (dropout(torch.ones(shape)) > 0).numpy().astype(float)


# Each op with some settings: ours, theirs, and the shapes of the arrays by which both are differentiated.
OPS = {
    "relu": (ops.relu, F.relu, [X]),
    "softmax": (ops.softmax, lambda x: F.softmax(x, 1), [X]),
    "softmax, last axis": (lambda x: ops.softmax(x, -1), lambda x: F.softmax(x, -1), [X]),
    "log_softmax": (ops.log_softmax, lambda x: F.log_softmax(x, 1), [X]),
    "dropout": (lambda x: ops.dropout(x, 0.3, Kept()), dropout, [X]),
    "add": (ops.add, torch.add, [X, X]),
    "add, one channel": (ops.add, torch.add, [(2, 1, 7, 9), X]),
    "concatenate": (lambda *a: ops.concatenate(a), lambda *a: torch.cat(a, 1), [X, (2, 1, 7, 9), X]),
    "mean_squared_error": (ops.mean_squared_error, F.mse_loss, [X, X]),
    "cross_entropy": (
        lambda x: ops.cross_entropy(x, LABELS),
        lambda x: F.cross_entropy(x, torch.tensor(LABELS)),
        [X],
    ),
    "cross_entropy, weights": (
        lambda x: ops.cross_entropy(x, LABELS, class_weights=WEIGHTS),
        lambda x: F.cross_entropy(x, torch.tensor(LABELS), like(WEIGHTS, x)),
        [X],
    ),
    "entropy": (ops.entropy, lambda x: torch.special.entr(torch.softmax(x, 1)).sum(1).mean(), [X]),
    "semi_supervised": (
        lambda x: ops.semi_supervised(x, SPARSE, class_weights=WEIGHTS),
        semi_supervised,
        [X],
    ),
    "fixed_norm": (
        lambda x, *a: ops.fixed_norm(x, *a, MEAN.astype(x.dtype), VARIANCE.astype(x.dtype), eps=1e-3),
        lambda x, *a: F.batch_norm(x, like(MEAN, x), like(VARIANCE, x), *a, eps=1e-3),
        [X, C, C],
    ),
}
WAYS = {"ops.conv2d": ops.conv2d, "ops.conv2d_scipy": ops.conv2d_scipy, "fast.conv2d": fast.conv2d}
for kernel, dilation in [((1, 1), 1), ((3, 3), 1), ((3, 3), 2), ((3, 3), 5), ((3, 3), 12), ((5, 3), 2)]:
    for name, way in WAYS.items():
        OPS[f"{name}, {kernel} at {dilation}"] = (
            lambda *a, way=way, dilation=dilation: way(*a, dilation=dilation),
            conv(dilation),
            [X, (4, 3, *kernel), (4,)],
        )
for axes, theirs in {BATCH: batch_norm, INSTANCE: instance_norm}.items():
    for name, shelf in {"ops": ops, "fast": fast}.items():
        OPS[f"{name}.normalize, {theirs.__name__}"] = (
            lambda *a, shelf=shelf, axes=axes: shelf.normalize(*a, axes=axes, eps=1e-3)[0],
            theirs,
            [X, C, C],
        )
    OPS[f"norm_add_relu, {theirs.__name__}"] = (
        lambda *a, axes=axes: fast.norm_add_relu(*a, axes=axes, eps=1e-3)[0],
        norm_add_relu(theirs),
        [X, C, C, X],
    )

TOLERANCE = {"float64": 1e-13, "float32": 1e-5}  # of a result's largest number


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("op", OPS)
def test_values_and_gradients_of_an_op(op, dtype):
    ours, theirs, shapes = OPS[op]
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    vjp, y = make_vjp(lambda args: ours(*args))(tuple(arrays))
    expected = theirs(*tensors)
    cotangent = rng.normal(size=np.shape(y)).astype(dtype)
    expected.backward(torch.tensor(cotangent))
    for got, want in zip((y, *vjp(cotangent)), (expected.detach(), *(t.grad for t in tensors)), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * float(want.abs().max()))


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
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-10, atol=1e-10)

    cotangent = rng.normal(size=y.shape)
    expected.backward(torch.tensor(cotangent))
    for name, gradient in vjp(cotangent).items():
        np.testing.assert_allclose(
            gradient, theirs.params[name].grad.numpy(), rtol=1e-9, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(
    "net",
    [original(dilations=(1, 2, 5), dropout=0.0), modified(dilations=(1, 2, 5)), lungnet(maps=4, dropout=0.0)],
    ids=["original", "modified", "lungnet"],
)
def test_twenty_steps_of_adam(net, decay):
    rng, steps, rate = np.random.default_rng(0), 20, 0.01
    params, state = net.init(rng)
    params = {name: array + 0.1 * rng.normal(size=array.shape) for name, array in params.items()}
    first_state = {name: array.astype(float) for name, array in state.items()}
    x = rng.normal(size=(2, 1, 12, 13))
    labels = (x[:, 0] > 0.5).astype(np.uint8)

    theirs = PyTorch(Work(net, params, first_state, x, labels))
    settings = {"betas": (0.8, 0.95), "eps": 1e-6}
    adam = torch.optim.AdamW(theirs.params.values(), rate, **settings, weight_decay=decay)
    if not decay:  # both are ours
        adam = torch.optim.Adam(theirs.params.values(), rate, **settings)
    losses = []
    for _ in range(steps):
        y = theirs.output()
        loss = (
            F.mse_loss(y, theirs.masks)
            if net.head == "linear"
            else F.cross_entropy(y, torch.tensor(labels).long())
        )
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.step()

    adam, vector, state = Adam(0.8, 0.95, 1e-6, decay), flatten(params), first_state
    memory = adam.init(vector)
    for step in range(steps):
        loss, gradient, state = loss_and_gradient(net, vector, params, state, x, labels, rng=None)
        np.testing.assert_allclose(loss, losses[step], rtol=1e-11)
        vector, memory = adam.step(vector, gradient, memory, rate)
    assert losses[-1] < 0.9 * losses[0]

    for name, array in unflatten(vector, params).items():
        np.testing.assert_allclose(
            array, theirs.params[name].detach().numpy(), rtol=0, atol=1e-11, err_msg=name
        )
    # Theirs runs after the unbiased variance, n / (n - 1) times ours, and by one momentum for all steps: what
    # the steps have added to 0.9^steps of the first variance is larger by that.
    n, left = x[:, 0].size, 0.9**steps
    for name, array in state.items():
        first, expected = left * first_state[name], theirs.state[name].numpy()
        share = (n - 1) / n if name.endswith("variance") else 1
        np.testing.assert_allclose(array, first + share * (expected - first), rtol=0, atol=1e-11)
