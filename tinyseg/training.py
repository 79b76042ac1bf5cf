"""Training: show the network a few images, ask autograd which way is down, take a step; again."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from autograd import make_vjp

from tinyseg.metrics import Confusion, ConfusionMatrix, confusion, confusion_matrix
from tinyseg.optim import Adam, constant
from tinyseg.parameters import flatten, unflatten

AT_ONCE = 2**17  # pixels in evaluation: eight images of 128 x 128; more of them take memory and save no time


class Diverged(ArithmeticError):
    """The loss or a parameter became infinite or NaN; the message says what to try."""


@dataclass(frozen=True)
class Epoch:
    """What was measured after one pass over the training images."""

    epoch: int  # passes so far
    step: int  # minibatches so far
    loss: float  # mean over the epoch's minibatches
    held_out_loss: float
    dice: float  # held out: of masks at a threshold of 0.5, of label maps the mean over the classes
    iou: float


@dataclass(frozen=True)
class Fitted:
    """A trained network, and how it got there."""

    params: dict
    state: dict
    history: tuple[Epoch, ...]
    steps: int
    interrupted: bool  # by Ctrl-C
    best: int  # the last epoch that these parameters have gone through, 0 for none


def fit(
    net,
    params: dict,
    state: dict,
    train,
    held_out,
    *,
    epochs: int,
    rng: np.random.Generator,
    batch: int = 2,
    optimizer=Adam(),  # noqa: B008  a frozen value
    schedule=constant(1e-3),  # noqa: B008  a pure function
    augment=lambda images, masks, rng: (images, masks),
    loss=None,
    patience: int | None = None,
    on_step=lambda step: None,
    on_epoch=lambda epoch, params, state: None,
) -> Fitted:
    """Train on minibatches in random order.

    Args:
        net: a `networks.DilatedFCN`.
        params, state: as `net.init` gives them; they stay as they are.
        train, held_out: `data.Dataset`s; the second is only looked at, and with `patience` chosen by.
        epochs: passes over the training images.
        rng: of order, augmentation and dropout.
        batch: images per step; the last of an epoch may be smaller.
        optimizer, schedule: of `optim`; the schedule maps the number of steps made so far to a rate.
        augment: changes each minibatch's images and masks, such as `data.random_symmetry`; by default not.
        loss: what training lowers, a function of the network's output and the masks; by default `net.loss`.
        patience: keep the parameters of the epoch with the best held-out Dice, and stop after so many epochs
            without a better one. None: train to the end, and keep what is there then.
        on_step: called with the number of each step made.
        on_epoch: called with each `Epoch` and the parameters and state at its end.

    Returns:
        `Fitted`; after Ctrl-C with what was trained until then, or the best of it.

    Raises:
        Diverged: the loss or a parameter became infinite or NaN.
        ValueError: there is nothing to train on or nothing held out.
    """
    if not len(train) or not len(held_out):
        raise ValueError(f"fit: expected images on both sides, got {len(train)} and {len(held_out)} held out")
    loss = loss or net.loss
    vector = flatten(params)
    memory = optimizer.init(vector)
    history, step, interrupted, best = [], 0, False, None
    try:
        for epoch in range(1, epochs + 1):
            losses = []
            order = rng.permutation(len(train))
            for chosen in (order[i : i + batch] for i in range(0, len(order), batch)):
                images, masks = augment(train.images[chosen], train.masks[chosen], rng)
                value, gradient, state = loss_and_gradient(
                    net, vector, params, state, images, masks, rng, loss
                )
                with np.errstate(all="ignore"):  # an overflow is reported once, below
                    vector, memory = optimizer.step(vector, gradient, memory, schedule(step))
                step += 1
                losses.append(value)
                if not (np.isfinite(value) and np.isfinite(vector).all()):
                    what = "a parameter became infinite" if np.isfinite(value) else f"the loss became {value}"
                    raise Diverged(
                        f"step {step}: {what}; the rate was {schedule(step - 1):g}. "
                        "Try a tenth of that rate, or smaller initial weights."
                    )
                on_step(step)
            params = unflatten(vector, params)
            value, counts, _ = evaluate(net, params, state, held_out, loss=loss)
            history.append(Epoch(epoch, step, float(np.mean(losses)), value, counts.dice, counts.iou))
            if patience and (best is None or counts.dice > history[best[0] - 1].dice):
                best = epoch, params, state
            on_epoch(history[-1], params, state)
            if patience and epoch - best[0] >= patience:
                break
    except KeyboardInterrupt:
        interrupted = True
    best = best or (len(history), unflatten(vector, params), state)
    return Fitted(best[1], best[2], tuple(history), step, interrupted, best[0])


def keep_memory():
    """Let this process keep the memory that it frees, so that each step finds it where the last one left it.

    Linux's C library gives a step's memory back to the system, and the next step fetches it again, page by
    cleared page, a fifth to almost half of the time. That is for a program to change, not for a
    library: call it once, before you train. It then keeps about 1 GB. Without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt(trim_threshold, 2**30)
    mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # an older glibc's largest


