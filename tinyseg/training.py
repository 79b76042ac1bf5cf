"""Training: show the network a few images, ask autograd which way is down, take a step; again.

`fit` is a stream: it yields a snapshot after each epoch, and whoever loops over it decides what to do.

    start = begin(net, seed=0)
    for snapshot in fit(net, train, start, epochs=25):
        print(snapshot.epoch, snapshot.loss)

Early stopping is a `break`. To keep the best is a comparison. To go on later, hand a snapshot to `fit`. For a
progress bar, in a terminal or a notebook, loop over `tqdm(fit(...), total=25)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
from autograd import make_vjp
from autograd.tracer import getval

from tinyseg.data.dataset import of_any_size
from tinyseg.errors import is_whole
from tinyseg.metrics import ConfusionMatrix, confusion_matrix, pooled
from tinyseg.ops.check import check_nchw, floats
from tinyseg.optim import Adam, constant
from tinyseg.parameters import flatten, unflatten

AT_ONCE = 2**17  # pixels in evaluation: eight images of 128 x 128; more of them take memory and save no time
ADVICE = "Try a tenth of that rate, or smaller initial weights."


class Diverged(ArithmeticError):
    """The loss, a parameter or a running statistic became infinite or NaN; the message says what to try."""


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Where a training stands after an epoch: all that it needs to go on."""

    epoch: int  # passes over the training images so far
    step: int  # minibatches so far
    losses: tuple[float, ...]  # of the epoch's minibatches
    params: dict
    state: dict  # running statistics
    memory: Any  # what the optimiser remembers
    rng: Mapping[str, Any]  # where the random generator of order, augmentation and dropout stands

    @property
    def loss(self) -> float:
        """The mean over the epoch's minibatches."""
        return float(np.mean(self.losses)) if self.losses else float("nan")

    def __repr__(self) -> str:
        count = sum(np.size(array) for array in self.params.values())
        return f"Snapshot(epoch {self.epoch}, step {self.step}, loss {self.loss:.4g}, {count:,} parameters)"


def begin(net, seed: int = 0, optimizer=Adam()) -> Snapshot:  # noqa: B008  a frozen value
    """The snapshot before the first step: fresh parameters, and the random numbers that `seed` gives.

    Raises:
        ValueError: it is no network.
    """
    check_network("begin", net)
    rng = np.random.default_rng(seed)
    params, state = net.init(rng)
    return Snapshot(0, 0, (), params, state, optimizer.init(flatten(params)), rng.bit_generator.state)


