"""What becomes of each epoch: a line on the screen, a row of history.csv, a frame, and a state to go on from.

The state is on disk, whole, before the next epoch begins. With it a training goes on after a kill as if
nothing had happened: it ends with the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import sys
import time
from dataclasses import asdict, astuple, dataclass, fields
from io import StringIO

import numpy as np

from tinyseg.app.data import Data
from tinyseg.app.figures import is_there
from tinyseg.app.run import FINITE, HISTORY, LOG, STATE, Run
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import InputError, brief
from tinyseg.io.checkpoint import alike, read_checkpoint, write_checkpoint
from tinyseg.io.files import append
from tinyseg.io.models import mismatch, save
from tinyseg.io.preprocessing import preprocessing_of
from tinyseg.metrics import ConfusionMatrix, best_threshold
from tinyseg.training import ADVICE, Diverged, Snapshot, most_probable, predict

FRAMES = 64  # of epochs.gif at most, however long the training


@dataclass(frozen=True)
class Epoch:
    """A row of history.csv: what was measured after one pass over the training images."""

    epoch: int  # passes so far
    step: int  # minibatches so far
    loss: float  # mean over the epoch's minibatches
    val_loss: float  # of the validation images; where there are none, of the held-out ones
    val_dice: float  # on these: of two classes the second one's, of more the mean
    val_iou: float
    val_best_dice: float  # of two classes at the best threshold


class Progress:
    """How one training goes, and what is kept of it.

    `last` is the snapshot to start from: `start`, or where the run was killed or stopped. `kept` is what the
    run keeps: with validation images the epoch that did best on them, else the last one. Best means the
    highest Dice; of two classes, the highest mean of two: of the Dice at 0.5, which is what masks show, and
    of that at the best threshold, so that a mask that is still black counts by what is behind it. Of equal
    ones the later counts. Where nothing is there to be found, no epoch has a Dice: NaN, and the last one is
    kept.

    As a context it turns a stop (Ctrl-C, or a signal) into a line: the loop ends, the program goes on. A
    training that diverges leaves the last finite model behind.
    """

    def __init__(self, run: Run, net, data: Data, args, start: Snapshot):
        self.run, self.net, self.data, self.epochs, self.began = (
            run,
            net,
            data,
            args.epochs,
            time.perf_counter(),
        )
        self.watched, self.name = data.held_out, "held out"  # the images that are looked at
        if data.validation:
            self.watched, self.name = data.validation, "validation"
        self.there = is_there(self.watched)
        found = [len(np.unique(labels)) for labels in self.watched.labels]
        self.shown = int(np.argmax(found))  # the first of these in which there is most to find
        self.patience = getattr(args, "patience", float("inf"))
        self.last = self.kept = start
        self.best = float("-inf")
        self.frames = [(start.epoch, self.frame(start))]
        self.data_digest = digest(data)
        if (run.folder / STATE).exists():
            self.restore()
        self.first = self.last.step

    def frame(self, snapshot: Snapshot) -> np.ndarray:
        """What is predicted of the shown image, (H, W) uint8: 255 times the probability, or the classes."""
        p = predict(self.net, snapshot.params, snapshot.state, self.watched.images[self.shown][None])[0]
        return np.rint(255 * p[0]).astype(np.uint8) if len(p) == 1 else most_probable(p)

    def epoch(self, snapshot: Snapshot, loss: float, counts: ConfusionMatrix, p: np.ndarray) -> None:
        """Say how it goes, and remember it: `training.evaluate` of the images that are only looked at.

        Raises:
            Diverged: their loss is not finite.
            InputError: the state cannot be saved; the last one is there still.
        """
        if not np.isfinite(loss):
            raise Diverged(f"step {snapshot.step}: the loss, {self.name}, became {loss}. {ADVICE}")
        kept, best = self.kept, self.best
        dice, iou, behind = (counts.dice, counts.iou, counts.dice) if self.there else (float("nan"),) * 3
        if self.there and len(p[0]) == 1:
            behind = best_threshold(all_pixels(p), all_pixels(self.watched.labels))[1]
        score = (dice + behind) / 2
        if not self.data.validation or not score < best:  # a NaN is not
            kept, best = snapshot, score
        frames = self.with_frame(snapshot)
        at = Epoch(snapshot.epoch, snapshot.step, snapshot.loss, loss, dice, iou, behind)
        self.run.saving = True
        try:
            head = row(field.name for field in fields(Epoch)) if at.epoch == 1 else ""
            append(self.run.folder / HISTORY, head + row(astuple(at)))
            share = (at.step - self.first) / at.step * at.epoch / self.epochs  # this process's, of all steps
            left = (time.perf_counter() - self.began) * (1 - at.epoch / self.epochs) / share
            scores = (
                f"Dice {dice:.3f}  IoU {iou:.3f}" if self.there else "nothing is there to be found: no Dice"
            )
            self.run.say(
                f"epoch {at.epoch:3}/{self.epochs}  step {at.step:5}  loss {at.loss:.4f}  {self.name}: "
                f"loss {at.val_loss:.4f}  {scores}  {left:4.0f} s left"
            )
            write_checkpoint(
                self.run.folder / STATE,
                {
                    "version": 1,
                    "data": self.data_digest,
                    "last": asdict(snapshot),
                    "kept": None if kept is snapshot else asdict(kept),
                    "best": best,
                    "frames": frames,
                    "lengths": self.run.lengths(),
                },
            )
            self.last, self.kept = snapshot, kept  # the epoch counts, since it is saved
            self.best, self.frames = best, frames
            self.run.epoch = snapshot.epoch
        finally:
            self.run.saving = False
        self.run.check()

    def with_frame(self, snapshot: Snapshot) -> list[tuple[int, np.ndarray]]:
        """The frames and one more; of too many every second one goes."""
        frames, every = list(self.frames), 1
        if frames[1:]:
            every = frames[1][0] - frames[0][0]
        if frames[-1][0] % every:
            frames.pop()  # it was the latest, no more
        frames.append((snapshot.epoch, self.frame(snapshot)))
        if len(frames) > FRAMES:
            frames = [(epoch, frame) for epoch, frame in frames if epoch % (2 * every) == 0]
        return frames

    def restore(self) -> None:
        """Go on where the state was saved.

        Raises:
            InputError: it is of another training, or of none.
        """
        path = self.run.folder / STATE
        state = read_checkpoint(path)
        begun = asdict(self.last) | {"losses": [0.0]}
        like = {"version": 1, "data": "", "last": begun, "kept": begun, "best": 0.0, "frames": self.frames}
        like["lengths"] = {LOG: 0, HISTORY: 0}
        try:
            if state["version"] != 1:
                raise InputError(
                    f"{path}: of format version {state['version']}; this tinyseg reads version 1"
                )
            if state["data"] != self.data_digest:
                raise InputError(f"{path}: the images are not those that the training began with")
            if found := mismatch(self.net, state["last"]["params"] | state["last"]["state"]):
                raise InputError(f"{path}: of another network: {found}")
            state["kept"] = state["last"] if state["kept"] is None else state["kept"]
            alike(state, like)
            last, epochs = Snapshot(**state["last"]), [epoch for epoch, _ in state["frames"]]
            in_turn = epochs == sorted({*epochs}) and epochs[-1:] == [last.epoch]
            if not in_turn or not 0 < last.epoch <= last.step < sys.maxsize:
                raise ValueError(f"epoch {last.epoch} after {last.step} steps, with frames of {epochs}")
            np.random.default_rng().bit_generator.state = last.rng  # a ValueError, if it is none
            self.run.cut(state["lengths"])
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, OSError) as error:
            raise InputError(f"{path}: not the state of a training ({brief(error)})") from None
        self.last, self.kept = last, Snapshot(**state["kept"])
        self.best, self.frames, self.run.epoch = state["best"], state["frames"], last.epoch

    @property
    def enough(self) -> bool:
        """Whether too many epochs went by without a better one."""
        return self.last.epoch - self.kept.epoch >= self.patience

    @property
    def curve(self) -> list[float]:
        """The validation Dice after each epoch."""
        return [epoch.val_dice for epoch in self.history()] if self.data.validation else []

    def history(self) -> list[Epoch]:
        """What history.csv holds."""
        with open(self.run.folder / HISTORY, newline="") as file:
            rows = list(csv.DictReader(file))
        kinds = {"epoch": int, "step": int}
        return [Epoch(**{name: kinds.get(name, float)(text) for name, text in row.items()}) for row in rows]

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind, error, trace) -> bool:
        run, epoch = self.run, self.last.epoch
        if isinstance(error, OverflowError):  # of a norm, on images that are only looked at
            error = Diverged(f"after epoch {epoch}: {error}. {ADVICE}")
        if isinstance(error, Diverged) and epoch:
            save(
                run.folder / FINITE,
                self.net,
                self.last.params,
                self.last.state,
                preprocessing_of(self.data.train),
            )
            raise Diverged(
                f"{error} What was learnt by epoch {epoch} is kept: "
                f"--model {run.folder / FINITE} trains on from it"
            ) from None
        if isinstance(error, KeyboardInterrupt) and epoch:
            by = {"SIGINT": "Ctrl-C", None: "Ctrl-C"}.get(run.stopped, run.stopped)
            run.stopped = None  # from here on, the next one counts
            run.say(
                f"stopped by {by} after {epoch} of {self.epochs} epochs; "
                f"what was learnt until then is kept, and `--resume {run.home}` goes on from there"
            )
            return True
        if isinstance(error, Diverged):
            raise error from None
        run.ended = error is None
        return False


def row(values) -> str:
    """A line of a CSV file."""
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def digest(data: Data) -> str:
    """A fingerprint of all images and labels, which must be the same for a training to go on."""
    found = hashlib.sha256()
    for part in filter(None, (data.train, data.validation, data.held_out)):
        for arrays in (part.images, part.labels):
            for array in arrays if arrays.dtype == object else [arrays]:
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
        found.update("\0".join((*part.names, *part.class_names)).encode(errors="surrogateescape"))
    return found.hexdigest()
