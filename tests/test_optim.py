"""Optimisers against the formulas written out, and against PyTorch where it is installed."""

import math
from functools import partial

import numpy as np
import pytest

from tinyseg.optim import Adam, Clipped, Freezing, GradientDescent, constant, cosine, linear_end
from tinyseg.parameters import flatten

CURVATURE = np.array([1.0, 10.0, 0.1])


def run(optimizer, rate, steps, dtype=np.float64):
    x = np.array([1.0, -2.0, 3.0], dtype)
    memory = optimizer.init(x)
    for step in range(steps):
        x, memory = optimizer.step(x, (CURVATURE * x).astype(dtype), memory, rate(step, steps))
    return x


def test_gradient_descent_on_a_bowl():
    np.testing.assert_allclose(
        run(GradientDescent(), constant(0.05), 7), [1, -2, 3] * (1 - 0.05 * CURVATURE) ** 7
    )


def test_adam_written_out():
    m, v, x = np.zeros(3), np.zeros(3), np.array([1.0, -2.0, 3.0])
    for t in range(1, 21):
        g = CURVATURE * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - 0.01 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (
            np.sqrt(v) + 1e-8 * math.sqrt(1 - 0.999**t)
        )
    np.testing.assert_allclose(run(Adam(), constant(0.01), 20), x, rtol=1e-10)


def test_adams_first_step_is_the_rate_whatever_the_scale():
    for scale in (1e-3, 1.0, 1e6):
        x, _ = Adam().step(np.zeros(2), np.array([scale, -scale]), Adam().init(np.zeros(2)), 0.1)
        np.testing.assert_allclose(x, [-0.1, 0.1], rtol=1e-4)


@pytest.mark.parametrize(
    "optimizer",
    [Adam(), Adam(weight_decay=0.1), GradientDescent(momentum=0.9), Clipped(Adam(), 0.5)],
    ids=lambda o: type(o).__name__,
)
def test_dtype_and_purity(optimizer):
    for rate in (0.01, np.float64(0.01)):
        assert run(optimizer, constant(rate), 3, np.float32).dtype == np.float32
    _, memory = optimizer.step(
        np.ones(2, "f"), np.ones(2, "f"), optimizer.init(np.ones(2, "f")), np.float64(1)
    )
    kept = memory if isinstance(memory, tuple) else (memory,)
    assert all(a.dtype == np.float32 for a in kept if isinstance(a, np.ndarray))
    x, g = np.ones(2), np.ones(2)
    memory = optimizer.init(x)
    first, _ = optimizer.step(x, g, memory, 0.1)
    again, _ = optimizer.step(x, g, memory, 0.1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(x, 1)


def test_schedules():
    assert [constant(0.3)(s, 9) for s in (0, 5)] == [0.3, 0.3]
    tail = [linear_end(0.4)(s, 100) for s in (0, 79, 80, 90, 100, 101)]
    np.testing.assert_allclose(tail, [0.4, 0.4, 0.4, 0.2, 0, 0], atol=1e-15)
    falling = partial(cosine(0.4), steps=100)
    np.testing.assert_allclose([falling(s) for s in (0, 50, 100, 200)], [0.4, 0.2, 0, 0], atol=1e-15)
    assert all(falling(s) > falling(s + 1) for s in range(100))


PEERS = {
    "adam": (Adam(), lambda optim, x: optim.Adam([x], lr=0.02)),
    "decoupled decay": (Adam(weight_decay=0.3), lambda optim, x: optim.AdamW([x], lr=0.02, weight_decay=0.3)),
    "momentum": (GradientDescent(momentum=0.9), lambda optim, x: optim.SGD([x], lr=0.02, momentum=0.9)),
}


@pytest.mark.parametrize("name", PEERS)
def test_against_pytorch(name):
    torch = pytest.importorskip("torch")
    ours, theirs = PEERS[name]
    x = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    optimizer = theirs(torch.optim, x)
    for _ in range(15):
        optimizer.zero_grad()
        (0.5 * torch.tensor(CURVATURE) * x**2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(run(ours, constant(0.02), 15), x.detach().numpy(), rtol=1e-9)


def test_momentum_written_out():
    x, v = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    for _ in range(7):
        v = 0.9 * v + CURVATURE * x
        x = x - 0.03 * v
    np.testing.assert_allclose(run(GradientDescent(momentum=0.9), constant(0.03), 7), x, rtol=1e-12)


def test_weight_decay_shrinks_what_has_no_gradient():
    """Decoupled: by rate * decay in each step, whatever the gradients were."""
    adam, x = Adam(weight_decay=0.5), np.array([2.0])
    after, _ = adam.step(x, np.zeros(1), adam.init(x), 0.1)
    np.testing.assert_allclose(after, 2 * (1 - 0.1 * 0.5))


def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one():
    clipped, x = Clipped(GradientDescent(), 2.0), np.zeros(2)
    long, _ = clipped.step(x, np.array([30.0, 40.0]), clipped.init(x), 1.0)
    np.testing.assert_allclose(long, [-1.2, -1.6])
    short, _ = clipped.step(x, np.array([0.3, 0.4]), clipped.init(x), 1.0)
    np.testing.assert_allclose(short, [-0.3, -0.4])
    still, _ = clipped.step(x, np.zeros(2), clipped.init(x), 1.0)
    np.testing.assert_array_equal(still, 0)


def test_frozen_parameters_stay_and_the_others_go_on():
    params = {"block1.weight": np.ones((2, 2)), "head1.bias": np.ones(3), "block2.bias": np.ones(1)}
    optimizer = Freezing.of(Adam(weight_decay=0.1), params, "block*")
    assert optimizer == Freezing(Adam(weight_decay=0.1), ((0, 4), (7, 8)))
    x = flatten(params)
    after, _ = optimizer.step(x, np.ones(8), optimizer.init(x), 0.1)
    np.testing.assert_array_equal(after[[0, 1, 2, 3, 7]], 1)
    assert (after[4:7] < 1).all() and (x == 1).all()
    with pytest.raises(ValueError, match="'blok.', which fits none"):
        Freezing.of(Adam(), params, "blok*")


@pytest.mark.parametrize("optimizer", [Adam(), GradientDescent(momentum=0.9), Clipped(Adam(), 0.5)],
                         ids=lambda o: type(o).__name__)  # fmt: skip
def test_a_float64_gradient_leaves_float32_as_it_is(optimizer):
    x = np.ones(2, "f")
    x, memory = optimizer.step(x, np.ones(2), optimizer.init(x), 0.1)
    kept = memory[:2] if isinstance(memory, tuple) else (memory,)
    assert {array.dtype for array in (x, *kept)} == {np.dtype(np.float32)}


class Echo:
    """An optimiser whose step shows the gradient that it was given."""

    def step(self, x, gradient, memory, rate):
        return gradient, memory


def test_clipping_of_a_gradient_whose_square_is_too_large_for_float32():
    g, _ = Clipped(Echo(), 5.0).step(np.ones(2, "f"), np.array([3e30, 4e30], "f"), None, 0.1)
    np.testing.assert_allclose(g, [3, 4], rtol=1e-6)
    g, _ = Clipped(Echo()).step(np.ones(2, "f"), np.array([30.0, 40.0]), None, 0.1)
    np.testing.assert_allclose(g, [0.6, 0.8], rtol=1e-6)  # to length 1, unless told otherwise
    assert g.dtype == np.float32