def fit(
    net,
    data,
    start: Snapshot,
    *,
    epochs: int,
    batch: int = 2,
    optimizer=Adam(),  # noqa: B008  a frozen value
    schedule=constant(1e-3),  # noqa: B008  a pure function
    augment=lambda images, labels, rng: (images, labels),
    loss=None,
) -> Iterator[Snapshot]:
    """Train on minibatches in random order, and yield a `Snapshot` after each epoch.

    Args:
        net: a network: `init(rng)`, `net(params, state, x, train=, rng=)`, `loss(y, labels)`.
        data: a `data.Dataset`, or anything with `images` (N, channels, H, W) and `labels` (N, H, W).
        start: as `begin` makes it, or a snapshot of an earlier training, which goes on from there.
        epochs: passes over the images, those before `start` included.
        batch: images per step; the last of an epoch may be smaller.
        optimizer, schedule: of `optim`; the schedule is a function (step, steps) -> rate of the steps made so
            far and of those that all `epochs` take.
        augment: changes each minibatch's images and labels, such as `data.random_symmetry`; by default not.
        loss: what training lowers, a function of the network's output and labels; by default `net.loss`.

    Raises:
        Diverged: the loss, a parameter or a running statistic became infinite or NaN; no step follows.
        ValueError: there is nothing to train on.
    """
    check_fit(net, data, start, batch, optimizer, schedule)
    like, state, memory, step = start.params, start.state, start.memory, start.step
    vector, rng = flatten(start.params), generator(start.rng)
    steps = epochs * -(-len(data.images) // batch)  # the last batch of an epoch may be smaller
    for epoch in range(start.epoch + 1, epochs + 1):
        losses = []
        for chosen in minibatches(len(data.images), batch, rng):
            images, labels = augment(data.images[chosen], data.labels[chosen], rng)
            rate = schedule(step, steps)
            try:
                value, gradient, state = loss_and_gradient(
                    net, vector, like, state, images, labels, rng, loss
                )
            except OverflowError as error:  # of a norm
                raise Diverged(f"step {step + 1}: {error}; the rate was {rate:g}. {ADVICE}") from None
            with np.errstate(all="ignore"):  # an overflow is reported once, below
                vector, memory = optimizer.step(vector, gradient, memory, rate)
            step += 1
            check_finite(value, vector, like, state, step, rate)
            losses.append(value)
        params = unflatten(vector.copy(), like)  # so that a snapshot is nobody else's
        yield Snapshot(epoch, step, tuple(losses), params, dict(state), memory, rng.bit_generator.state)


def check_fit(net, data, start: Snapshot, batch: int, optimizer, schedule) -> None:
    """One clear error before anything is trained."""
    if not isinstance(start, Snapshot):
        raise ValueError(f"fit: expected a snapshot, got {name_of(start)}; begin(net, seed) makes one")
    check_network("fit", net)
    check_data("fit", data)
    if not len(data.images):
        raise ValueError("fit: expected images to train on, got none")
    if not is_whole(batch):
        raise ValueError(f"fit: expected a whole batch of at least 1 image, got {batch!r}")
    if not callable(schedule):
        raise ValueError(
            "fit: expected a schedule, a function (step, steps) -> rate such as constant(1e-3), "
            f"got {schedule!r}"
        )
    wanted, given = (
        {key: np.shape(array) for key, array in params.items()}
        for params in (net.init(np.random.default_rng(0))[0], start.params)
    )
    if odd := [key for key in wanted | given if wanted.get(key) != given.get(key)]:
        should, came = wanted.get(odd[0], "missing"), given.get(odd[0], "none")
        raise ValueError(f"fit: expected a start of this network, with {odd[0]} {should}, got {came}")
    if not _alike(start.memory, optimizer.init(flatten(start.params))):
        raise ValueError(f"fit: the start was made for another optimiser; begin(net, seed, {optimizer})")


def check_data(op: str, data) -> None:
    """One clear error for images without their labels."""
    if not hasattr(data, "images") or not hasattr(data, "labels"):
        came = name_of(data)
        raise ValueError(f"{op}: expected a Dataset, got {came}; Dataset(images, labels) makes one")


def name_of(thing) -> str:
    """A function's or a class's own name, of another thing that of its class."""
    return getattr(thing, "__name__", type(thing).__name__)


def check_network(op: str, net) -> None:
    """One clear error for what is no network."""
    if not callable(net) or isinstance(net, type | FunctionType):  # such as modified, without its ()
        raise ValueError(f"{op}: expected a network such as modified(), got {name_of(net)}")


def check_arrays(op: str, params, state) -> None:
    """One clear error for what are no dicts of arrays, such as a snapshot in their place."""
    for name, given in (("params", params), ("state", state)):
        if not isinstance(given, Mapping):
            what = f"{name}, a dict of arrays, got {name_of(given)}"
            raise ValueError(f"{op}: expected {what}; snapshot.{name} is one")


def _alike(one, other) -> bool:
    """Whether two optimisers' memories have the same form."""
    if isinstance(one, tuple) != isinstance(other, tuple):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return np.shape(one) == np.shape(other)


def minibatches(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The indices 0 to count - 1 in random order, `batch` at a time; the last may be fewer."""
    order = rng.permutation(count)
    for i in range(0, count, batch):
        yield order[i : i + batch]


def loss_and_gradient(net, vector, like: dict, state: dict, images, labels, rng, loss=None):
    """(loss, gradient, state) of one minibatch: the gradient by all parameters as one vector, of its dtype.

    Args:
        net, state: the network and its running statistics, which stay as they are.
        vector, like: the parameters as `parameters.flatten` gives them, and the dict that they are from.
        images, labels: (N, channels, H, W) and (N, H, W).
        rng: `numpy.random.Generator` of dropout; a network without takes None.
        loss: a function of the network's output and the labels; by default `net.loss`.

    Raises:
        OverflowError: a norm's numbers became too large.
        ValueError: the loss is not one number.
    """
    new_state, loss = {}, loss or net.loss

    def loss_at(vector):
        nonlocal new_state  # make_vjp wants a function with one result, the loss; the state leaves this way
        y, new_state = net(unflatten(vector, like), dict(state), images, train=True, rng=rng)
        new_state = {
            key: getval(array) for key, array in new_state.items()
        }  # a box holds the whole tape alive
        return loss(y, labels)

    with np.errstate(all="ignore"):  # an overflow is reported once, by the caller
        vjp, value = make_vjp(loss_at)(vector)
        if np.shape(value) != ():
            raise ValueError(
                f"expected the loss as one number, got an array of shape {np.shape(value)}; take its mean"
            )
        return float(value), vjp(np.ones_like(value)), new_state


def check_finite(value: float, vector: np.ndarray, like: dict, state: dict, step: int, rate: float) -> None:
    """Stop a training that has lost its numbers, and say which ones and what to try."""
    if np.isfinite(value) and np.isfinite(vector).all() and all(map(_finite, state.values())):
        return
    watched = {"the loss": value} | {f"parameter {k}": array for k, array in unflatten(vector, like).items()}
    watched |= {f"running statistic {key}": array for key, array in state.items()}
    name, lost = next((name, array) for name, array in watched.items() if not _finite(array))
    what = "NaN" if np.isnan(lost).any() else "infinite"
    raise Diverged(f"step {step}: {name} became {what}; the rate was {rate:g}. {ADVICE}")


def _finite(array) -> bool:
    return np.asarray(array).dtype.kind != "f" or bool(np.isfinite(array).all())


def generator(state: Mapping[str, Any]) -> np.random.Generator:
    """A random generator that goes on where another one stood, by its `bit_generator.state`."""
    rng = np.random.default_rng(0)
    rng.bit_generator.state = state
    return rng


def predict(net, params: dict, state: dict, images: np.ndarray, *, batch: int = 8) -> np.ndarray:
    """Each pixel's probabilities in evaluation: (N, channels, H, W) to (N, classes, H, W), float32.

    Of two classes only the second one's, the one that is sought: (N, 1, H, W). Images of different sizes, a
    list or as `Dataset` has them, go through one by one, and so do their probabilities come back.

    Raises:
        ValueError: the images are no arrays (N, channels, H, W) of floats, or do not fit the network.
    """
    if of_different_sizes(images):
        return of_any_size([predict(net, params, state, image[None])[0] for image in images])
    y = outputs("predict", net, params, state, images, batch)
    return sought(net.probabilities(y))


def evaluate(
    net, params: dict, state: dict, data, *, loss=None, batch: int = 8
) -> tuple[float, ConfusionMatrix, np.ndarray]:
    """(loss, counts, probabilities) on a `data.Dataset`, by `loss` or else `net.loss`.

    The counts are of annotated pixels, where the most probable class counts (of two, the second above 0.5);
    the probabilities are those of `predict`, and so are the errors. Of images of different sizes the loss is
    the mean over the images, each weighted by its pixels.
    """
    check_data("evaluate", data)
    if of_different_sizes(data.images):
        ones = [SimpleNamespace(images=x[None], labels=y[None]) for x, y in zip(data.images, data.labels)]
        losses, counts, p = zip(*(evaluate(net, params, state, one, loss=loss) for one in ones))
        mean = np.average(losses, weights=[one.labels.size for one in ones])
        return float(mean), pooled(counts), of_any_size([one[0] for one in p])
    y = outputs("evaluate", net, params, state, data.images, batch)
    value, p = float((loss or net.loss)(y, data.labels)), sought(net.probabilities(y))
    return value, confusion_matrix(most_probable(p), data.labels, max(2, p.shape[1])), p


def of_different_sizes(images) -> bool:
    """Whether images are a list of arrays, or as `Dataset` has those of different sizes."""
    if isinstance(images, list):
        return bool(images) and all(isinstance(image, np.ndarray) for image in images)
    return getattr(images, "dtype", None) == np.dtype(object)


def sought(probabilities: np.ndarray) -> np.ndarray:
    """Of two classes the second one's probabilities, (N, 2, H, W) -> (N, 1, H, W); of more all."""
    return probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities


def most_probable(p: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Each pixel's class, (..., classes, H, W) to (..., H, W) uint8; of a single map, by the threshold."""
    p = np.moveaxis(p, -3, 0)  # (..., classes, H, W) -> (classes, ..., H, W)
    return (p[0] > threshold if len(p) == 1 else p.argmax(axis=0)).astype(np.uint8)


def outputs(op, net, params, state, images, batch: int):
    """The network's outputs, `batch` images at once, or as many as have AT_ONCE pixels if that is fewer."""
    check_network(op, net)
    check_arrays(op, params, state)
    check_nchw(op, images=floats(op, images=images)[0])
    batch = min(max(1, batch), max(1, AT_ONCE // (images.shape[2] * images.shape[3])))
    pieces = (images[i : i + batch] for i in range(0, len(images), batch))
    return np.concatenate([net(params, state, piece, train=False, rng=None)[0] for piece in pieces])
