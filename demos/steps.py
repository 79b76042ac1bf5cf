"""The steps of the story that each demo tells: load the data, train, judge."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import asdict, dataclass, fields
from io import StringIO

import numpy as np
from baseline import blurred_threshold
from flags import training_fields
from run import Run

from tinyseg.checkpoint import save
from tinyseg.data import Dataset, load_folder, phantom, random_symmetry
from tinyseg.errors import InputError
from tinyseg.metrics import best_threshold, confusion
from tinyseg.networks import DilatedFCN
from tinyseg.training import Diverged, Epoch, Fitted, evaluate, fit, keep_memory, predict

HELD_OUT = 0.2  # share of the images that the network never trains on


@dataclass(frozen=True)
class Data:
    """What a run trains on, and what it is judged on."""

    train: Dataset
    held_out: Dataset


def load_data(args) -> Data:
    """Images from `--data`, or synthetic ones; a fifth of them, by whole subjects, is held out."""
    data = load_folder(args.data, args.size) if args.data else phantom(args.images, args.size, args.seed)
    if not data.masks.any():
        raise InputError(f"{args.data}: expected something to find, got {len(data)} masks that are all black")
    return Data(*data.split(HELD_OUT, np.random.default_rng(args.seed)))


@dataclass(frozen=True)
class Trained:
    """A trained network, and one held-out image's prediction after each epoch."""

    net: DilatedFCN
    fitted: Fitted
    watched: int  # which held-out image
    epochs: tuple[np.ndarray, ...]  # its probabilities (H, W), from before the first step on


def train(run: Run, net: DilatedFCN, data: Data, args) -> Trained:
    """Train, saying after each epoch how it goes, and save the network and its history."""
    keep_memory()
    rng = np.random.default_rng(args.seed)
    params, state = net.init(rng)
    nerves = data.held_out.masks.any(axis=(1, 2, 3))
    watched = int(nerves.argmax())
    image = data.held_out.images[watched : watched + 1]
    frames = [predict(net, params, state, image)[0, 0]]
    steps = args.epochs * -(-len(data.train) // args.batch)
    bar, start = _bar(steps), time.perf_counter()
    run.print = bar.write

    def on_epoch(epoch: Epoch, params, state):
        frames.append(predict(net, params, state, image)[0, 0])
        left = (time.perf_counter() - start) / epoch.step * (steps - epoch.step)
        run.say(
            f"epoch {epoch.epoch:3}/{args.epochs}  step {epoch.step:5}  loss {epoch.loss:.4f}  held out: "
            f"loss {epoch.held_out_loss:.4f}  Dice {epoch.dice:.3f}  IoU {epoch.iou:.3f}  {left:4.0f} s left"
        )

    run.say(repr(net))
    run.say(
        f"{sum(p.size for p in params.values()):,} parameters; {args.size} x {args.size} pixels; "
        f"{_count(data.train)} to train on, {_count(data.held_out)} held out; seed {args.seed}"
    )
    try:
        fitted = fit(
            net,
            params,
            state,
            data.train,
            data.held_out,
            rng=rng,
            augment=random_symmetry,
            **training_fields(args, steps),
            on_step=lambda step: bar.update(),
            on_epoch=on_epoch,
        )
    except Diverged as error:
        run.log(f"error: {error}")
        raise
    finally:
        bar.close()
        run.print = print
    if fitted.interrupted:
        run.say(
            f"stopped by Ctrl-C after {fitted.steps} of {steps} steps; what was learnt until then is kept"
        )
    save(run.folder / "model.npz", net, fitted.params, fitted.state)
    table = StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(field.name for field in fields(Epoch))
    rows.writerows(asdict(epoch).values() for epoch in fitted.history)
    run.write("history.csv", table.getvalue())
    return Trained(net, fitted, watched, tuple(frames))


def _count(data: Dataset) -> str:
    subjects = len(set(data.subjects))
    return f"{len(data)} images of {subjects} subject{'s' if subjects > 1 else ''}"


class _NoBar:
    """In place of tqdm's bar where it is not installed: the epochs' lines say how long it will take."""

    write = staticmethod(print)

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
        "seconds": round(run.seconds, 2),
        "seed": args.seed,
    }
    run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
    run.say(f"held out: Dice {counts.dice:.3f}, IoU {counts.iou:.3f} at a threshold of 0.5")
    if not (p > 0.5).any():
        run.say(
            f"Every predicted mask is black: the highest probability anywhere is {p.max():.3f}. "
            "What lies behind it is in probability.png."
        )
    run.say(
        f"at a threshold of {threshold + 0:.3f}, the best on the training images: "
        f"Dice {metrics['best_threshold_dice']:.3f}"
    )
    run.say(
        f"without a network, by the best threshold on a blurred image: Dice {metrics['baseline_dice']:.3f}"
    )
    return metrics
