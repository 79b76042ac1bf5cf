"""What the demos share: their flags, the run's folder, and the steps of the story, each a function."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import asdict, dataclass, fields
from functools import wraps
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np

from tinyseg import pictures
from tinyseg.checkpoint import save
from tinyseg.data.dataset import Dataset
from tinyseg.data.folder import load_folder
from tinyseg.data.phantom import phantom
from tinyseg.errors import InputError
from tinyseg.files import write_whole
from tinyseg.metrics import best_threshold, blurred_threshold, confusion
from tinyseg.networks import FIBONACCI, DilatedFCN
from tinyseg.optim import Adam, GradientDescent, constant, cosine
from tinyseg.training import Diverged, Epoch, Fitted, evaluate, fit, predict

HELD_OUT = 0.2  # share of the images that the network never trains on


class Parser(argparse.ArgumentParser):
    """One line for a mistake, without the usage above it."""

    def error(self, message):
        self.exit(2, f"error: {message} (--help lists the flags)\n")


def number(kind, low, words):
    """A flag's type: a number of at least `low`, or above it when it is a float."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (low < value < float("inf") if kind is float else value >= low):
            raise argparse.ArgumentTypeError(f"expected {words}, got {text!r}")
        return value

    return parse


positive = number(int, 1, "a whole number of at least 1")


def dilations(text):
    """A flag's type: whole numbers with commas between them."""
    return tuple(positive(part) for part in text.split(","))


def flags(story: str, out: str) -> Parser:
    """The flags that all demos share, with the defaults in which they can be compared."""
    parser = Parser(description=story, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="your images: <subject>_<image>.tif with ..._mask.tif, or "
        "images/ and masks/; without it, synthetic ultrasound")  # fmt: skip
    add("--out", type=Path, default=Path(out), metavar="DIR", help=f"where the results go (default {out})")
    add("--images", type=number(int, 5, "a whole number of at least 5"), default=200, metavar="N",
        help="synthetic images, of which a fifth is held out (default 200)")  # fmt: skip
    add("--size", type=positive, default=64, metavar="N", help="side of the square images, pixels (default 64)")
    add("--seed", type=number(int, 0, "a whole number of at least 0"), default=0, metavar="N",
        help="of images, weights and order: the same seed gives the same run (default 0)")  # fmt: skip
    add("--epochs", type=positive, default=25, metavar="N", help="passes over the images (default 25)")
    add("--batch", type=positive, default=2, metavar="N", help="images in each step (default 2)")
    add("--rate", type=number(float, 0, "a number above 0"), default=1e-3, metavar="X",
        help="learning rate (default 0.001)")  # fmt: skip
    add("--schedule", choices=("constant", "cosine"), default="constant",
        help="whether the rate stays or falls to 0 along a cosine (default constant)")  # fmt: skip
    add("--optimizer", choices=("adam", "descent"), default="adam",
        help="Adam or plain gradient descent (default adam)")  # fmt: skip
    add("--maps", type=positive, default=3, metavar="N", help="channels of each dilated layer (default 3)")
    add("--dilations", type=dilations, default=FIBONACCI, metavar="D,D,...",
        help=f"of the 3x3 layers, one number for each (default {','.join(map(str, FIBONACCI))})")  # fmt: skip
    add("--conv", choices=("gemm", "scipy"), default="gemm",
        help="convolve fast, or by SciPy's definition, some twenty times slower (default gemm)")  # fmt: skip
    return parser


def network_fields(args) -> dict:
    """The flags that are fields of a network."""
    return {"maps": args.maps, "dilations": args.dilations, "conv": args.conv}


def guarded(main):
    """Turn what a user can mend into one line and a status: 2 for bad input, 1 for a run that diverged."""

    @wraps(main)
    def run(argv=None):
        try:
            return main(argv)
        except (InputError, Diverged) as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2 if isinstance(error, InputError) else 1) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(130) from None

    return run


@dataclass(frozen=True)
class Data:
    """What a run trains on, and what it is judged on."""

    train: Dataset
    held_out: Dataset


