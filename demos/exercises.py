"""The checks of the exercises in tour.ipynb: each says whether an answer is right, and if not, what is wrong.

A check compares with something that was not made for it: a numerical gradient, another op, a count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isgenerator

import numpy as np
from autograd import make_vjp
from squares import paths

from tinyseg import DilatedFCN, check_gradients, ops, original
from tinyseg.errors import plural
from tinyseg.gradcheck import GradientError
from tinyseg.layers import BatchNorm, Block, Conv2d
from tinyseg.metrics import confusion_matrix


class Wrong(Exception):
    """What is wrong with an answer, in a sentence."""


class Open(Exception):
    """There is no answer yet."""


def exercise(number: int, *, functions: bool = False) -> Callable:
    """Let a check print one line: right, what is wrong, or that there is no answer yet."""

    def decorate(check):
        @wraps(check)
        def checked(*answers):
            try:
                for answer in answers:
                    given(answer)
                    need(callable(answer) or not functions, "Give the function itself, by its name alone.")
                check(*answers)
                print(f"Exercise {number}: right.")
            except Wrong as wrong:
                print(f"Exercise {number}: not yet. {wrong}")
            except Exception as error:  # the answer is somebody's code: anything can happen in it
                if isinstance(error, Open) or "ellipsis" in str(error):  # three dots are no number
                    print(
                        f"Exercise {number}: write your answer in place of the dots, and run the cell again."
                    )
                else:
                    print(f"Exercise {number}: not yet. Your code ends in {type(error).__name__}: {error}")

        return checked

    return decorate


def given(value):
    """The value, if it is an answer and not three dots."""
    if value is ... or (isinstance(value, tuple | list) and any(one is ... for one in value)):
        raise Open
    return value


def need(condition, sentence: str) -> None:
    """Say the sentence if the condition does not hold."""
    if not condition:
        raise Wrong(sentence)


def array_of(value, shape, what: str) -> np.ndarray:
    """The value as an array of this shape, or what is wrong with it."""
    given(value)
    need(value is not None, f"{what} is None. Does your function end in return?")
    need(
        not isgenerator(value),
        f"{what} is a generator, which has not computed anything. Give it to sum(...).",
    )
    need(not callable(value), f"{what} is a function, where numbers should be.")
    came = np.shape(value)
    should = f"{what} has the shape {came}; it should"
    if came and not shape:
        raise Wrong(f"{should} be one number. numpy.sum adds up all numbers of an array.")
    if came and came[1:] == shape:
        raise Wrong(f"{should} have {shape}. Add up the {came[0]} arrays.")
    need(came == shape, f"{should} have {shape}.")
    return np.asarray(value, float)


def close(one, other) -> bool:
    return bool(np.allclose(one, other, rtol=1e-5, atol=1e-6))  # so near comes float32, too


def no_known_mistake(found, mistakes: dict) -> None:
    """Say the sentence of the mistake, if there is one, that gives what was found."""
    for sentence, value in mistakes.items():
        need(not close(found, value), sentence)


def by_taps(x, w, down, right) -> np.ndarray:
    """A convolution of one channel whose tap (i, j) looks so many pixels down[i] and to the right[j]."""
    far, (h, wide) = 9, x.shape
    around, y = np.pad(x, far), np.zeros_like(x)
    for (i, j), weight in np.ndenumerate(w):
        top, left = far + down[i], far + right[j]
        y += weight * around[top : top + h, left : left + wide]
    return y


def worst(found, right) -> tuple:
    """Where two arrays differ most."""
    return np.unravel_index(np.abs(found - right).argmax(), found.shape)


@exercise(1)
def divide(makers):
    """Two makers of vjps for a / b, as the tape of forty lines takes them."""
    need(
        isinstance(makers, tuple | list) and len(makers) == 2, "It takes two makers, for a and b: (..., ...)."
    )
    rng = np.random.default_rng(1)
    a, b, g = rng.normal(size=(3, 3, 4))
    b += np.sign(b)  # away from 0, on both sides
    rights, results = (g / b, -g * a / b**2), []
    for maker, name in zip(makers, "ab"):
        late = f"The maker of {name} has to return a function of g: lambda ans, a, b: lambda g: ..."
        need(callable(maker), late)
        try:
            vjp = maker(a / b, a.copy(), b.copy())
        except (TypeError, NameError) as error:
            need("positional argument" not in str(error) and "'g'" not in str(error), late)
            raise
        need(vjp is not None and callable(given(vjp)), late)
        results.append(array_of(vjp(g.copy()), a.shape, f"The cotangent of {name}"))
    swapped = all(map(close, results, rights[::-1]))
    need(not swapped, "The two makers are swapped: that of a comes first.")
    for name, found, right in zip("ab", results, rights):
        need(not close(found, -right), f"The cotangent of {name} has the wrong sign.")
        need(not close(found * g, right), f"The cotangent of {name} lacks the factor g.")
        at = worst(found, right)
        place = f"at a = {a[at]:.3f}, b = {b[at]:.3f}, g = {g[at]:.3f}"
        wrong = f"it should be {right[at]:.4f}, and yours is {found[at]:.4f}"
        need(close(found, right), f"The cotangent of {name} is wrong: {place} {wrong}.")


@exercise(2)
def by_hand(cotangents):
    """The cotangents of a and b in tanh(a * b) + a, where a = 2 and b = 0."""
    need(np.shape(cotangents) == (2,), "Give two numbers: that of a, that of b.")
    of_a, of_b = cotangents
    need(not close(of_a, 0), "a is used twice, in the product and in the sum. Both ways add up.")
    through = "through the sum comes 1, through the product b times what tanh lets through"
    need(close(of_a, 1), f"{of_a} for a: {through}.")
    need(close(of_b, 2), f"{of_b} for b: tanh(0) lets 1 - 0**2 = 1 through, and the product turns it into a.")


@exercise(3, functions=True)
def convolution(function):
    """A dilated convolution of one channel by one product a tap."""
    rng = np.random.default_rng(3)
    for dilation in (1, 2, 3):
        x, w = rng.normal(size=(7, 8)), rng.normal(size=(3, 3))
        y = array_of(function(x.copy(), w.copy(), dilation), x.shape, "The result")
        right = ops.conv2d(x[None, None], w[None, None], dilation=dilation)[0, 0]
        off, dense = (-dilation, 0, dilation), (-1, 0, 1)
        corner, late = (0, dilation, 2 * dilation), (-1, dilation - 1, 2 * dilation - 1)
        turned = "w[0, 0] should look up and to the left. Yours looks down and to the right."
        itself = "w[1, 1] should look at the pixel itself: the offset of row i is d * (i - 1)"
        mistakes = {
            turned: by_taps(x, w[::-1, ::-1], off, off),
            "Rows and columns are swapped: i is for down, j for right.": by_taps(x, w.T, off, off),
            f"{itself}.": by_taps(x, w, corner, corner),
        }
        if dilation > 1:
            unused = f"A dilation of {dilation} gives what one of 1 gives. Multiply the offsets by it."
            mistakes[unused] = by_taps(x, w, dense, dense)
            mistakes[f"{itself}, not d * i - 1."] = by_taps(x, w, late, late)
            too = "has to be multiplied by d, too."
            mistakes[f"The offset of i, down, {too}"] = by_taps(x, w, dense, off)
            mistakes[f"The offset of j, to the right, {too}"] = by_taps(x, w, off, dense)
        no_known_mistake(y, mistakes)
        ones = np.eye(9).reshape(9, 3, 3)  # nine kernels of one tap each
        taps = np.stack([by_taps(x, one, off, off).ravel() for one in ones], axis=1)  # (H W, 9)
        weights = np.linalg.lstsq(taps, y.ravel(), rcond=None)[0]
        if close(taps @ weights, y.ravel()):
            at = worst(weights.reshape(3, 3), w)
            yours = round(weights.reshape(3, 3)[at], 4) + 0.0  # -0.0 + 0.0 is 0.0
            values = f"its weight is {w[at]:.4f}, and you multiply by {yours:.4f}"
            need(close(weights, w.ravel()), f"The tap (i, j) = ({at[0]}, {at[1]}) is wrong: {values}.")
        wrong = ~np.isclose(y, right, rtol=1e-5, atol=1e-6)
        first = tuple(np.argwhere(wrong)[0].tolist()) if wrong.any() else ()
        count = f"With a dilation of {dilation}, {plural(int(wrong.sum()), 'pixel')} of {y.size} are wrong"
        border = "Only those at the border are: what lies outside counts as 0, as look has it."
        inside = wrong[dilation:-dilation, dilation:-dilation]
        need(not first, f"{count}, the first at {first}. {border if not inside.any() else ''}".strip())


@exercise(4, functions=True)
def weight_gradient(function):
    """The cotangent of the 3 x 3 weights of a dilated convolution of one channel."""
    rng = np.random.default_rng(4)
    for dilation in (2, 1):
        x, g = rng.normal(size=(6, 7)), rng.normal(size=(6, 7))

        def conv(w, x=x, dilation=dilation):
            return ops.conv2d_scipy(x[None, None], w[None, None], dilation=dilation)

        vjp, _ = make_vjp(conv)(np.zeros((3, 3)))
        right = vjp(g[None, None])  # autograd finds this one by itself
        try:
            found = function(x.copy(), g.copy(), dilation)
        except (TypeError, ValueError) as error:  # in the words of several versions of NumPy
            many = any(words in str(error) for words in ("with a sequence", "converted to Python scalars"))
            need(not many, "dw[i, j] is one number. Add up over all pixels, with numpy.sum.")
            raise
        found = array_of(found, (3, 3), "The cotangent of the weights")
        first = np.zeros((3, 3))
        first[0, 0] = right[0, 0]
        turned = "Yours is turned by 180 degrees. Weight (0, 0) looks up and to the left of each pixel."
        mistakes = {
            turned: right[::-1, ::-1],
            "All nine have the wrong sign.": -right,
            "Rows and columns are swapped: i is for down, j for right.": right.T,
            "Only dw[0, 0] is filled. Does return stand in the loop?": first,
        }
        no_known_mistake(found, mistakes)
        values = f"{right[1, 1]:.4f}; yours is {found[1, 1]:.4f}"
        middle = f"The middle weight met x itself: the sum of g * x is {values}."
        need(close(found[1, 1], right[1, 1]), middle)
        others = f"With a dilation of {dilation} the middle weight is right, others are not."
        need(close(found, right), f"{others} Which pixel of x did they meet?")


@exercise(5, functions=True)
def silu(op, slope):
    """x * sigmoid(x) as a primitive, whose vjp multiplies by a slope."""
    x = 3 * np.random.default_rng(5).normal(size=(5, 4))
    given(slope(x))
    need(
        hasattr(op, "fun"),
        "Leave @autograd_primitive above silu: it is a step of which only you know the vjp.",
    )
    need(close(op(x), x / (1 + np.exp(-x))), "The forward function is not x * sigmoid(x).")
    up, down = ((x + h) / (1 + np.exp(-x - h)) for h in (1e-6, -1e-6))
    numerical = (up - down) / 2e-6
    found = array_of(slope(x), x.shape, "The slope")
    s = 1 / (1 + np.exp(-x))
    terms = "The slope of x * s has two terms: the slope of x times s, and x times the slope of s. Yours is"
    mistakes = {
        f"{terms} the first.": s,
        f"{terms} the second.": x * s * (1 - s),
        f"{terms} the slope of s alone.": s * (1 - s),
        "The second term has the wrong sign.": s - x * s * (1 - s),
        "The second term lacks a factor x.": s + s * (1 - s),
    }
    no_known_mistake(found, mistakes)
    at = worst(found, numerical)
    values = f"it should be {numerical[at]:.4f}, and yours is {found[at]:.4f}"
    need(
        np.allclose(found, numerical, rtol=1e-5, atol=1e-7),
        f"The slope is wrong: at x = {x[at]:.3f} {values}.",
    )
    need(not close(make_vjp(op)(x)[0](2 * x), found), "The vjp lacks the factor g.")
    try:
        check_gradients(op, {"x": x})
    except GradientError as error:
        raise Wrong(f"The checker says: {str(error).splitlines()[-1]}") from None


@exercise(6, functions=True)
def standardize(vjp):
    """The cotangent of x in (x - mean) / sqrt(variance)."""
    rng = np.random.default_rng(6)
    x, g = rng.normal(size=(4, 5)) * 3 + 1, rng.normal(size=(4, 5))

    def standard(x):
        return (x - x.mean()) / x.std()

    steps = 1e-6 * np.eye(20).reshape(20, 4, 5)
    slopes = [np.sum(g * (standard(x + one) - standard(x - one))) / 2e-6 for one in steps]  # numerical
    right = np.array(slopes).reshape(4, 5)
    xhat, r = standard(x), 1 / x.std()
    found = array_of(vjp(g.copy(), xhat.copy(), r), x.shape, "The cotangent")
    mean, part = g.mean(), xhat * (xhat * g).mean()
    no_known_mistake(
        found,
        {
            "It lacks the part along xhat: a stretch of x does not change xhat.": r * (g - mean),
            "It lacks the mean of g: a shift of x does not change xhat.": r * (g - part),
            "It lacks the factor r at the end.": g - mean - part,
            "The part along xhat is taken out, so its sign is minus.": r * (g - mean + part),
            "The part along xhat is a multiple of xhat, not one number.": r * (g - mean - (xhat * g).mean()),
            "sum(xhat * xhat) is the number of entries: divide by it.": r
            * (g - mean - xhat * (xhat * g).sum()),
            "len(g) is the number of rows. The number of entries is g.size.": r
            * (g - mean - xhat * (xhat * g).sum() / 4),
        },
    )
    at = worst(found, right)
    values = f"should be {right[at]:.5f}; yours is {found[at]:.5f}"
    need(np.allclose(found, right, rtol=1e-4, atol=1e-6), f"Entry ({at[0]}, {at[1]}) {values}.")


@exercise(7, functions=True)
def parameters(function):
    """How many parameters a block has, by its channels and its kernel."""
    for inward, outward, kernel in ((7, 11, 3), (3, 3, 3), (1, 32, 3), (31, 12, 1)):
        params, _ = Block(Conv2d(inward, outward, kernel), BatchNorm(outward)).init(np.random.default_rng(0))
        right = sum(array.size for array in params.values())
        found = float(array_of(function(inward, outward, kernel), (), "The number"))
        weights = outward * inward * kernel**2
        norm = "gamma and beta are one number each for each output channel"
        mistakes = {
            weights: "You have counted the weights alone. What else does a block learn?",
            weights + outward: "The norm has parameters too: a gamma and a beta for each channel.",
            outward * inward * kernel + 3 * outward: "The kernel is a side: one of 3 has 3 x 3 weights.",
            weights + 2 * outward: "One number for each output channel is missing: "
            "the bias, gamma and beta are three.",
            weights + 5 * outward: "What the norm measures, its running mean and variance, is not learnt.",
            weights + 1 + 2 * outward: "The bias is one number for each output channel.",
            weights + inward + 2 * outward: "The bias is one number for each output channel.",
            weights + outward + 2: f"A norm's {norm}.",
            weights + outward + 2 * inward: f"The norm comes after the convolution: its {norm}.",
            inward * kernel**2 + 3 * outward: "Each output channel has a kernel for each input channel.",
            outward * kernel**2 + 3 * outward: "Each output channel has a kernel for each input channel.",
        }
        if found != right and found in mistakes:
            raise Wrong(mistakes[found])
        place = f"A block from {inward} to {outward} channels with a kernel of {kernel}"
        need(found == right, f"{place} has {right}, and you count {found:g}.")


@exercise(8)
def loss_alone(net):
    """The original network with another loss, and no other change."""
    need(isinstance(net, DilatedFCN), "Build it by original(...), with the one field that differs.")
    need(net.head == "linear", "Its loss is still cross-entropy. Which field of the network decides that?")
    need(net.dropout == 0.5, "It has another dropout than the original: that is a second change.")
    need(not net.residual, "It has residual connections: that is a second change.")
    need(net == original(head="linear"), "Another field differs from the original's.")


@exercise(9, functions=True)
def dice(function):
    """The Dice of two masks, of bools."""
    rng = np.random.default_rng(9)
    pairs, values = [], []
    for shares in ((0.3, 0.2), (0.5, 0.6)):  # what is found is first the larger mask, then the smaller one
        found, truth = (rng.random((20, 23)) < share for share in shares)
        try:
            value = function(found.copy(), truth.copy())
        except ValueError as error:
            need("truth value of an array" not in str(error), "For arrays, write & in place of and, | of or.")
            raise
        values.append(float(array_of(value, (), "The Dice")))
        right = confusion_matrix(found.astype(np.uint8), truth.astype(np.uint8)).dice
        agree = (found == truth).mean()
        pairs.append(((found & truth).sum(), (found | truth).sum(), found.sum(), truth.sum(), agree, right))
    values, size = np.array(values), found.size
    both, either, ours, there, agree, right = np.array(pairs, float).T  # (2,) each: of the two pairs of masks
    mistakes = {
        "common / (in either mask) is the IoU": both / either,
        "the share of pixels in which both masks agree is the accuracy": agree,
        "common / found is the precision": both / ours,
        "common / there is the recall": both / there,
        "the common pixels count twice, as both masks have them": right / 2,
        "of bools, found + truth is found | truth, which counts the common pixels once": 2 * both / either,
        "the sum found + there needs brackets": 2 * both / ours + there,
        "found.size counts the black pixels, too": both / size,
        "a size counts the black pixels, too": 2 * both / size,
    }
    no_known_mistake(values, {f"Dice is 2 x common / (found + there); {k}.": v for k, v in mistakes.items()})
    need(close(values, right), f"It should be {right[0]:.6f}; yours is {values[0]:.6f}.")


@exercise(10)
def window(dilations):
    """The fewest dilated 3 x 3 layers that see at least 63 pixels, and all of them."""
    need(np.iterable(dilations), "Give several dilations: (1, 2, ...).")
    dilations = list(dilations)
    whole = all(np.ndim(d) == 0 and d == int(d) and d > 0 for d in dilations)
    need(whole, "A dilation is a whole number of at least 1.")
    counts = paths(map(int, dilations))
    need(len(counts) >= 63, f"It sees {plural(len(counts), 'pixel')} across: 1 + 2 * (sum of the dilations).")
    holes = f"It has holes: {int((counts == 0).sum())} of {len(counts)} pixels are never seen."
    need((counts > 0).all(), f"{holes} There are none if no dilation exceeds the window before it.")
    need(
        len(dilations) <= 4,
        f"It works with {len(dilations)} layers. Four are enough: each can triple the window.",
    )
