"""The flags of a training, with each network's own defaults."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path

from tinyseg.app.run import flags_of, say
from tinyseg.errors import InputError
from tinyseg.fast import FAST
from tinyseg.networks import FIBONACCI
from tinyseg.ops import DEFINITIONS, SCIPY
from tinyseg.optim import Adam, GradientDescent, constant, cosine, linear_end


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


STORY = {
    "images": 250,
    "size": 64,
    "maps": 3,
    "epochs": 25,
    "batch": 2,
    "rate": 1e-3,
    "schedule": "linear-end",
}
LUNGNET = {
    "images": 120,
    "size": 96,
    "maps": 12,
    "epochs": 50,
    "batch": 1,
    "rate": 0.01,
    "schedule": "cosine",
}
DEFAULTS = {"modified": STORY, "original": STORY, "lungnet": LUNGNET}  # the article's two can be compared
ENGINES = {"fast": FAST, "definitions": DEFINITIONS, "scipy": SCIPY}


def flags(story: str, network: str, out: str, prog: str | None = None) -> Parser:
    """A parser of the flags for one network of DEFAULTS, which becomes `args.network`.

    `story` is what --help begins with, `out` the default folder, `prog` the command's name.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=prog, description=story, formatter_class=raw, allow_abbrev=False)
    parser.set_defaults(network=network, channels=1)
    usual = DEFAULTS[network]

    def add(flag, default, metavar, text, *, second=(), **how):
        shown = {None: "", Path(out): f" (default {out})", FIBONACCI: " (default: the Fibonacci numbers)"}
        text += shown.get(default, f" (default {default})")
        parser.add_argument(flag, *second, default=default, metavar=metavar, help=text, **how)

    add("--data", None, "DIR", "your images: <subject>_<image>.tif with ..._mask.tif, or images/ and masks/; "
        "without it, synthetic ones", type=folder)  # fmt: skip
    add("--out", Path(out), "DIR", "where the results go, in place of an earlier run's", type=folder)
    add("--resume", None, "DIR", "go on with the run in this folder that was stopped or killed, by its flags",
        type=folder)  # fmt: skip
    add("--model", None, "FILE", "start from what this model has learnt, rather than at random", type=folder)
    add("--folds", None, "N", "cross-validation: N networks, 3 or more, each with other subjects held out",
        type=number(int, 3, "a whole number of at least 3"))  # fmt: skip
    add("--scheduler", None, "ADDRESS", "where the runs of --folds are made: tcp://HOST:PORT of a "
        "Dask scheduler, or local; without it, in processes on this machine")  # fmt: skip
    add("--images", usual["images"], "N", "synthetic images; a fifth is for validation, a fifth is held out",
        type=number(int, 5, "a whole number of at least 5"))  # fmt: skip
    add("--size", usual["size"], "N", "side in pixels; of your images, the centre square is resized to it",
        type=positive)  # fmt: skip
    add("--seed", 0, "N", "of all random numbers: the same seed gives the same run",
        type=number(int, 0, "a whole number of at least 0"))  # fmt: skip
    add("--epochs", usual["epochs"], "N", "passes over the images", type=positive)
    add("--batch", usual["batch"], "N", "images in each step", type=positive)
    add("--rate", usual["rate"], "X", "learning rate", type=above_zero)
    add("--schedule", usual["schedule"], None, "how the rate changes: it stays constant, or falls to 0 in a "
        "straight line over the last fifth of the steps, or along a cosine",
        choices=("constant", "linear-end", "cosine"))  # fmt: skip
    add("--optimizer", "adam", None, "Adam, or plain gradient descent", choices=("adam", "descent"))
    add("--maps", usual["maps"], "N", "channels of each dilated layer", type=positive)
    add("--dilations", FIBONACCI, "D,D,...", "of the 3x3 layers, a number for each", type=dilations)
    add("--engine", "fast", None, "what computes: the fast twins, or the plain definitions, or these with "
        "SciPy's convolution (slow); all give the same results", second=("--conv",),
        choices=tuple(ENGINES))  # fmt: skip
    if network == "lungnet":
        add("--norm", "instance", None, "of each slice by itself, or by running statistics",
            choices=("instance", "batch"))  # fmt: skip
        add("--entropy-weight", 0.1, "X", "of the semi-supervised term; 0 learns from annotated pixels alone",
            type=number(float, 0, "a number of at least 0"))  # fmt: skip
        add("--patience", 20, "N", "stop after so many epochs without a better one", type=positive)
        add("--channels", 1, None, "of your images: grey, or red, green and blue", choices=(1, 3), type=int)
    return parser


def network_fields(args) -> dict:
    """The flags that are fields of every network, and other fields that an experiment changes."""
    changed = {name: getattr(args, name) for name in CHANGES if hasattr(args, name)}
    return {"maps": args.maps, "dilations": args.dilations, "engine": ENGINES[args.engine]} | changed


CHANGES = ("residual", "dropout", "head", "norm", "weight_std")


def optimizer_of(args):
    """The optimiser that the flags ask for."""
    return Adam() if args.optimizer == "adam" else GradientDescent()


def schedule_of(args):
    """The schedule of the rate that the flags ask for."""
    return {"constant": constant, "linear-end": linear_end, "cosine": cosine}[args.schedule](args.rate)


def parsed(parser: Parser, argv) -> argparse.Namespace:
    """The flags of a training; with --resume DIR those of the run there, and `args.resume` says that.

    Raises:
        InputError: nothing is there to go on with, or a flag says something else than that run's.
        SystemExit: that run came to its end, status 0.
    """
    args = parser.parse_args(argv)
    if args.resume is None:
        return args
    saved = flags_of(args.resume)
    if saved is None:
        say(
            f"{args.resume}: its run came to its end, nothing is left to do; "
            "--model trains on from what it has learnt"
        )
        raise SystemExit(0)
    said = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(vars(args), UNSAID)))
    for name, value in vars(said).items():
        ours = {"resume": args.resume, "out": args.resume}.get(name, UNSAID)
        if value is not UNSAID and value != ours and plain(value) != saved.get(name):
            raise InputError(
                f"--resume {args.resume}: expected its run's own --{name} {saved.get(name)}, got {value}; "
                "leave that flag out"
            )
    if saved.get("network") != args.network:
        raise InputError(
            f"--resume {args.resume}: expected a run of {args.network}, as this command's, got one of "
            f"{saved.get('network')}"
        )
    vars(args).update(vars(restored(saved)), out=args.resume)
    return args


UNSAID = object()


def saved(args) -> dict:
    """All flags that say how one network is trained, for JSON."""
    return {name: plain(value) for name, value in vars(args).items() if name not in NOT_OF_A_RUN}


NOT_OF_A_RUN = ("out", "resume", "folds", "scheduler", "seeds", "apart", "quick")  # where, whether, how often


def command_of(args) -> str:
    """A command that trains as these flags say: those that are not as usual, and not where the results go."""
    usual = saved(flags("", args.network, "runs").parse_args([]))
    words = ["tinyseg", "train", "--network", args.network]
    for name, value in saved(args).items():
        if name in usual and value != usual[name]:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    if hasattr(args, "fold"):
        words += ["--folds", str(args.fold[1])]
    return shlex.join(words)


def restored(saved: dict) -> argparse.Namespace:
    """The flags again, from what `saved` gave."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    paths = {name: Path(values[name]) for name in ("data", "model") if values.get(name)}
    return argparse.Namespace(**values | paths)


def plain(value):
    """A flag's value for JSON."""
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
