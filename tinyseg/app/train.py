"""Train a network, and judge it on images that it has never seen.

Without --data the images are synthetic: ultrasound for the article's networks, where the nerve is the one
honeycomb beside the artery; lung CT for lungnet, of which only a part is annotated.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyseg.app.data import Data, load_data
from tinyseg.app.drawing import draw
from tinyseg.app.flags import DEFAULTS, Parser, flags, network_fields, optimizer_of, schedule_of
from tinyseg.app.found import describe
from tinyseg.app.judging import judge
from tinyseg.app.progress import Progress
from tinyseg.app.run import Run, guarded
from tinyseg.data import Dataset, random_symmetry
from tinyseg.fast.memory import keep_memory
from tinyseg.io.graph import summary
from tinyseg.io.models import save
from tinyseg.io.preprocessing import preprocessing_of
from tinyseg.networks import DilatedFCN, lungnet, modified, original
from tinyseg.ops import median_frequency, semi_supervised
from tinyseg.training import Snapshot, begin, evaluate, fit


def network(args, classes: int) -> DilatedFCN:
    """The network that the flags ask for."""
    if args.network == "lungnet":
        widths = (4 * args.maps, args.maps)  # the paper's, 128 and 32, for its 32 maps
        how = {"channels": args.channels, "classes": classes, "norm": args.norm, "widths": widths}
        return lungnet(**network_fields(args), **how)
    return {"modified": modified, "original": original}[args.network](**network_fields(args))


def loss_of(args, train: Dataset):
    """What training lowers: of lungnet a loss for sparse labels, else the network's own (None)."""
    if args.network != "lungnet":
        return None
    weights = median_frequency(train.labels, train.classes)

    def loss(y, labels):
        return semi_supervised(y, labels, class_weights=weights, entropy_weight=args.entropy_weight)

    return loss


def introduce(run: Run, net: DilatedFCN, data: Data, args) -> None:
    """Say what there is: the images, and the network's layers."""
    run.say(describe(data, args))
    run.say(f"{net}\n{summary(net, (1, *data.train.images.shape[1:]))}")


@dataclass(frozen=True)
class Trained:
    """How a training went."""

    kept: Snapshot  # the last epoch's, or the best one's where there are images to choose it by
    last: Snapshot  # of the last whole epoch
    progress: Progress
    interrupted: bool  # by Ctrl-C


def train(run: Run, net: DilatedFCN, data: Data, args) -> Trained:
    """Train, say after each epoch how it goes, and write history.csv and the network that is kept.

    With validation images, kept is the epoch with the best Dice on them, and `args.patience` epochs without a
    better one end the training.
    """
    keep_memory()
    introduce(run, net, data, args)
    watched, loss, optimizer = data.validation or data.held_out, loss_of(args, data.train), optimizer_of(args)
    kept = last = begin(net, args.seed, optimizer)
    best, interrupted = float("-inf"), False
    progress = Progress(run, net, data, args, last)
    epochs = fit(
        net,
        data.train,
        last,
        epochs=args.epochs,
        batch=args.batch,
        optimizer=optimizer,
        schedule=schedule_of(args, len(data.train)),
        augment=random_symmetry,
        loss=loss,
    )
    try:
        for last in epochs:
            value, counts, _ = evaluate(net, last.params, last.state, watched, loss=loss)
            progress.epoch(last, value, counts)
            if not data.validation or counts.dice > best:
                kept, best = last, counts.dice
            elif last.epoch - kept.epoch >= args.patience:
                break
    except KeyboardInterrupt:
        interrupted = True
        progress.stopped(last)
    if data.validation and kept.epoch:
        run.say(f"kept is what was learnt by the end of epoch {kept.epoch}, the best on validation images")
    progress.write()
    save(run.folder / "model.npz", net, kept.params, kept.state, preprocessing_of(data.train))
    return Trained(kept, last, progress, interrupted)


def carry_out(run: Run, net: DilatedFCN, data: Data, args) -> tuple[Trained, dict]:
    """Train, judge and draw; returns what was trained, and the metrics."""
    trained = train(run, net, data, args)
    metrics = judge(run, net, trained.kept, data, steps=trained.last.step, seed=args.seed)
    draw(run, net, trained.kept, data, trained.progress, metrics)
    return trained, metrics


def follow(args) -> dict:
    """Do what the flags say, and return the metrics."""
    data = load_data(args)
    net = network(args, data.train.classes)
    with Run(args.out) as run:
        return carry_out(run, net, data, args)[1]


def parse(argv):
    """The flags: --network says which others there are, and their defaults."""
    first = Parser(add_help=False, allow_abbrev=False)
    chosen = {"choices": tuple(DEFAULTS), "default": "modified"}
    first.add_argument("--network", **chosen)
    name = first.parse_known_args(argv)[0].network
    parser = flags(__doc__, name, f"runs/{name}", prog="tinyseg train")
    parser.add_argument("--network", help="which one (default modified); each has its own defaults, and "
                        "lungnet more flags: `tinyseg train --network lungnet --help`", **chosen)  # fmt: skip
    return parser.parse_args(argv)


@guarded
def main(argv=None):
    return follow(parse(argv))
