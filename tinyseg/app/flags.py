"""The flags of a training, with each network's own defaults."""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
from pathlib import Path

from tinyseg.app.run import flags_of, in_notebook, one_line, say
from tinyseg.errors import InputError
from tinyseg.fast import FAST
from tinyseg.networks import FIBONACCI, DilatedFCN
from tinyseg.ops import DEFINITIONS, SCIPY
from tinyseg.optim import Adam, GradientDescent, constant, cosine, linear_end


class Parser(argparse.ArgumentParser):
    """One line for a mistake, without the usage above it; in a notebook an exception."""

    def error(self, message):
        if in_notebook():
            raise InputError(f"{message} (--help lists the flags)")
        self.exit(2, one_line(f"error: {message} (--help lists the flags)") + "\n")

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        # "-1000,400" is a value and no flag: argparse takes what begins with a space for one
        return super().parse_known_args([f" {a}" if re.match("-[0-9.]+,", a) else a for a in args], namespace)


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
    """A flag's type: a path, which an empty string is not, nor what no system takes for a name."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a folder or a file, got {text!r}")
    return Path(text)


def dilations(text):
    """A flag's type: whole numbers with commas between them."""
    return tuple(positive(part) for part in text.split(","))


def count_or_folder(text):
    """A flag's type: a whole number from 5 on, of synthetic images, or the folder of images."""
    return (
        number(int, 5, "a whole number of at least 5, or a folder")(text)
        if text.isdecimal()
        else folder(text)
    )


def mask_values(text):
    """A flag's type: a rule in words, or whole numbers with commas between them."""
    if text in ("half", "nonzero"):
        return text
    try:
        if text.startswith("above:") and math.isfinite(float(text.removeprefix("above:"))):
            return text
        values = tuple(map(int, text.split(",")))
        if len(values) > 1 and len(set(values)) == len(values) and all(0 <= v < 2**16 for v in values):
            return values
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"expected half, nonzero, above:N or different values such as 0,255, got {text!r}"
    )


def ignored(text):
    """A flag's type: a whole number, or none."""
    try:
        return text if text == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number or none, got {text!r}") from None


def window(text):
    """A flag's type: two levels, or two percentages."""
    ends = [end.strip() for end in text.split(",")]
    try:
        numbers = [float(end.removesuffix("%")) for end in ends]
        shares = [end.endswith("%") for end in ends]
        low, high = numbers
        inside = all(0 <= value <= 100 for value, share in zip(numbers, shares) if share)
        if not all(map(math.isfinite, numbers)) or not inside or all(shares) == any(shares) and low >= high:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected two levels such as -1000,400, or percentages such as 1%,99%, got {text!r}"
        ) from None
    return tuple(end if share else value for end, value, share in zip(ends, numbers, shares))


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
    parser.set_defaults(network=network)
    usual = DEFAULTS[network]

    def add(flag, default, metavar, text, *, second=(), **how):
        shown = {
            None: "",
            False: "",
            Path(out): f" (default {out})",
            FIBONACCI: " (default: the Fibonacci numbers)",
        }
        text += shown.get(default, f" (default {default})")
        how |= {} if "action" in how else {"metavar": metavar}
        parser.add_argument(flag, *second, default=default, help=text, **how)

    add("--data", None, "DIR", "your images with their masks, in one of the layouts of docs/your-images.md; "
        "without it, synthetic ones", type=folder)  # fmt: skip
    data_flags(add, usual)
    add("--out", Path(out), "DIR", "where the results go, in place of an earlier run's", type=folder)
    add("--resume", None, "DIR", "go on with the run in this folder that was stopped or killed, by its flags",
        type=folder)  # fmt: skip
    add("--model", None, "FILE", "start from what this model has learnt, rather than at random", type=folder)
    add("--folds", None, "N", "cross-validation: N networks, 3 or more, each with other subjects held out",
        type=number(int, 3, "a whole number of at least 3"))  # fmt: skip
    add("--scheduler", None, "ADDRESS", "where the runs of --folds are made: tcp://HOST:PORT of a "
        "Dask scheduler, or local; without it, in processes on this machine")  # fmt: skip
    add("--size", usual["size"], "N", "side in pixels; of your images the shorter side is resized to it, 0 "
        "leaves them as they are", type=number(int, 0, "a whole number of at least 0"))  # fmt: skip
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
        add("--ignore", None, "V", "the value of pixels that nobody annotated; none: there is no such value "
            "(default: 255, where that leaves no doubt)", type=ignored)  # fmt: skip
        add("--entropy-weight", 0.1, "X", "of the semi-supervised term; 0 learns from annotated pixels alone",
            type=number(float, 0, "a number of at least 0"))  # fmt: skip
        add("--patience", 20, "N", "stop after so many epochs without a better one", type=positive)
    return parser


