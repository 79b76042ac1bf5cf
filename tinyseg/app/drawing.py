"""The pictures of a run: the data, what was predicted, and how the training went."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from tinyseg.app.data import Data
from tinyseg.app.judging import at_own_size, nearest, plain
from tinyseg.app.progress import Epoch
from tinyseg.app.run import Log
from tinyseg.data import Dataset
from tinyseg.data.dataset import all_pixels
from tinyseg.io import pictures
from tinyseg.io.pictures import full_contrast, grey, label_map, overlay, tinted, visible
from tinyseg.ops import UNLABELLED
from tinyseg.training import most_probable

Column = list[np.ndarray]  # pictures below each other, under one caption


def draw(
    run: Log,
    p: np.ndarray,
    data: Data,
    metrics: dict,
    history: list[Epoch],
    frames: list[tuple[int, np.ndarray]],
    watched: int,
) -> None:
    """Some held-out images with what is known and what was predicted; the data, the epochs, the curves.

    Args:
        p: the probabilities of all held-out images, (N, 1 or classes, H, W), or (N,) of (1 or classes, h, w).
        metrics: of two classes with `best_threshold`.
        frames: number of the epoch (0: before training), and what was predicted then, (H, W) uint8: of two
            classes the probability times 255, of more the class.
        watched: the number of the image that the frames are of: of validation, or held out if there is none.
    """
    names, chosen = data.train.class_names, choose(data.held_out)
    count, p = len(names), p[chosen]
    known = {"annotation": data.held_out, "truth": data.truth} if data.truth else {"truth": data.held_out}
    images = [visible(data.held_out.images[i]) for i in chosen]
    labels = {name: [part.labels[i] for i in chosen] for name, part in known.items()}  # under each caption

    def masks_at(threshold):
        """What is found at the files' own size, drawn as large as the image: (h, w) each."""
        own = (at_own_size(one, data.held_out, i)[0] for one, i in zip(p, chosen))
        return [nearest(most_probable(each, threshold), one.shape[1:]) for each, one in zip(own, p)]

    labels["prediction"] = masks_at(0.5)
    image = {"image": [grey(one) for one in images]}
    masks = {name: [plane(one, count) for one in column] for name, column in labels.items()}
    overlays = {
        f"{name} on the image": [on(*pair, name, count) for pair in zip(images, column)]
        for name, column in labels.items()
    }
    sheets = {"masks.png": image | masks, "overlays.png": image | overlays}
    if count == 2:  # how sure it is can be shown, too
        threshold, whole = metrics["best_threshold"], all_pixels(p)
        spread = (
            f"probabilities with full contrast, {plain(whole.min())} (black) to {plain(whole.max())} (white)"
        )
        sheets["probability.png"] = {
            **image,
            "truth": masks["truth"],
            spread: [grey(full_contrast(one[0], whole)) for one in p],
            f"mask at the best threshold, {plain(threshold)}": [plane(one, 2) for one in masks_at(threshold)],
        }
    for name, columns in sheets.items():
        pictures.write_image(run.folder / name, sheet(columns, names))
    pictures.write_image(run.folder / "data.png", contact_sheet(data.train))
    steps = (image | masks | overlays).items()
    row = [captioned([column], (name,), names) for name, column in steps]
    pictures.write_gif(run.folder / "steps.gif", of_one_height(row), seconds=1.2)
    looked_at = data.validation or data.held_out
    still = {"image": [grey(visible(looked_at.images[watched]))]}
    still |= {next(iter(known)): [plane(looked_at.labels[watched], count)]}
    epochs = []
    for epoch, frame in frames:
        shown = grey(frame / 255) if count == 2 else label_map(frame, count)
        epochs.append(sheet(still | {f"epoch {epoch}" if epoch else "before training": [shown]}, names))
    epochs = of_one_height(epochs)
    pictures.write_gif(run.folder / "epochs.gif", epochs + epochs[-1:] * 4, seconds=0.3)
    curves(run, history, "validation" if data.validation else "held out")
    run.say(f"pictures, log.txt, history.csv, metrics.json and model.npz are in {run.home}")


def plane(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels (H, W) as a picture: two classes in black and white, not annotated is grey; more in colour."""
    return grey(np.where(labels == UNLABELLED, 0.5, labels)) if classes == 2 else label_map(labels, classes)


def on(image: np.ndarray, labels: np.ndarray, name: str, classes: int) -> np.ndarray:
    """Labels (H, W) on the image: two classes with an outline, in the truth's colour or the prediction's."""
    if classes > 2:
        return tinted(image, labels, classes)
    return overlay(image, labels == 1, pictures.PREDICTION if name == "prediction" else pictures.TRUTH)


def captioned(rows: list[list[np.ndarray]], captions: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """Rows of pictures as one, captions above; of more than two classes with their colours below."""
    picture = pictures.grid(rows, names=captions)
    if len(names) == 2:
        return picture
    return np.concatenate([picture, pictures.legend(names, picture.shape[1])])


def sheet(columns: dict[str, Column], names: tuple[str, ...]) -> np.ndarray:
    """Columns of pictures as one, each under its caption."""
    return captioned([list(row) for row in zip(*columns.values())], tuple(columns), names)


def of_one_height(frames: list[np.ndarray]) -> list[np.ndarray]:
    """The frames with white above, where a caption of fewer lines makes one lower."""
    most = max(map(len, frames))
    return [np.pad(one, ((most - len(one), 0), (0, 0), (0, 0)), constant_values=255) for one in frames]


def contact_sheet(data: Dataset, across: int = 3) -> np.ndarray:
    """The first twelve images, or fewer, so many across, and beside each what is known of it."""
    sparse = any((one == UNLABELLED).any() for one in data.labels)
    many = data.classes > 2 or sparse
    images = [visible(image) for image in data.images[: 4 * across]]
    pairs = [
        (grey(image), plane(one, data.classes) if many else on(image, one, "truth", 2))
        for image, one in zip(images, data.labels)
    ]
    across = min(across, len(pairs))
    rows = [
        [picture for pair in pairs[start : start + across] for picture in pair]
        for start in range(0, len(pairs) - across + 1, across)  # every row is full
    ]
    what = "truth on the image" if not many else "annotation" if sparse else "truth"
    return captioned(rows, ("image", what) * across, data.class_names)


def choose(data: Dataset, count: int = 6) -> np.ndarray:
    """The numbers of the first images that have something to find, and of one that has nothing, if any."""
    there = np.array([((one > 0) & (one != UNLABELLED)).any() for one in data.labels], bool)
    without = np.flatnonzero(~there)[:1]
    return np.append(np.flatnonzero(there)[: count - len(without)], without)


def curves(run: Log, history: list[Epoch], name: str) -> None:
    """curves.png: loss, Dice and IoU by step, where matplotlib is installed; `name` says of which images."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        run.say("no curves.png, because matplotlib is not installed")
        return
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [epoch.step for epoch in history]
    for axes, field, label in (
        (left, "loss", "loss, training"),
        (left, "val_loss", f"loss, {name}"),
        (right, "val_dice", f"Dice, {name}"),
        (right, "val_iou", f"IoU, {name}"),
    ):
        axes.plot(steps, [getattr(epoch, field) for epoch in history], label=label)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.legend()
    right.set_ylim(-0.03, 1.03)  # a Dice of 0 is to be seen
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    run.write("curves.png", content.getvalue())
