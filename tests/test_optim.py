"""Optimisers against the formulas written out, and against PyTorch where it is installed."""

import math

import numpy as np
import pytest

from tinyseg.optim import Adam, GradientDescent, constant, cosine, settling

CURVATURE = np.array([1.0, 10.0, 0.1])


def run(optimizer, rate, steps, dtype=np.float64):
    x = np.array([1.0, -2.0, 3.0], dtype)
    memory = optimizer.init(x)
    for step in range(steps):
        x, memory = optimizer.step(x, (CURVATURE * x).astype(dtype), memory, rate(step))
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


@pytest.mark.parametrize("optimizer", [Adam(), GradientDescent()], ids=lambda o: type(o).__name__)
def test_dtype_and_purity(optimizer):
    for rate in (0.01, np.float64(0.01)):
        assert run(optimizer, constant(rate), 3, np.float32).dtype == np.float32
    _, memory = optimizer.step(
        np.ones(2, "f"), np.ones(2, "f"), optimizer.init(np.ones(2, "f")), np.float64(1)
    )
    assert all(a.dtype == np.float32 for a in memory if isinstance(a, np.ndarray))
    x, g = np.ones(2), np.ones(2)
    memory = optimizer.init(x)
    first, _ = optimizer.step(x, g, memory, 0.1)
    again, _ = optimizer.step(x, g, memory, 0.1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(x, 1)


def test_schedules():
    assert [constant(0.3)(s) for s in (0, 5)] == [0.3, 0.3]
    tail = [settling(0.4, 100)(s) for s in (0, 79, 80, 90, 100, 101)]
    np.testing.assert_allclose(tail, [0.4, 0.4, 0.4, 0.2, 0, 0], atol=1e-15)
    falling = cosine(0.4, 100)
    np.testing.assert_allclose([falling(s) for s in (0, 50, 100, 200)], [0.4, 0.2, 0, 0], atol=1e-15)
    assert all(falling(s) > falling(s + 1) for s in range(100))


def test_against_pytorch():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.02)
    for _ in range(15):
        adam.zero_grad()
        (0.5 * torch.tensor(CURVATURE) * x**2).sum().backward()
        adam.step()
    np.testing.assert_allclose(run(Adam(), constant(0.02), 15), x.detach().numpy(), rtol=1e-9)
