"""What the tests of pictures and of the page share: a small training, its probabilities and its judgement."""

from dataclasses import dataclass

import numpy as np

from tinyseg import begin, evaluate, fit, predict
from tinyseg.app.data import Data, load_data
from tinyseg.app.flags import flags
from tinyseg.app.judging import judge
from tinyseg.app.progress import Epoch
from tinyseg.app.run import Log
from tinyseg.app.train import loss_of, network
from tinyseg.training import most_probable


@dataclass(frozen=True)
class Small:
    """What `draw` and `write_report` take."""

    run: Log
    p: np.ndarray
    data: Data
    metrics: dict
    history: list[Epoch]
    frames: list[tuple[int, np.ndarray]]


def train_small(folder, name="modified", *more) -> Small:
    """Train a network of that name on ten images for two epochs."""
    sizes = ["--images", "10", "--size", "16", "--epochs", "2", "--maps", "1", "--dilations", "1,2"]
    args = flags("", name, "unused").parse_args([*sizes, *more])
    data, run = load_data(args), Log(folder, quiet=True)
    net, loss, history = network(args, data.train.classes), loss_of(args, data.train), []
    shown = [start := begin(net, args.seed)]
    for last in fit(net, data.train, start, epochs=args.epochs, batch=4, loss=loss):
        value, counts, _ = evaluate(net, last.params, last.state, data.held_out, loss=loss)
        history.append(Epoch(last.epoch, last.step, last.loss, value, counts.dice, counts.iou, counts.dice))
        shown.append(last)
    p = [predict(net, one.params, one.state, data.held_out.images) for one in shown]
    metrics = judge(run, net, last, data, steps=last.step, seed=args.seed)
    levels = [np.rint(one[0, 0] * 255) if net.classes == 2 else most_probable(one[0]) for one in p]
    frames = [(epoch, np.uint8(np.clip(one, 0, 255))) for epoch, one in enumerate(levels)]
    return Small(run, p[-1], data, metrics, history, frames)