def load_data(args) -> Data:
    """Images from `--data`, or synthetic ones; a fifth of them, by whole subjects, is held out."""
    data = load_folder(args.data, args.size) if args.data else phantom(args.images, args.size, args.seed)
    return Data(*data.split(HELD_OUT, np.random.default_rng(args.seed)))


class Run:
    """A run's folder: what is said goes to the screen and into log.txt, results are written whole."""

    def __init__(self, folder: Path):
        self.folder, self.lines, self.start = folder, [], time.perf_counter()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
        self.write("log.txt", "")  # learn now, not after the training, if it cannot be written

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self.start

    def say(self, line: str) -> None:
        """Print a line and keep it."""
        print(line, flush=True)
        self.lines.append(line)
        self.write("log.txt", "\n".join(self.lines) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """A file of this run."""
        write_whole(self.folder / name, content)


@dataclass(frozen=True)
class Trained:
    """A trained network, and one held-out image's prediction after each epoch."""

    net: DilatedFCN
    fitted: Fitted
    watched: int  # which held-out image
    epochs: tuple[np.ndarray, ...]  # its probabilities (H, W), from before the first step on


def train(run: Run, net: DilatedFCN, data: Data, args) -> Trained:
    """Train, saying after each epoch how it goes, and save the network and its history."""
    rng = np.random.default_rng(args.seed)
    params, state = net.init(rng)
    nerves = data.held_out.masks.any(axis=(1, 2, 3))
    watched = int(nerves.argmax())
    image = data.held_out.images[watched : watched + 1]
    frames = [predict(net, params, state, image)[0, 0]]
    steps = args.epochs * -(-len(data.train) // args.batch)
    bar = _bar(steps)

    def on_epoch(epoch: Epoch, params, state):
        frames.append(predict(net, params, state, image)[0, 0])
        left = run.seconds / epoch.step * (steps - epoch.step)
        run.say(
            f"epoch {epoch.epoch:3}/{args.epochs}  step {epoch.step:5}  loss {epoch.loss:.4f}  held out: "
            f"loss {epoch.held_out_loss:.4f}  Dice {epoch.dice:.3f}  IoU {epoch.iou:.3f}  {left:4.0f} s left"
        )

    run.say(repr(net))
    run.say(
        f"{sum(p.size for p in params.values()):,} parameters; {len(data.train)} images to train on, "
        f"{len(data.held_out)} held out, {args.size} x {args.size} pixels; seed {args.seed}"
    )
    fitted = fit(
        net,
        params,
        state,
        data.train,
        data.held_out,
        epochs=args.epochs,
        batch=args.batch,
        optimizer=Adam() if args.optimizer == "adam" else GradientDescent(),
        schedule=constant(args.rate) if args.schedule == "constant" else cosine(args.rate, steps),
        rng=rng,
        on_step=lambda step: bar.update(),
        on_epoch=on_epoch,
    )
    bar.close()
    if fitted.interrupted:
        run.say(f"stopped by Ctrl-C after {fitted.steps} of {steps} steps; this is what was learnt until then")
    save(run.folder / "model.npz", net, fitted.params, fitted.state)
    table = StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(field.name for field in fields(Epoch))
    rows.writerows(asdict(epoch).values() for epoch in fitted.history)
    run.write("history.csv", table.getvalue())
    return Trained(net, fitted, watched, tuple(frames))


class _NoBar:
    """In place of tqdm's bar where it is not installed: the epochs' lines say how long it will take."""

    def update(self):
        pass

    def close(self):
        pass


def _bar(steps):
    try:
        from tqdm import tqdm
    except ImportError:
        return _NoBar()
    return tqdm(total=steps, unit="step", disable=None, leave=False)  # None: only where there is a terminal


def judge(run: Run, trained: Trained, data: Data, args) -> dict:
    """Measure on the held-out images, look behind a black mask, and write metrics.json."""
    net, fitted = trained.net, trained.fitted
    _, counts, p = evaluate(net, fitted.params, fitted.state, data.held_out)
    on_train = predict(net, fitted.params, fitted.state, data.train.images)
    threshold, _ = best_threshold(on_train, data.train.masks)
    metrics = {
        "dice": counts.dice,
        "iou": counts.iou,
        "baseline_dice": blurred_threshold(data.train, data.held_out),
        "best_threshold": threshold,
        "best_threshold_dice": confusion(p > threshold, data.held_out.masks).dice,
        "max_probability": float(p.max()),
        "steps": fitted.steps,
        "seconds": round(run.seconds, 1),
        "seed": args.seed,
    }
    run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
    run.say(f"held out: Dice {counts.dice:.3f}, IoU {counts.iou:.3f} at a threshold of 0.5")
    if not (p > 0.5).any():
        run.say(
            f"Every predicted mask is black: the highest probability anywhere is {p.max():.3f}. Behind it (see "
            f"probability.png), a threshold of {threshold:.3f}, found on the training images, gives "
            f"Dice {metrics['best_threshold_dice']:.3f}."
        )
    else:
        run.say(f"at the training images' best threshold, {threshold:.3f}: Dice {metrics['best_threshold_dice']:.3f}")
    run.say(f"the best threshold on a blurred image, no network: Dice {metrics['baseline_dice']:.3f}")
    return metrics


def draw(run: Run, trained: Trained, data: Data, metrics: dict, count: int = 6) -> None:
    """The article's pictures of some held-out images, the probability maps, and the curves."""
    nerves = data.held_out.masks.any(axis=(1, 2, 3))
    chosen = np.sort(np.argsort(~nerves, kind="stable")[: count - 1])  # with the nerve, if there are so many,
    without = np.flatnonzero(~nerves)[:1]  # and one without
    shown = data.held_out.take(np.unique(np.append(chosen, without)))
    p = predict(trained.net, trained.fitted.params, trained.fitted.state, shown.images)
    grey, overlay = pictures.grey, pictures.overlay
    cells = [
        {
            "image": grey(image),
            "truth": grey(mask),
            "prediction": grey(probability > 0.5),
            "true overlay": overlay(image, mask, pictures.TRUTH),
            "predicted overlay": overlay(image, probability > 0.5, pictures.PREDICTION),
            "probability": grey(probability / p.max() if p.max() > 0 else probability),
            "best threshold": grey(probability > metrics["best_threshold"]),
        }
        for image, mask, probability in zip(shown.images[:, 0], shown.masks[:, 0], p[:, 0])
    ]
    for name, columns in {
        "masks.png": ("image", "truth", "prediction"),
        "overlays.png": ("image", "true overlay", "predicted overlay"),
        "probability.png": ("image", "truth", "probability", "best threshold"),
    }.items():
        pictures.write_png(run.folder / name, pictures.grid([[cell[c] for c in columns] for cell in cells]))
    steps = ("image", "truth", "prediction", "true overlay", "predicted overlay")
    frames = [pictures.grid([[cell[step] for cell in cells]]) for step in steps]
    pictures.write_gif(run.folder / "steps.gif", frames, seconds=1.2)
    image, mask = data.held_out.images[trained.watched, 0], data.held_out.masks[trained.watched, 0]
    frames = [pictures.grid([[grey(image), grey(mask), grey(frame)]]) for frame in trained.epochs]
    pictures.write_gif(run.folder / "epochs.gif", frames + frames[-1:] * 4, seconds=0.3)
    curves(run, trained.fitted.history)
    run.say(f"pictures, log.txt, history.csv, metrics.json and model.npz are in {run.folder}")


def curves(run: Run, history) -> None:
    """curves.png: loss and held-out Dice and IoU by step, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return run.say("no curves.png: matplotlib is not installed")
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [epoch.step for epoch in history]
    for axes, names in ((left, ("loss", "held_out_loss")), (right, ("dice", "iou"))):
        for name in names:
            axes.plot(steps, [getattr(epoch, name) for epoch in history], label=name.replace("_", " "))
        axes.set_xlabel("step")
        axes.legend()
    right.set_ylim(0, 1)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    run.write("curves.png", content.getvalue())
