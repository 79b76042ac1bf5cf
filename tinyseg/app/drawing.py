"""The pictures of a run: the data, what was predicted, and how the training went."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from tinyseg.app.data import Data
from tinyseg.app.progress import Progress
from tinyseg.app.run import Log
from tinyseg.data import Dataset
from tinyseg.io import pictures
from tinyseg.io.pictures import grey, label_map, overlay, tinted
from tinyseg.ops import UNLABELLED
from tinyseg.training import Snapshot, most_probable, predict


def draw(run: Log, net, kept: Snapshot, data: Data, progress: Progress, metrics: dict) -> None:
    """Some held-out images with what is known and what was predicted; the data, the epochs, the curves."""
    names, chosen = data.train.class_names, choose(data.held_out)
    known = {"annotated": data.held_out, "truth": data.truth} if data.truth else {"truth": data.held_out}
    images = data.held_out.images.mean(axis=1)  # (N, channels, H, W) -> (N, H, W)
    p = predict(net, kept.params, kept.state, data.held_out.images[chosen])

    def maps(i, probabilities):
        """The label maps of held-out image i by name."""
        there = {name: part.labels[i] for name, part in known.items()}
        return there | {"prediction": most_probable(probabilities)}

    def plain(i, probabilities):
        return [grey(images[i]), *(plane(labels, len(names)) for labels in maps(i, probabilities).values())]

    def on_image(i, probabilities):
        return [on(images[i], labels, name, len(names)) for name, labels in maps(i, probabilities).items()]

    rows, overlays = ([one(*each) for each in zip(chosen, p)] for one in (plain, on_image))
    sheet(run, "masks.png", rows, names)
    sheet(run, "overlays.png", [[row[0], *over] for row, over in zip(rows, overlays)], names)
    steps = [list(column) for column in zip(*(row + over for row, over in zip(rows, overlays)))]
    animation(run, "steps.gif", [[step] for step in steps], names, seconds=1.2)
    epochs = [
        [[*plain(progress.shown, p[:1])[:-1], grey(f / 255) if len(names) == 2 else label_map(f, len(names))]]
        for _, f in progress.frames
    ]
    if len(names) == 2:  # how sure it is can be shown, too
        cut = (grey(most_probable(one, metrics["best_threshold"])) for one in p)
        soft = (grey(pictures.full_contrast(one[0], p)) for one in p)
        sheet(run, "probability.png", [[*row[:-1], *two] for row, two in zip(rows, zip(soft, cut))], names)
    animation(run, "epochs.gif", epochs + epochs[-1:] * 4, names, seconds=0.3)
    sheet(run, "data.png", contact_sheet(data.train), names)
    curves(run, progress)
    run.say(f"masks.png has, from left to right: image, {', '.join(known)}, prediction")
    run.say(f"pictures, log.txt, history.csv, metrics.json and model.npz are in {run.home}")


def plane(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels (H, W) as a picture: two classes in black and white, not annotated is grey; more in colour."""
    return grey(np.where(labels == UNLABELLED, 0.5, labels)) if classes == 2 else label_map(labels, classes)


def on(image: np.ndarray, labels: np.ndarray, name: str, classes: int) -> np.ndarray:
    """Labels (H, W) on the image: two classes with an outline, in the truth's colour or the prediction's."""
    if classes > 2:
        return tinted(image, labels, classes)
    return overlay(image, labels == 1, pictures.PREDICTION if name == "prediction" else pictures.TRUTH)


def with_legend(picture: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The picture, of more than two classes with their colours below."""
    if len(names) == 2:
        return picture
    return np.concatenate([picture, pictures.legend(names, picture.shape[1])])


def sheet(run: Log, name: str, rows: list[list[np.ndarray]], names: tuple[str, ...]) -> None:
    """Write rows of pictures as one."""
    pictures.write_image(run.folder / name, with_legend(pictures.grid(rows), names))


def animation(run: Log, name: str, frames: list, names: tuple[str, ...], *, seconds: float) -> None:
    """Write sheets as an animation."""
    sheets = [with_legend(pictures.grid(rows), names) for rows in frames]
    pictures.write_gif(run.folder / name, sheets, seconds=seconds)


def contact_sheet(data: Dataset, across: int = 6) -> list[list[np.ndarray]]:
    """The first images in two double rows: as they are, and below with what is known of them."""
    rows = []
    for start in (0, across) if len(data) >= 2 * across else (0,):
        images = data.images[start : start + across].mean(axis=1)  # (N, channels, H, W) -> (N, H, W)
        labels = data.labels[start : start + across]
        rows.append([grey(image) for image in images])
        if data.classes > 2 or (data.labels == UNLABELLED).any():
            rows.append([plane(one, data.classes) for one in labels])
        else:
            rows.append([on(image, one, "truth", 2) for image, one in zip(images, labels)])
    return rows


def choose(data: Dataset, count: int = 6) -> np.ndarray:
    """The numbers of the first images that have something to find, and of one that has nothing, if any."""
    there = ((data.labels > 0) & (data.labels != UNLABELLED)).any(axis=(1, 2))
    without = np.flatnonzero(~there)[:1]
    return np.append(np.flatnonzero(there)[: count - len(without)], without)


def curves(run: Log, progress: Progress) -> None:
    """curves.png: loss, Dice and IoU by step, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        run.say("no curves.png, because matplotlib is not installed")
        return
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    history = progress.history()
    steps = [epoch.step for epoch in history]
    for axes, name, label in (
        (left, "loss", "loss, training"),
        (left, "held_out_loss", f"loss, {progress.name}"),
        (right, "dice", f"Dice, {progress.name}"),
        (right, "iou", f"IoU, {progress.name}"),
    ):
        axes.plot(steps, [getattr(epoch, name) for epoch in history], label=label)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.legend()
    right.set_ylim(-0.03, 1.03)  # a Dice of 0 is to be seen
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    run.write("curves.png", content.getvalue())
