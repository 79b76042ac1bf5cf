"""The judgement of a run: on images that were held out, beside what needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from tinyseg.app.baseline import brightness_and_blur
from tinyseg.app.data import Data
from tinyseg.app.figures import figures, numbers, per_image, said, table_of, warnings
from tinyseg.app.run import Log
from tinyseg.metrics import ConfusionMatrix, best_threshold, confusion_matrix
from tinyseg.training import Snapshot, most_probable, predict


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
    found, by_baseline = most_probable(p), brightness_and_blur(data.train, held_out)
    counts = confusion_matrix(found, held_out.labels, len(names))
    baseline = confusion_matrix(by_baseline, held_out.labels, len(names))
    mean = "mean " if len(names) > 2 else ""
    if data.validation:
        run.say(f"judged is the network of epoch {kept.epoch}, the best on the validation images")
    run.say(
        "held out: rows are true classes, columns predicted classes\n"
        + table(counts, baseline, names)
        + f"\nheld out: {mean}Dice {counts.dice:.3f}, {mean}IoU {counts.iou:.3f}, "
        f"accuracy {counts.accuracy:.3f}; by brightness and a blur alone: {mean}Dice {baseline.dice:.3f}"
    )
    rows = per_image(found, held_out)
    of_images = figures(rows)
    if words := said(of_images):
        run.say(words)
    metrics = {
        "dice": counts.dice,
        "iou": counts.iou,
        "accuracy": counts.accuracy,
        "classes": list(names),
        "dice_of_each": numbers(counts.dice_of_each),
        "iou_of_each": numbers(counts.iou_of_each),
        "confusion": counts.counts.tolist(),
        "baseline_dice": baseline.dice,
        "best_epoch": kept.epoch,
        "steps": steps,
        "seed": seed,
    }
    if len(names) == 2:
        metrics |= behind_the_mask(run, net, kept, data, p)
    if data.truth:
        whole = confusion_matrix(found, data.truth.labels, len(names))
        metrics["whole_dice"], metrics["whole_dice_of_each"] = whole.dice, numbers(whole.dice_of_each)
        blurred = confusion_matrix(by_baseline, data.truth.labels, len(names)).dice
        metrics["whole_baseline_dice"] = blurred
        run.say(
            f"on every pixel of the held-out images: {mean}Dice {whole.dice:.3f}; "
            f"by brightness and a blur alone: {blurred:.3f}"
        )
    metrics |= of_images
    metrics["warnings"] = warnings(
        of_images, curve=curve, chosen=data.validation is not None, of_all=fold, subjects=data.subjects
    )
    for warning in metrics["warnings"]:
        run.say(f"warning: {warning}")
    run.write("per_image.csv", table_of(rows))
    run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def behind_the_mask(run: Log, net, kept: Snapshot, data: Data, p: np.ndarray) -> dict:
    """Of two classes: what another threshold than 0.5 finds, chosen on the validation images.

    `black_masks` is the share of the held-out images with the structure in which nothing at all is found.
    """
    chosen_by, name = (data.validation, "validation") if data.validation else (data.train, "training")
    scores = predict(net, kept.params, kept.state, chosen_by.images)[:, 0]  # (N, 1, H, W) -> (N, H, W)
    threshold, _ = best_threshold(scores, chosen_by.labels)
    there = confusion_matrix(most_probable(p, threshold), data.held_out.labels)
    if not most_probable(p).any():
        run.say(
            f"Every predicted mask is black: the highest probability anywhere is {p.max():.3f}. "
            "What lies behind it is in probability.png."
        )
    run.say(f"at a threshold of {plain(threshold)}, the best on the {name} images: Dice {there.dice:.3f}")
    somewhere = (data.held_out.labels == 1).any(axis=(1, 2))
    black = ~(p[:, 0] > 0.5).any(axis=(1, 2))  # (N, 1, H, W) -> (N,)
    return {
        "best_threshold": threshold,
        "best_threshold_dice": there.dice,
        "max_probability": float(p.max()),
        "black_masks": float(black[somewhere].mean()) if somewhere.any() else None,
    }


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
