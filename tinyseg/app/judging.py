"""The judgement of a run: on images that were held out, beside what needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyseg.app.baseline import brightness_and_blur
from tinyseg.app.data import Data
from tinyseg.app.figures import figures, is_there, numbers, per_image, said, table_of, warnings
from tinyseg.app.run import Log
from tinyseg.data import Dataset
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import plural
from tinyseg.io.tiles import resized_to
from tinyseg.metrics import ConfusionMatrix, best_threshold, confusion_matrix, pooled
from tinyseg.training import Snapshot, most_probable, predict


@dataclass(frozen=True)
class Judged:
    """One held-out image at its file's own size."""

    counts: ConfusionMatrix  # of the most probable classes; of two, of the second above 0.5
    chosen: ConfusionMatrix  # of two classes at the threshold chosen
    baseline: ConfusionMatrix
    highest: float  # the highest probability
    black: bool  # nothing at all is found


def judge(
    run: Log,
    net,
    kept: Snapshot,
    data: Data,
    *,
    steps: int,
    seed: int,
    curve: Sequence[float] = (),
    fold: bool = False,
) -> dict:
    """Measure on the held-out images, look behind a black mask, write metrics.json and per_image.csv.

    `kept` is what the run keeps of its training, `steps` how many it made, `seed` its seed, `curve` the
    validation Dice after each epoch, `fold` whether this is one of several by which every subject is judged.
    """
    held_out, names = data.held_out, data.train.class_names
    p = predict(net, kept.params, kept.state, held_out.images)
    by_baseline = brightness_and_blur(data.train, held_out)
    validation = data.validation if data.validation and is_there(data.validation) else None
    threshold = 0.5
    if len(names) == 2:
        scores = predict(net, kept.params, kept.state, (validation or data.train).images)
        threshold, _ = best_threshold(all_pixels(scores), all_pixels((validation or data.train).labels))
    each = [judged(p[i], by_baseline[i], threshold, held_out, i) for i in range(len(held_out))]
    counts, baseline = pooled(one.counts for one in each), pooled(one.baseline for one in each)
    rows = per_image([one.counts for one in each], held_out)
    there = any(row["dice"] is not None for row in rows)
    mean = "mean " if len(names) > 2 else ""
    if validation:
        run.say(f"judged is the network of epoch {kept.epoch}, the best on the validation images")
    run.say(
        "held out: rows are true classes, columns predicted classes\n"
        + table(counts, baseline, names)
        + (
            f"\nheld out: {mean}Dice {counts.dice:.3f}, {mean}IoU {counts.iou:.3f}, "
            f"accuracy {counts.accuracy:.3f}; by brightness and a blur alone: {mean}Dice {baseline.dice:.3f}"
            if there
            else f"\nheld out: nothing is there to be found: no Dice; {falsely(counts)}"
        )
    )
    of_images = figures(rows)
    if words := said(of_images):
        run.say(words)
    metrics = {
        "dice": counts.dice if there else None,
        "iou": counts.iou if there else None,
        "accuracy": numbers([counts.accuracy])[0],
        "classes": list(names),
        "dice_of_each": numbers(counts.dice_of_each),
        "iou_of_each": numbers(counts.iou_of_each),
        "confusion": counts.counts.tolist(),
        "baseline_dice": baseline.dice if there else None,
        "best_epoch": kept.epoch,
        "steps": steps,
        "seed": seed,
    }
    if len(names) == 2:
        metrics |= behind_the_mask(run, each, threshold, "validation" if validation else "training")
    if data.truth:
        whole = confusion_matrix(most_probable(p), data.truth.labels, len(names))
        metrics["whole_dice"], metrics["whole_dice_of_each"] = whole.dice, numbers(whole.dice_of_each)
        blurred = confusion_matrix(by_baseline, data.truth.labels, len(names)).dice
        metrics["whole_baseline_dice"] = blurred
        run.say(
            f"on every pixel of the held-out images: {mean}Dice {whole.dice:.3f}; "
            f"by brightness and a blur alone: {blurred:.3f}"
        )
    metrics |= of_images
    own_split = bool(data.loaded and data.loaded.parts[0])  # which --folds does not part anew
    how = {"chosen": validation is not None, "of_all": fold or own_split, "subjects": data.subjects}
    metrics["warnings"] = [*data.warnings, *warnings(of_images, curve=curve, **how)]
    for warning in metrics["warnings"]:
        run.say(f"warning: {warning}")
    run.write("per_image.csv", table_of(rows))
    run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def at_own_size(p: np.ndarray, data: Dataset, i: int) -> tuple[np.ndarray, np.ndarray]:
    """An image's probabilities (1 or classes, H, W) and labels (H, W), both at its file's own size.

    `p` (1 or classes, h, w) is of image `i` of `data`. As `tinyseg segment` has them: so both judge alike.
    """
    if data.own_labels is None:
        return p, data.labels[i]
    labels = data.own_labels[i]
    return np.stack([resized_to(plane, labels.shape) for plane in p]), labels


def nearest(classes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Classes (h, w) at another shape: each new pixel is of the class of the old one at its place."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(classes.shape, shape))
    return classes[np.ix_(rows, columns)]


def judged(p: np.ndarray, by_baseline: np.ndarray, threshold: float, held_out: Dataset, i: int) -> Judged:
    """Held-out image `i` by its probabilities and what the baseline finds, both as the network saw it."""
    p, labels = at_own_size(p, held_out, i)
    found = most_probable(p)
    predictions = found, most_probable(p, threshold), nearest(by_baseline, labels.shape)
    counts = (confusion_matrix(one, labels, held_out.classes) for one in predictions)
    return Judged(*counts, highest=float(p.max()), black=not found.any())


def behind_the_mask(run: Log, each: Sequence[Judged], threshold: float, name: str) -> dict:
    """Of two classes: what another threshold than 0.5 finds, the best on the images of this name.

    `black_masks` is the share of the held-out images with the structure in which nothing at all is found.
    """
    chosen, highest = pooled(one.chosen for one in each), max(one.highest for one in each)
    there = chosen.counts[1].any()
    if all(one.black for one in each):
        run.say(
            f"Every predicted mask is black: the highest probability anywhere is {highest:.3f}. "
            "What lies behind it is in probability.png."
        )
    figure = f"Dice {chosen.dice:.3f}" if there else falsely(chosen)
    run.say(f"at a threshold of {plain(threshold)}, the best on the {name} images: {figure}")
    black = [one.black for one in each if one.counts.counts[1].any()]
    return {
        "best_threshold": threshold,
        "best_threshold_dice": chosen.dice if there else None,
        "max_probability": highest,
        "black_masks": float(np.mean(black)) if black else None,
    }


def falsely(counts: ConfusionMatrix) -> str:
    """In words, how much was found where nothing is."""
    false = int(counts.counts.sum() - counts.counts[:, 0].sum())
    return f"{plural(false, 'pixel')} falsely found"


def plain(number: float) -> str:
    """A number with three decimals, and 0 without a sign."""
    return f"{round(number, 3) + 0.0:.3f}"  # -0.0 + 0.0 is 0.0


def table(counts: ConfusionMatrix, baseline: ConfusionMatrix, names) -> str:
    """The confusion matrix with each class's name, IoU and Dice, and the baseline's Dice."""
    scores = zip(counts.iou_of_each, counts.dice_of_each, baseline.dice_of_each)
    rows = [["", *names, "IoU", "Dice", "baseline Dice"]]
    for name, row, three in zip(names, counts.counts, scores):
        rows.append([name, *map(str, row), *("-" if np.isnan(score) else f"{score:.3f}" for score in three)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)
