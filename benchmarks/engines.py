"""One network, the same weights and images, in each engine: forward, gradient, and a whole step with Adam.

An engine has `forward()`, which returns the output, `gradient()`, which returns the gradients by name, and
`step()`; `numpy(array)` makes what they return comparable. What a peer does not take from its own library,
the order of the layers, is written once, in `network`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest import mock

import numpy as np

from tinyseg.fast import conv
from tinyseg.networks import DilatedFCN, modified
from tinyseg.ops import DEFINITIONS, SCIPY
from tinyseg.optim import Adam
from tinyseg.parameters import flatten, unflatten
from tinyseg.training import loss_and_gradient

RATE = 1e-3


@dataclass(frozen=True)
class Work:
    """What every engine is given: a network, its float32 parameters and state, images and labels."""

    net: DilatedFCN
    params: dict
    state: dict
    images: np.ndarray  # (N, C, H, W)
    labels: np.ndarray  # (N, H, W) uint8

    @property
    def masks(self):
        """The labels as a peer's squared error wants them, (N, 1, H, W) of the images' dtype."""
        return self.labels[:, None].astype(self.images.dtype)

    def by(self, engine):
        """The same work for a network that calls another engine of tinyseg's own."""
        return replace(self, net=replace(self.net, engine=engine))


def work(maps: int, batch: int, size: int, norm: str) -> Work:
    """The article's modified network with this many maps, random weights, images and labels."""
    rng = np.random.default_rng(0)
    net = modified(maps=maps, norm=norm, widths=(4 * maps, maps))
    params, state = net.init(rng)
    params = {k: v + 0.1 * rng.normal(size=v.shape).astype(v.dtype) for k, v in params.items()}
    images = rng.random((batch, 1, size, size), np.float32)
    return Work(net, params, state, images, (images[:, 0] > 0.9).astype(np.uint8))


class Tinyseg:
    """With the fast twins, as the library comes."""

    name = "tinyseg"

    def __init__(self, work: Work):
        self.work, self.state, self.adam = work, work.state, Adam()
        self.vector = flatten(work.params)
        self.memory = self.adam.init(self.vector)

    def forward(self):
        return self.work.net(self.work.params, self.work.state, self.work.images, train=True)[0]

    def _gradient(self):
        w = self.work
        return loss_and_gradient(w.net, self.vector, w.params, self.state, w.images, w.labels, rng=None)

    def gradient(self):
        return unflatten(self._gradient()[1], self.work.params)

    def step(self):
        _, gradient, self.state = self._gradient()
        self.vector, self.memory = self.adam.step(self.vector, gradient, self.memory, RATE)

    def to_float64(self):
        """Everything in double precision from here on."""
        w, double = self.work, np.float64
        params = {k: v.astype(double) for k, v in w.params.items()}
        self.state = {k: v.astype(double) for k, v in w.state.items()}
        self.work = Work(w.net, params, self.state, w.images.astype(double), w.labels)
        self.vector = self.vector.astype(double)
        self.memory = self.adam.init(self.vector)

    def numpy(self, array):
        return array


class Definitions(Tinyseg):
    """With the ops as they are written to be read: one matrix product for each tap of a convolution."""

    name = "tinyseg, definitions"

    def __init__(self, work: Work):
        super().__init__(work.by(DEFINITIONS))


class Scipy(Tinyseg):
    """With the definition of a convolution, through sub-images; autograd finds its gradients."""

    name = "tinyseg, scipy"

    def __init__(self, work: Work):
        super().__init__(work.by(SCIPY))


def network(net, params, x, conv, norm, relu, concatenate):
    """`net` without dropout, from anybody's ops: conv(x, weight, bias, dilation) and norm(name, x)."""

    def convolved(name, x, dilation=1):
        return conv(x, params[f"{name}.weight"], params[f"{name}.bias"], dilation)

    def block(name, x, dilation=1):
        y = convolved(f"{name}.conv", x, dilation)
        y = y + norm(f"{name}.norm", y)
        return relu(x + y if net.residual and x.shape[1] in (1, y.shape[1]) else y)

    x = x + norm("input", x)
    features = [x]
    for i, dilation in enumerate(net.dilations, 1):
        x = block(f"block{i}", x, dilation)
        features.append(x)
    x = concatenate(features, 1)
    for i in range(1, len(net.widths) + 1):
        x = block(f"head{i}", x)
    return convolved("output", x)


