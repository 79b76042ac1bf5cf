"""Train a network, and judge it on images that it has never seen.

Without --data the images are synthetic: ultrasound for the article's networks, where the nerve is the one
honeycomb beside the artery; lung CT for lungnet, of which only a part is annotated.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

from tinyseg.app.data import Data, blank_sides, crop_of, load_data
from tinyseg.app.drawing import draw
from tinyseg.app.figures import rows_of
from tinyseg.app.flags import (
    DEFAULTS,
    Parser,
    command_of,
    flags,
    folder,
    network_fields,
    optimizer_of,
    parsed,
    restored,
    saved,
    schedule_of,
)
from tinyseg.app.found import describe
from tinyseg.app.judging import judge
from tinyseg.app.progress import Progress
from tinyseg.app.report import write_report
from tinyseg.app.run import Run, flags_of, guarded, has_ended, has_state, left_behind
from tinyseg.data import Dataset, random_crop, random_symmetry
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import InputError, listed
from tinyseg.fast.memory import keep_memory
from tinyseg.io.graph import summary
from tinyseg.io.models import load, save
from tinyseg.io.preprocessing import preprocessing_of
from tinyseg.io.tiles import GB, bytes_needed, free_memory
from tinyseg.networks import DilatedFCN, lungnet, modified, original
from tinyseg.ops import median_frequency, semi_supervised
from tinyseg.training import Snapshot, begin, evaluate, fit, predict


def network(args, classes: int) -> DilatedFCN:
    """The network that the flags ask for."""
    if args.network == "lungnet":
        widths = (4 * args.maps, args.maps)  # the paper's, 128 and 32, for its 32 maps
        how = {"classes": classes, "norm": args.norm, "widths": widths}
        return lungnet(**network_fields(args) | how)
    return {"modified": modified, "original": original}[args.network](**network_fields(args))


def loss_of(args, train: Dataset):
    """What training lowers: of lungnet a loss for sparse labels, else the network's own (None)."""
    if args.network != "lungnet":
        return None
    weights = median_frequency(all_pixels(train.labels), train.classes)

    def loss(y, labels):
        return semi_supervised(y, labels, class_weights=weights, entropy_weight=args.entropy_weight)

    return loss


def augment_of(args, train: Dataset):
    """What becomes of each minibatch: crops, where images are larger; then symmetries of the square."""
    side = crop_of(args, train)
    if side is None:
        return random_symmetry
    crop = random_crop(side)
    return lambda images, labels, rng: random_symmetry(*crop(images, labels, rng), rng)


def introduce(run: Run, net: DilatedFCN, data: Data, args) -> None:
    """Say what there is, the images and the network's layers; refuse images too large for the memory."""
    run.say(describe(data, args))
    for warning in (*blank_sides(data), *data.warnings):
        run.say(f"warning: {warning}")
    side = crop_of(args, data.train)
    shape = data.train.images[0].shape[1:] if side is None else (side, side)
    run.say(f"{net}\n{summary(net, (1, net.channels, *shape))}")
    memory = args.memory * GB if args.memory else free_memory()
    for part in data.parts.values():
        for name, image in zip(part.names, part.images):
            if (needed := bytes_needed(net, *image.shape[1:])) > memory:
                raise InputError(
                    f"{name}: the network needs {needed / GB:.1f} GB to look at all of it, and "
                    f"{memory / GB:.1f} GB are allowed; a smaller --size or --maps, or --memory GB"
                )


def start(args, net: DilatedFCN, optimizer, preprocessing) -> Snapshot:
    """The snapshot before the first step: random parameters, or with --model what that model has learnt.

    Raises:
        InputError: the model is of another network, or its images were of another kind.
    """
    first = begin(net, args.seed, optimizer)
    if args.model is None or args.resume and has_state(args.out):  # which has all that the model had
        return first
    other, params, state, its = load(args.model)
    if other != net:
        raise InputError(
            f"--model {args.model}: expected {net}, got {other}; give the flags that it was trained by"
        )
    ours, theirs = ((how.channels, how.masks.values) for how in (preprocessing, its))
    if ours != theirs:
        raise InputError(
            f"--model {args.model}: expected {ours[0]} channels and the classes {ours[1]}, "
            f"got {theirs[0]} and {theirs[1]}"
        )
    return replace(first, params=params, state=state)


