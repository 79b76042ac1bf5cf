"""The flags that all demos share, with the defaults in which their networks can be compared."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from tinyseg.networks import FIBONACCI
from tinyseg.optim import Adam, GradientDescent, constant, cosine, settling


class Parser(argparse.ArgumentParser):
    """One line for a mistake, without the usage above it."""

    def error(self, message):
        self.exit(2, f"error: {message} (--help lists the flags)\n")


def number(kind, least, words):
    """A flag's type: whole or, with `kind=float`, finite numbers from `least` on."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= (MOST if kind is int else sys.float_info.max):
            raise argparse.ArgumentTypeError(f"expected {words}, got {text!r}")
        return value

    return parse


MOST = 10**9  # what is beyond is a slip of the finger
positive = number(int, 1, "a whole number of at least 1")
above_zero = number(float, math.ulp(0.0), "a number above 0")


def folder(text):
    """A flag's type: a path, which an empty string is not."""
    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got an empty name")
    return Path(text)


def dilations(text):
    """A flag's type: whole numbers with commas between them."""
    return tuple(positive(part) for part in text.split(","))


DEFAULTS = {
    "images": 200,
    "size": 64,
    "epochs": 25,
    "batch": 2,
    "rate": 1e-3,
    "schedule": "settling",
    "maps": 3,
}


def flags(story: str, out: str, **defaults) -> Parser:
    """A parser of the shared flags; `story` is what --help begins with, `out` the default folder.

    `defaults` are those by which a demo differs from DEFAULTS.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=story, formatter_class=raw, allow_abbrev=False)
    usual = DEFAULTS | defaults

    def add(flag, default, metavar, text, **how):
        shown = {None: "", Path(out): f" (default {out})", FIBONACCI: " (default: the Fibonacci numbers)"}
        text += shown.get(default, f" (default {default})")
        parser.add_argument(flag, default=default, metavar=metavar, help=text, **how)

    add("--data", None, "DIR", "your images: <subject>_<image>.tif with ..._mask.tif, or images/ and masks/; "
        "without it, synthetic ones", type=folder)  # fmt: skip
    add("--out", Path(out), "DIR", "where the results go, in place of an earlier run's", type=folder)
    add("--images", usual["images"], "N", "synthetic images, of which a fifth is held out",
        type=number(int, 5, "a whole number of at least 5"))  # fmt: skip
    add("--size", usual["size"], "N", "side in pixels; of your images, the centre square is resized to it",
        type=positive)  # fmt: skip
    add("--seed", 0, "N", "of images, weights and order; the same seed gives the same run",
        type=number(int, 0, "a whole number of at least 0"))  # fmt: skip
    add("--epochs", usual["epochs"], "N", "passes over the images", type=positive)
    add("--batch", usual["batch"], "N", "images in each step", type=positive)
    add("--rate", usual["rate"], "X", "learning rate", type=above_zero)
    add("--schedule", usual["schedule"], None, "of the rate: constant, or settling to 0 in the last fifth of "
        "the steps, or falling to it along a cosine", choices=("constant", "settling", "cosine"))  # fmt: skip
    add("--optimizer", "adam", None, "Adam, or plain gradient descent", choices=("adam", "descent"))
    add("--maps", usual["maps"], "N", "channels of each dilated layer", type=positive)
    add("--dilations", FIBONACCI, "D,D,...", "of the 3x3 layers, a number for each", type=dilations)
    add("--conv", "gemm", None, "convolve fast, or slowly by SciPy's definition", choices=("gemm", "scipy"))
    return parser


def network_fields(args) -> dict:
    """The flags that are fields of a network."""
    return {"maps": args.maps, "dilations": args.dilations, "conv": args.conv}


def training_fields(args, steps: int) -> dict:
    """The flags that are arguments of `training.fit`, for a run of so many steps."""
    schedules = {
        "constant": constant(args.rate),
        "settling": settling(args.rate, steps),
        "cosine": cosine(args.rate, steps),
    }
    return {
        "epochs": args.epochs,
        "batch": args.batch,
        "optimizer": Adam() if args.optimizer == "adam" else GradientDescent(),
        "schedule": schedules[args.schedule],
    }
