"""The pictures of a run: the data, what was predicted, and how the training went."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from run import Run
from steps import Data, Trained

from tinyseg import pictures
from tinyseg.data import Dataset
from tinyseg.inference import most_probable
from tinyseg.pictures import grey, label_map, overlay
from tinyseg.training import predict


def draw(run: Run, trained: Trained, data: Data, metrics: dict) -> None:
    """The article's pictures of some held-out images, the data, the probability maps, and the curves."""
    shown = choose(data.held_out)
    p = predict(trained.net, trained.fitted.params, trained.fitted.state, shown.images)
    cells = [
        {
            "image": grey(image),
            "truth": grey(mask),
            "prediction": grey(probability > 0.5),
            "true overlay": overlay(image, mask, pictures.TRUTH),
            "predicted overlay": overlay(image, probability > 0.5, pictures.PREDICTION),
            "probability": grey(pictures.stretched(probability, p)),
            "best threshold": grey(probability > metrics["best_threshold"]),
        }
        for image, mask, probability in zip(shown.images[:, 0], shown.masks[:, 0], p[:, 0])
    ]
    for name, columns in {
        "masks.png": ("image", "truth", "prediction"),
        "overlays.png": ("image", "true overlay", "predicted overlay"),
        "probability.png": ("image", "truth", "probability", "best threshold"),
    }.items():
        pictures.write_image(run.folder / name, pictures.grid([[cell[c] for c in columns] for cell in cells]))
    steps = ("image", "truth", "prediction", "true overlay", "predicted overlay")
    frames = [pictures.grid([[cell[step] for cell in cells]]) for step in steps]
    pictures.write_gif(run.folder / "steps.gif", frames, seconds=1.2)
    image, mask = data.held_out.images[trained.watched, 0], data.held_out.masks[trained.watched, 0]
    epochs(run, [[grey(image), grey(mask), grey(frame[0])] for frame in trained.epochs])
    pictures.write_image(run.folder / "data.png", contact_sheet(data.train))
    curves(run, trained.fitted.history)
    run.say(f"pictures, log.txt, history.csv, metrics.json and model.npz are in {run.folder}")


def draw_label_maps(run: Run, trained: Trained, data: Data) -> None:
    """Label maps in colour of some held-out images beside what is known, the data, and the curves."""
    names = data.train.preprocessing.names
    known = [("annotated", data.held_out)] + ([("truth", data.truth)] if data.truth else [])
    shown = range(min(6, len(data.held_out)))
    p = predict(trained.net, trained.fitted.params, trained.fitted.state, data.held_out.images[shown])

    def row(i, prediction):
        maps = [part.masks[i, 0] for _, part in known] + [prediction]
        return [grey(data.held_out.images[i].mean(axis=0)), *(label_map(m, len(names)) for m in maps)]

    sheets = {
        "label_maps.png": pictures.grid([row(i, most_probable(p[i])) for i in shown]),
        "data.png": contact_sheet(data.train),
    }
    for name, sheet in sheets.items():
        below = pictures.legend(names, sheet.shape[1])
        pictures.write_image(run.folder / name, np.concatenate([sheet, below]))
    epochs(run, [row(trained.watched, most_probable(frame)) for frame in trained.epochs])
    curves(run, trained.fitted.history, "validation")
    run.say(f"label_maps.png has, from left to right: image, {', '.join(n for n, _ in known)}, prediction")
    run.say(f"pictures, log.txt, history.csv, metrics.json and model.npz are in {run.folder}")


def epochs(run: Run, rows: list[list[np.ndarray]]) -> None:
    """epochs.gif: a row of pictures from before training and after each epoch."""
    frames = [pictures.grid([row]) for row in rows]
    pictures.write_gif(run.folder / "epochs.gif", frames + frames[-1:] * 4, seconds=0.3)


def contact_sheet(data: Dataset, across: int = 6) -> np.ndarray:
    """The first images in two double rows: as they are, and below with their true masks or label maps."""
    rows, classes = [], len(data.preprocessing.names)
    for start in (0, across) if len(data) >= 2 * across else (0,):
        images = data.images[start : start + across].mean(axis=1)  # (N, channels, H, W) -> (N, H, W)
        masks = data.masks[start : start + across, 0]
        rows.append([grey(image) for image in images])
        if data.label_maps:
            rows.append([label_map(mask, classes) for mask in masks])
        else:
            rows.append([overlay(image, mask, pictures.TRUTH) for image, mask in zip(images, masks)])
    return pictures.grid(rows)


def choose(data: Dataset, count: int = 6) -> Dataset:
    """The first images that have something to find, and one that has nothing, if there is one."""
    there = data.masks.any(axis=(1, 2, 3))
    without = np.flatnonzero(~there)[:1]
    return data.take(np.append(np.flatnonzero(there)[: count - len(without)], without))


def curves(run: Run, history, watched: str = "held out") -> None:
    """curves.png: loss, Dice and IoU by step on the images `watched`, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        run.say("no curves.png, because matplotlib is not installed")
        return
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [epoch.step for epoch in history]
    for axes, name, label in (
        (left, "loss", "loss, training"),
        (left, "held_out_loss", f"loss, {watched}"),
        (right, "dice", f"Dice, {watched}"),
        (right, "iou", f"IoU, {watched}"),
    ):
        axes.plot(steps, [getattr(epoch, name) for epoch in history], label=label)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.legend()
    right.set_ylim(-0.03, 1.03)  # a Dice of 0 is to be seen
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    run.write("curves.png", content.getvalue())