def data_flags(add, usual) -> None:
    """The flags of one's own images."""
    add("--images", usual["images"], "N|DIR", "how many synthetic images; or the folder of your images, with "
        "their masks in --masks", type=count_or_folder)  # fmt: skip
    add("--masks", None, "DIR|FILE", "the folder of the masks, or a CSV of run lengths, of --images DIR",
        type=folder)  # fmt: skip
    add("--mask-suffix", None, "TEXT", "the mask of x.png is xTEXT.png, such as _segmentation")
    for part, what in {"train": "train on", "val": "choose or judge by", "test": "judge by"}.items():
        add(f"--{part}", None, "DIR", f"images with masks to {what}, in place of --data", type=folder)
    add("--empty-without-mask", False, None, "an image without a mask shows nothing that is sought",
        action="store_true")  # fmt: skip
    add("--skip-without-mask", False, None, "an image without a mask is left out", action="store_true")
    add("--subject", None, "REGEX", "its first group, found in an image's name, is the subject")
    add("--subjects", None, "FILE", "a CSV with the columns image,subject", type=folder)
    add("--mask-values", None, "RULE", "what masks mean: half, nonzero, above:N, or the classes' values V,V",
        type=mask_values)  # fmt: skip
    add("--colours", None, "FILE", "a CSV with a line R,G,B,NAME for each class; ignore: not annotated",
        type=folder)  # fmt: skip
    add("--window", None, "LOW,HIGH", "levels of more than 8 bits that become black and white; or 1%%,99%% "
        "of the training's pixels", type=window)  # fmt: skip
    add("--crop", None, "N", "side of the random squares to train on (default: --size, or 64 with --size "
        "0); 0: whole images", type=number(int, 0, "a whole number of at least 0"))  # fmt: skip
    add(
        "--channels",
        1,
        "N",
        "of your images: 1 for grey, 3 for colour, or as many as they have",
        type=positive,
    )
    add("--memory", None, "GB", "what all images, and the network on one, may take (default: half of what "
        "is free); and what a file may take, if that is more than 1", type=above_zero)  # fmt: skip


def network_fields(args) -> dict:
    """The flags that are fields of every network, and other fields that an experiment changes."""
    changed = {name: getattr(args, name) for name in CHANGES if hasattr(args, name)}
    how = {"channels": args.channels, "maps": args.maps, "dilations": args.dilations}
    return how | {"engine": ENGINES[args.engine]} | changed


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
    check(parser, saved, args.resume)
    vars(args).update(vars(restored(saved)), out=args.resume)
    return args


def check(parser: Parser, saved: dict, home: Path) -> None:
    """Refuse flags from a run's folder that no command can have been given: somebody changed them there."""
    flags = {name: value for name, value in saved.items() if name not in ("network", "fold")}
    words = [word for name, value in flags.items() for word in words_of(name, value)]
    said = vars(parser.parse_known_args(words)[0])
    fold = saved.get("fold", [0, 3])
    try:
        i, n = fold
        odd = ["fold"] * (not (type(i) is type(n) is int and 0 <= i < n))
        odd += [name for name in said if name in saved and plain(said[name]) != saved[name]]
        DilatedFCN(**{name: saved[name] for name in CHANGES if name in saved})
    except (TypeError, ValueError) as error:
        odd = [str(error)]
    if odd:
        raise InputError(f"--resume {home}: expected the flags of a run, got others ({odd[0]})")


def words_of(name: str, value) -> list[str]:
    """A flag, of a value as JSON has it, on a command line: a switch by itself, and none where it is off."""
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return []
    return [
        flag if value is True else f"{flag}={','.join(map(str, value)) if isinstance(value, list) else value}"
    ]


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
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    if hasattr(args, "fold"):
        words += ["--folds", str(args.fold[1])]
    return shlex.join(words)


def restored(saved: dict) -> argparse.Namespace:
    """The flags again, from what `saved` gave."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    paths = {name: Path(values[name]) for name in PATHS if isinstance(values.get(name), str)}
    return argparse.Namespace(**values | paths)


PATHS = ("data", "images", "masks", "train", "val", "test", "subjects", "colours", "model")


def plain(value):
    """A flag's value for JSON."""
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