def train(run: Run, net: DilatedFCN, data: Data, args, first: Snapshot) -> Progress:
    """Train from the snapshot `first` on, say after each epoch how it goes, and write model.npz.

    With validation images, `args.patience` epochs without a better one end the training.
    """
    keep_memory()
    introduce(run, net, data, args)
    loss, preprocessing = loss_of(args, data.train), preprocessing_of(data.train)
    progress = Progress(run, net, data, args, first)
    epochs = fit(
        net,
        data.train,
        progress.last,
        epochs=args.epochs,
        batch=args.batch,
        optimizer=optimizer_of(args),
        schedule=schedule_of(args),
        augment=augment_of(args, data.train),
        loss=loss,
    )
    with progress:
        for last in epochs if not progress.enough else ():
            progress.epoch(last, *evaluate(net, last.params, last.state, progress.watched, loss=loss))
            if progress.enough:
                break
    kept = progress.kept
    save(run.folder / "model.npz", net, kept.params, kept.state, preprocessing)
    return progress


def show(run: Run, net: DilatedFCN, data: Data, progress: Progress, metrics: dict, args) -> None:
    """The pictures, and report.html, a page with all that there is."""
    kept, history = progress.kept, progress.history()
    p = predict(net, kept.params, kept.state, data.held_out.images)
    draw(run, p, data, metrics, history, progress.frames, progress.shown)
    title = args.network + (f", fold {args.fold[0] + 1} of {args.fold[1]}" if hasattr(args, "fold") else "")
    found, rows = describe(data, args), rows_of(run.folder / "per_image.csv")
    write_report(
        run, p, data, metrics, history, title=title, command=command_of(args), found=found, rows=rows
    )


def carry_out(args, *, quiet: bool = False) -> tuple[Run, dict]:
    """Train, judge and draw, in a run of its own; returns it, and the metrics."""
    data = load_data(args)
    net = network(args, data.train.classes)
    first = start(args, net, optimizer_of(args), preprocessing_of(data.train))
    with Run(args.out, saved(args), resume=bool(args.resume), quiet=quiet) as run:
        progress = train(run, net, data, args, first)
        how = {"steps": progress.last.step, "seed": args.seed, "curve": progress.curve}
        metrics = judge(run, net, progress.kept, data, **how, fold=hasattr(args, "fold"))
        show(run, net, data, progress, metrics, args)
    return run, metrics


def follow(args) -> dict:
    """Do what the flags say, and return the metrics."""
    if args.folds:
        from tinyseg.app.folds import cross_validate  # which needs this file

        return cross_validate(args)
    return carry_out(args)[1]


def experiment(name: str, settings: dict) -> dict:
    """One of many runs, in the folder settings["out"] / name: its figures, for a table.

    `settings` are all flags as `flags.saved` gives them, and fields of the network that are to be changed. A
    run that a lost worker left behind goes on.
    """
    args = one_of(name, settings)
    args.resume = args.out if left_behind(args.out, saved(args)) else None
    run, metrics = carry_out(args, quiet=True)
    if not run.ended:
        raise InputError("it was stopped by a signal; it goes on if the command is given again")
    return {key: metrics[key] for key in FIGURES if key in metrics} | {"seconds": round(run.seconds, 1)}


FIGURES = (
    "dice", "iou", "best_threshold", "best_threshold_dice", "max_probability", "black_masks", "baseline_dice",
    "best_epoch", "steps",
)  # fmt: skip


def one_of(name: str, settings: dict) -> argparse.Namespace:
    """The flags of one of many runs."""
    args = restored({key: value for key, value in settings.items() if key != "out"})
    args.out = Path(settings["out"]) / folder_name(name)
    return args


def is_there(name: str, settings: dict) -> bool:
    """Whether the results of such a run are in its folder."""
    args = one_of(name, settings)
    return has_ended(args.out, saved(args))


def folder_name(name: str) -> str:
    """A run's name as that of a folder."""
    return re.sub(r"[^\w.]+", "-", name).strip("-")


def parse(argv):
    """The flags: --network says which others there are, and their defaults."""
    first = Parser(add_help=False, allow_abbrev=False)
    chosen = {"choices": tuple(DEFAULTS), "default": "modified"}
    first.add_argument("--network", **chosen)
    first.add_argument("--resume", type=folder)
    known = first.parse_known_args(argv)[0]
    name = (known.resume and flags_of(known.resume) or {}).get("network", known.network)
    if name not in tuple(DEFAULTS):
        raise InputError(f"--resume {known.resume}: expected a run of {listed(DEFAULTS)}, got {name!r}")
    parser = flags(__doc__, name, f"runs/{name}", prog="tinyseg train")
    parser.add_argument("--network", help="which one (default modified); each has its own defaults, and "
                        "lungnet more flags: `tinyseg train --network lungnet --help`",
                        **chosen | {"default": name})  # fmt: skip
    return parsed(parser, argv)


@guarded
def main(argv=None):
    return follow(parse(argv))
