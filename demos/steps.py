"""The first steps of the story that each demo tells: load the data, train."""

from __future__ import annotations

import csv
import time
from dataclasses import asdict, dataclass, fields
from io import StringIO

import numpy as np
from flags import training_fields
from found import describe
from run import Run, progress

from tinyseg.checkpoint import save
from tinyseg.data import Dataset, annotate, load_folder, lung_ct, phantom, random_symmetry
from tinyseg.errors import InputError, listed
from tinyseg.networks import DilatedFCN
from tinyseg.ops import UNLABELLED
from tinyseg.training import Diverged, Epoch, Fitted, fit, keep_memory, predict

HELD_OUT = 0.2  # share of the images that the network never trains on


@dataclass(frozen=True)
class Data:
    """What a run trains on, and what it is judged on."""

    train: Dataset
    held_out: Dataset
    validation: Dataset | None = None  # what the best epoch is chosen by; None: no epoch is chosen
    truth: Dataset | None = None  # held out, with every pixel's class; None: nobody knows it


def load_data(args) -> Data:
    """Images with masks from `--data`, or synthetic ones; a fifth of them, by whole subjects, is held out."""
    data = load_folder(args.data, args.size) if args.data else phantom(args.images, args.size, args.seed)
    if not data.masks.any():
        raise InputError(f"{args.data}: expected something to find, got {len(data)} masks that are all black")
    return Data(*data.split(HELD_OUT, np.random.default_rng(args.seed)))


def load_label_maps(args) -> Data:
    """Images with label maps from `--data`, or synthetic ones; a fifth is held out, another to choose by."""
    if args.data:
        truth, data = None, load_folder(args.data, args.size, channels=args.channels, label_maps=True)
    elif args.channels == 1:
        truth = lung_ct(args.images, args.size, args.seed)
        data = annotate(truth, args.seed)
    else:
        raise InputError("--channels 3: expected colour images from --data, got none; CT is grey")
    if (subjects := len(set(data.subjects))) < 3:
        raise InputError(
            f"{args.data}: expected at least 3 subjects, to train, to choose the best epoch and to judge, "
            f"got {subjects}"
        )
    rest, held_out = data.split(HELD_OUT, np.random.default_rng(args.seed))
    if len(set(rest.subjects)) < 2:
        raise InputError(
            f"{args.data}: expected subjects of like numbers of images, got one with so many that none is "
            f"left to choose by; another --seed than {args.seed} splits them otherwise"
        )
    train, validation = rest.split(HELD_OUT / (1 - HELD_OUT), np.random.default_rng(args.seed))
    for name, part in (("train on", train), ("choose the best epoch by", validation), ("judge by", held_out)):
        if (part.masks == UNLABELLED).all():
            raise InputError(
                f"{args.data}: expected annotated pixels to {name}, got none in {listed(part.names)}"
            )
    whole = (
        truth and truth.split(HELD_OUT, np.random.default_rng(args.seed))[1]
    )  # the same slices as held out
    return Data(train, held_out, validation, whole)


@dataclass(frozen=True)
class Trained:
    """A trained network, and one held-out image's prediction after each epoch."""

    net: DilatedFCN
    fitted: Fitted
    watched: int  # which held-out image
    epochs: tuple[np.ndarray, ...]  # its probabilities (1 or classes, H, W), from before the first step on


def train(run: Run, net: DilatedFCN, data: Data, args, **how) -> Trained:
    """Train, saying after each epoch how it goes, and save the network and its history.

    `how` are arguments of `training.fit` that are not flags of every demo: the loss, patience.
    """
    keep_memory()
    rng = np.random.default_rng(args.seed)
    params, state = net.init(rng)
    found = [len(np.unique(mask)) for mask in data.held_out.masks]
    watched = int(np.argmax(found))  # the first of those in which there is most to find
    image = data.held_out.images[watched : watched + 1]
    frames = [predict(net, params, state, image)[0]]
    steps = args.epochs * -(-len(data.train) // args.batch)
    seen = "validation" if data.validation else "held out"
    bar, start = progress(steps, "step"), time.perf_counter()
    run.print = bar.write

    def on_epoch(epoch: Epoch, params, state):
        frames.append(predict(net, params, state, image)[0])
        left = (time.perf_counter() - start) / epoch.step * (steps - epoch.step)
        run.say(
            f"epoch {epoch.epoch:3}/{args.epochs}  step {epoch.step:5}  loss {epoch.loss:.4f}  {seen}: "
            f"loss {epoch.held_out_loss:.4f}  Dice {epoch.dice:.3f}  IoU {epoch.iou:.3f}  {left:4.0f} s left"
        )

    run.say(describe(data, args))
    run.say(repr(net))
    run.say(f"{sum(p.size for p in params.values()):,} parameters; seed {args.seed}")
    try:
        fitted = fit(
            net,
            params,
            state,
            data.train,
            data.validation or data.held_out,
            rng=rng,
            augment=random_symmetry,
            **training_fields(args, steps),
            **how,
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
    if data.validation and fitted.best:
        run.say(f"kept is what was learnt by the end of epoch {fitted.best}, the best on validation images")
    save(run.folder / "model.npz", net, fitted.params, fitted.state, data.train.preprocessing)
    table = StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(field.name for field in fields(Epoch))
    rows.writerows(asdict(epoch).values() for epoch in fitted.history)
    run.write("history.csv", table.getvalue())
    return Trained(net, fitted, watched, tuple(frames))
