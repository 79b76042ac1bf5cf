"""The last step of each demo's story: judge on images that were held out, beside what needs no network."""

from __future__ import annotations

import json

import numpy as np
from baseline import blurred_threshold, brightness_and_blur
from run import Run
from steps import Data, Trained

from tinyseg.inference import most_probable
from tinyseg.metrics import ConfusionMatrix, best_threshold, confusion, confusion_matrix
from tinyseg.training import evaluate, predict


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


def judge_label_maps(run: Run, trained: Trained, data: Data, args) -> dict:
    """Measure on the held-out images, beside a baseline without a network, and write metrics.json."""
    net, fitted = trained.net, trained.fitted
    names = data.train.preprocessing.names
    p = predict(net, fitted.params, fitted.state, data.held_out.images)
    prediction = np.stack([most_probable(maps) for maps in p])[:, None]  # (N, H, W) -> (N, 1, H, W)
    counts = confusion_matrix(prediction, data.held_out.masks, net.classes)
    by_baseline = brightness_and_blur(data.train, data.held_out)
    baseline = confusion_matrix(by_baseline, data.held_out.masks, net.classes)
    metrics = {
        "mean_dice": counts.dice,
        "mean_iou": counts.iou,
        "accuracy": counts.accuracy,
        "baseline_mean_dice": baseline.dice,
        "classes": names,
        "dice": counts.each("dice"),
        "iou": counts.each("iou"),
        "confusion": counts.counts.tolist(),
    }
    run.say(
        "held out, annotated pixels: rows are the truth, columns what they were taken for\n"
        + table(counts, baseline, names)
    )
    run.say(
        f"accuracy {counts.accuracy:.3f}, mean IoU {counts.iou:.3f}, mean Dice {counts.dice:.3f}; "
        f"by brightness and a blur alone: mean Dice {baseline.dice:.3f}"
    )
    if data.truth:
        whole = confusion_matrix(prediction, data.truth.masks, net.classes)
        metrics["whole_mean_dice"] = whole.dice
        metrics["whole_dice"] = whole.each("dice")
        metrics["whole_baseline_mean_dice"] = confusion_matrix(
            by_baseline, data.truth.masks, net.classes
        ).dice
        run.say(
            f"on every pixel of the held-out images: mean Dice {whole.dice:.3f}; "
            f"by brightness and a blur alone: {metrics['whole_baseline_mean_dice']:.3f}"
        )
    metrics |= {"best_epoch": fitted.best, "steps": fitted.steps, "seconds": round(run.seconds, 2)}
    metrics["seed"] = args.seed
    run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def table(counts: ConfusionMatrix, baseline: ConfusionMatrix, names) -> str:
    """The confusion matrix with each class's name, IoU and Dice, and the baseline's Dice."""
    scores = zip(counts.each("iou"), counts.each("dice"), baseline.each("dice"))
    rows = [["", *names, "IoU", "Dice", "baseline's"]]
    for name, row, three in zip(names, counts.counts, scores):
        rows.append([name, *map(str, row), *("-" if score is None else f"{score:.3f}" for score in three)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)
