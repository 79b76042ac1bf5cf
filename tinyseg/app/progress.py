"""What a run shows of its training: a line after each epoch, history.csv, and the frames of epochs.gif."""

from __future__ import annotations

import csv
import time
from dataclasses import astuple, dataclass, fields
from io import StringIO

import numpy as np

from tinyseg.app.data import Data
from tinyseg.app.flags import step_count
from tinyseg.app.run import Run
from tinyseg.metrics import ConfusionMatrix
from tinyseg.training import Snapshot, predict


@dataclass(frozen=True)
class Epoch:
    """A row of history.csv: what was measured after one pass over the training images."""

    epoch: int  # passes so far
    step: int  # minibatches so far
    loss: float  # mean over the epoch's minibatches
    held_out_loss: float
    dice: float  # of two classes the second one's, of more the mean
    iou: float


class Progress:
    """The history of one training, and one held-out image's probabilities after each epoch.

    `start` is the snapshot before the first step: the first frame.
    """

    def __init__(self, run: Run, net, data: Data, args, start: Snapshot):
        self.run, self.net, self.epochs, self.began = run, net, args.epochs, time.perf_counter()
        self.steps = step_count(args, len(data.train))
        self.name = "validation" if data.validation else "held out"  # the images that are looked at
        there = [len(np.unique(labels)) for labels in data.held_out.labels]
        self.watched = int(np.argmax(there))  # the first of the images in which there is most to find
        self.image = data.held_out.images[self.watched : self.watched + 1]
        self.history: list[Epoch] = []
        self.frames = [self.frame(start)]

    def frame(self, snapshot: Snapshot) -> np.ndarray:
        """The watched image's probabilities, (1 or classes, H, W)."""
        return predict(self.net, snapshot.params, snapshot.state, self.image)[0]

    def epoch(self, snapshot: Snapshot, loss: float, counts: ConfusionMatrix) -> None:
        """Say how it goes and remember it; `loss` and `counts` are of images that are only looked at."""
        at = Epoch(snapshot.epoch, snapshot.step, snapshot.loss, loss, counts.dice, counts.iou)
        left = (time.perf_counter() - self.began) / at.step * (self.steps - at.step)
        self.frames.append(self.frame(snapshot))
        self.history.append(at)
        self.run.say(
            f"epoch {at.epoch:3}/{self.epochs}  step {at.step:5}  loss {at.loss:.4f}  {self.name}: "
            f"loss {at.held_out_loss:.4f}  Dice {at.dice:.3f}  IoU {at.iou:.3f}  {left:4.0f} s left"
        )

    def stopped(self, snapshot: Snapshot) -> None:
        """Say that the user stopped the training, of which this snapshot is what there is."""
        self.run.say(
            f"stopped by Ctrl-C after {snapshot.epoch} of {self.epochs} epochs; "
            "what was learnt until then is kept"
        )

    def write(self) -> None:
        """history.csv."""
        table = StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(field.name for field in fields(Epoch))
        rows.writerows(astuple(epoch) for epoch in self.history)
        self.run.write("history.csv", table.getvalue())