class PyTorch:
    """Eager, as one would write it, with Adam in one call for all parameters."""

    name = "pytorch"

    def __init__(self, work: Work):
        import torch

        self.torch, self.work = torch, work
        channels_last = (
            torch.channels_last if self.name.endswith("channels-last") else torch.contiguous_format
        )

        def tensor(array):
            array = torch.tensor(array)
            return array.contiguous(memory_format=channels_last) if array.ndim == 4 else array

        self.params = {name: tensor(array).requires_grad_() for name, array in work.params.items()}
        self.state = {name: tensor(array) for name, array in work.state.items()}
        self.images, self.masks = tensor(work.images), tensor(work.masks)
        self.adam = torch.optim.Adam(self.params.values(), lr=RATE, fused=True)

    def output(self, train=True):
        F, net, params, state = self.torch.nn.functional, self.work.net, self.params, self.state

        def conv(x, weight, bias, dilation):
            return F.conv2d(x, weight, bias, dilation=dilation, padding=dilation * (weight.shape[2] // 2))

        def norm(name, x):
            gamma, beta = params[f"{name}.gamma"], params[f"{name}.beta"]
            if net.norm == "instance":
                return F.instance_norm(x, weight=gamma, bias=beta, eps=net.eps)
            moments = state[f"{name}.mean"], state[f"{name}.variance"]
            return F.batch_norm(x, *moments, gamma, beta, train, eps=net.eps)

        return network(net, params, self.images, conv, norm, F.relu, self.torch.cat)

    def forward(self, train=True):
        with self.torch.no_grad():
            return self.output(train)

    def gradient(self):
        self.adam.zero_grad()
        self.torch.nn.functional.mse_loss(self.output(), self.masks).backward()
        return {name: param.grad for name, param in self.params.items()}

    def step(self):
        self.gradient()
        self.adam.step()

    def numpy(self, array):
        return array.numpy()


class PyTorchChannelsLast(PyTorch):
    name = "pytorch-channels-last"


class JAX:
    """Compiled: one function for each part."""

    name = "jax"

    def __init__(self, work: Work):
        import jax
        import jax.numpy as jnp

        self.jax, net = jax, work.net
        to_jax = lambda arrays: {name: jnp.array(array) for name, array in arrays.items()}  # noqa: E731
        self.params, self.state = to_jax(work.params), to_jax(work.state)
        self.images, self.masks = jnp.array(work.images), jnp.array(work.masks)
        zeros = {name: jnp.zeros_like(array) for name, array in self.params.items()}
        self.memory = zeros, to_jax(zeros), jnp.zeros(())

        def output(params, state, images):
            new_state = dict(state)

            def conv(x, weight, bias, dilation):
                y = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", rhs_dilation=(dilation,) * 2)
                return y + bias[:, None, None]

            def norm(name, x):
                axes = (0, 2, 3) if net.norm == "batch" else (2, 3)
                moments = {
                    "mean": jnp.mean(x, axes, keepdims=True),
                    "variance": jnp.var(x, axes, keepdims=True),
                }
                for key, value in moments.items() if net.norm == "batch" else ():
                    new_state[f"{name}.{key}"] = 0.9 * state[f"{name}.{key}"] + 0.1 * value.ravel()
                xhat = (x - moments["mean"]) * jax.lax.rsqrt(moments["variance"] + net.eps)
                return params[f"{name}.gamma"][:, None, None] * xhat + params[f"{name}.beta"][:, None, None]

            return network(net, params, images, conv, norm, jax.nn.relu, jnp.concatenate), new_state

        def loss(params, state, images, masks):
            y, new_state = output(params, state, images)
            return jnp.mean((y - masks) ** 2), new_state

        def step(params, state, memory, images, masks):
            gradient, state = jax.grad(loss, has_aux=True)(params, state, images, masks)
            m, v, t = memory
            m = {k: 0.9 * m[k] + 0.1 * g for k, g in gradient.items()}
            v = {k: 0.999 * v[k] + 0.001 * g * g for k, g in gradient.items()}
            t = t + 1
            m_hat = {k: m[k] / (1 - 0.9**t) for k in m}
            change = {k: RATE * m_hat[k] / (jnp.sqrt(v[k] / (1 - 0.999**t)) + 1e-8) for k in m}
            return {k: params[k] - change[k] for k in params}, state, (m, v, t)

        self._output, self._gradient = jax.jit(output), jax.jit(jax.grad(loss, has_aux=True))
        self._step = jax.jit(step, donate_argnums=(0, 1, 2))  # the new ones may take the old ones' memory

    def forward(self):
        return self.jax.block_until_ready(self._output(self.params, self.state, self.images))[0]

    def gradient(self):
        return self.jax.block_until_ready(self._gradient(self.params, self.state, self.images, self.masks))[0]

    def step(self):
        self.params, self.state, self.memory = self.jax.block_until_ready(
            self._step(self.params, self.state, self.memory, self.images, self.masks)
        )

    def numpy(self, array):
        return np.asarray(array)


class Gemms:
    """A floor: the matrix products that tinyseg makes, each in its shape, into memory that is there."""

    name = "gemms"

    def __init__(self, work: Work):
        self.buffers, engine = {}, Tinyseg(work)
        self.products = {part: self.recorded(getattr(engine, part)) for part in ("forward", "gradient")}
        self.products["step"] = self.products["gradient"]

    def recorded(self, function):
        """What a run of the function multiplies: (a, b, out), or (a, b) for a new array."""
        products, multiply, add_products = [], conv._multiply, conv._add_products

        def first(matrix, columns, out):
            products.append((self.like(matrix), self.like(columns), self.like(out, "out")))
            multiply(matrix, columns, out)

        def second(gradient, x_shifted, g_shifted):
            products.append((self.like(x_shifted), self.like(g_shifted, "other").swapaxes(1, 2)))
            add_products(gradient, x_shifted, g_shifted)

        with mock.patch.multiple(conv, _multiply=first, _add_products=second):
            function()
        return products

    def like(self, array, role="factor"):
        """A buffer of this array's shape, and with its rows as far apart."""
        *rest, columns = array.shape
        apart = array.strides[-2] // array.itemsize
        if (role, array.shape, apart) not in self.buffers:
            buffer = np.random.default_rng(0).random((*rest, max(apart, columns)), array.dtype)
            self.buffers[role, array.shape, apart] = buffer[..., :columns]
        return self.buffers[role, array.shape, apart]

    def run(self, part):
        for a, b, *out in self.products[part]:
            conv._multiply(a, b, *out) if out else a @ b

    def forward(self):
        self.run("forward")

    def gradient(self):
        self.run("gradient")

    step = gradient


class Flops:
    """A floor: the step's multiplications and additions at the speed of a product of large matrices."""

    name = "flops"

    def __init__(self, work: Work):
        n, _, h, w = work.images.shape
        weights = sum(c.out_channels * c.in_channels * c.kernel**2 for c in convolutions(work.net))
        side = 1024
        self.share = 2 * weights * n * h * w / (2 * side**3)
        self.a = self.b = np.random.default_rng(0).random((side, side), np.float32)

    def forward(self):
        """One large product; `scale` says how many of them each part is."""
        self.a @ self.b

    def scale(self, part):
        return self.share * (1 if part == "forward" else 3)  # back: one product by x, one by the weight


def convolutions(net):
    """Every convolution of a network, in order."""
    layers = (getattr(layer, "conv", layer) for layer in net.layers.values())
    return [layer for layer in layers if hasattr(layer, "in_channels")]


PEERS = (Definitions, PyTorch, PyTorchChannelsLast, JAX, Scipy)