def loss_and_gradient(net, vector, like: dict, state: dict, images, masks, rng, loss=None):
    """(loss, gradient, state) of one minibatch: the gradient by all parameters as one vector, of its dtype.

    Args:
        net, state: the network and its running statistics, which stay as they are.
        vector, like: the parameters as `parameters.flatten` gives them, and the dict that they are from.
        images, masks: (N, channels, H, W) and (N, 1, H, W).
        rng: `numpy.random.Generator` of dropout; a network without takes None.
        loss: a function of the network's output and the masks; by default `net.loss`.
    """
    new_state, loss = {}, loss or net.loss

    def loss_at(vector):
        nonlocal new_state  # the state leaves by the side door: what autograd sees is the loss alone
        y, new_state = net(unflatten(vector, like), state, images, train=True, rng=rng)
        return loss(y, masks)

    with np.errstate(all="ignore"):  # an overflow is reported once, by the caller
        vjp, value = make_vjp(loss_at)(vector)
        return float(value), vjp(np.ones_like(value)), new_state


def predict(net, params: dict, state: dict, images: np.ndarray, *, batch: int = 8) -> np.ndarray:
    """Each pixel's probabilities in evaluation: (N, channels, H, W) to (N, classes, H, W), float32.

    Of two classes only the last one's, the one that is sought: (N, 1, H, W).
    """
    probabilities = net.probabilities(_outputs(net, params, state, images, batch))
    return probabilities[:, -1:] if net.classes == 2 else probabilities


def evaluate(
    net, params: dict, state: dict, data, *, loss=None, batch: int = 8
) -> tuple[float, Confusion | ConfusionMatrix, np.ndarray]:
    """(loss, counts, probabilities) on a `data.Dataset`, by `loss` or else `net.loss`.

    Of masks: the confusion at a threshold of 0.5, and (N, 1, H, W). Of label maps: the confusion matrix over
    annotated pixels, where the most probable class counts, and (N, classes, H, W).

    Raises:
        ValueError: masks, and a network of more than two classes; one count cannot tell them apart. Or label
            maps, and a network that estimates a mask.
    """
    if data.label_maps and net.head != "softmax":
        raise ValueError(f"evaluate: expected a softmax head for label maps, got {net.head}")
    if net.classes > 2 and not data.label_maps:
        raise ValueError(f"evaluate: expected a network of 2 classes, got {net.classes}")
    y = _outputs(net, params, state, data.images, batch)
    value, probabilities = float((loss or net.loss)(y, data.masks)), net.probabilities(y)
    if data.label_maps:
        return value, confusion_matrix(y.argmax(axis=1)[:, None], data.masks, net.classes), probabilities
    probabilities = probabilities[:, -1:]
    return value, confusion(probabilities > 0.5, data.masks), probabilities


def _outputs(net, params, state, images, batch):
    """The network's outputs, `batch` images at once, or as many as have AT_ONCE pixels if that is fewer."""
    batch = min(batch, max(1, AT_ONCE // (images.shape[2] * images.shape[3])))
    pieces = (images[i : i + batch] for i in range(0, len(images), batch))
    return np.concatenate([net(params, state, piece)[0] for piece in pieces])
