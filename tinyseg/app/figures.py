"""What the figures of a run are worth: by image and by subject, their spread, and what to be warned of.

Pixels of one image are alike, and so are images of one subject: what was drawn by chance are subjects. So
the interval of a mean comes from a bootstrap over subjects: draw as many of them as there are, with
replacement, and take the mean; do so ten thousand times; the middle 95% of these means are the interval
(B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: the percentile interval).

A *row* is a dict that tells of one held-out image: `name`, `subject`, `dice`, `iou`, and how many pixels are
`right` (TP), `false` (FP: falsely found) and `missed` (FN). Of two classes these are the structure's. Of more
there are columns for each class: `dice CLASS`, `right CLASS` and so on. All figures are made of rows, and
per_image.csv holds them.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from itertools import chain
from pathlib import Path

import numpy as np

from tinyseg.data import Dataset
from tinyseg.errors import InputError, listed, plural
from tinyseg.metrics import ConfusionMatrix
from tinyseg.ops import UNLABELLED

RESAMPLES, AT_ONCE = 10_000, 100  # a hundred resamples at a time, so that they take little memory
SEED = 0  # the bootstrap's own: the same rows give the same bytes
KINDS = ("right", "false", "missed")
FEW = 5  # subjects; fewer make an interval that means nothing
NOISY = 0.05  # standard deviation of the validation Dice about its trend


# Rows, and the file that holds them


def per_image(counts: Sequence[ConfusionMatrix], held_out: Dataset) -> list[dict]:
    """A row for each image, by the counts of its pixels.

    An image in which nothing is there has no Dice: it is None. Of two classes that is an image without the
    structure, of more one without annotated pixels.
    """
    rows, names = [], held_out.class_names
    for name, subject, of_it in zip(held_out.names, held_out.subjects, counts, strict=True):
        right, taken, there = of_it.counts.diagonal(), of_it.counts.sum(axis=0), of_it.counts.sum(axis=1)
        tallies = np.stack([right, taken - right, there - right], axis=1).tolist()  # 3 of (C,) -> (C, 3)
        columns = dict(zip(KINDS, tallies[1]))
        if len(names) > 2:
            columns = {f"dice {one}": dice for one, dice in zip(names, numbers(of_it.dice_of_each))}
            for one, tally in zip(names, tallies):
                columns |= {f"{kind} {one}": pixels for kind, pixels in zip(KINDS, tally)}
        dice, iou = dice_and_iou([columns])
        rows.append({"name": name, "subject": subject, "dice": dice, "iou": iou, **columns})
    return rows


def is_there(data: Dataset) -> bool:
    """Whether anything is there to be found: of two classes the structure, of more annotated pixels."""
    return any((one == 1 if data.classes == 2 else one != UNLABELLED).any() for one in data.labels)


def table_of(rows: list[dict]) -> str:
    """The rows as CSV, None as nothing; a name may hold any character."""
    table = StringIO()
    writer = csv.DictWriter(table, list(rows[0]))  # ends lines by \r\n: so it quotes a name that holds either
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def rows_of(path: str | Path) -> list[dict]:
    """The rows of a per_image.csv, as `per_image` gave them.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = list(csv.reader(file))
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        names, *rows = lines
        rows = [{name: _value(name, text) for name, text in zip(names, row, strict=True)} for row in rows]
        for row in rows:
            if {*map(_kind, row)} != {"name", "subject", "dice", "iou", *KINDS}:
                raise ValueError
    except ValueError:
        raise InputError(
            f"{path}: expected a run's per_image.csv, with the columns name, subject, dice, iou, "
            f"{', '.join(KINDS)}, got {listed(chain.from_iterable(lines), 8) or 'nothing'}"
        ) from None
    return rows


def _kind(column: str) -> str:
    return column.partition(" ")[0]


def _value(column: str, text: str):
    if column in ("name", "subject"):
        return text
    if _kind(column) in KINDS:
        return int(text)
    return float(text) if text else None


# Figures


def numbers(scores: np.ndarray) -> list[float | None]:
    """Scores for JSON, which has no NaN."""
    return [None if np.isnan(score) else float(score) for score in scores]


def dice_and_iou(rows: list[dict]) -> tuple[float | None, float | None]:
    """Both of all pixels of the rows together, or None of nothing that is there.

    Of more than two classes they are means over the classes that are there or were found.
    """
    tallies = [[[n for column, n in row.items() if _kind(column) == kind] for kind in KINDS] for row in rows]
    right, false, missed = np.sum(tallies, axis=0)  # (rows, 3, classes) -> (3, classes)
    if not (right + missed).any():
        return None, None
    some = right + false + missed > 0
    right, wrong = right[some], (false + missed)[some]
    return float(np.mean(2 * right / (2 * right + wrong))), float(np.mean(right / (right + wrong)))


def by_subject(rows: list[dict]) -> dict[str, list[dict]]:
    """The rows of each subject."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["subject"], []).append(row)
    return groups


def interval(groups: list[list[float]]) -> list[float] | None:
    """The 95% bootstrap interval of the mean of all numbers, which come in groups: whole groups are drawn.

    None of fewer than two groups. A group is not empty.
    """
    if len(groups) < 2:
        return None
    totals = np.array([(sum(group), len(group)) for group in groups])  # (groups, 2)
    rng, means = np.random.default_rng(SEED), []
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = rng.integers(len(groups), size=(AT_ONCE, len(groups)))
        sums, counts = totals[drawn].sum(axis=1).T  # (AT_ONCE, groups, 2) -> (2, AT_ONCE)
        means.append(sums / counts)
    return np.percentile(np.concatenate(means), [2.5, 97.5]).tolist()


def spread(values: Sequence[float]) -> dict:
    """Mean and standard deviation (ddof=1), None where there are too few for it."""
    return {
        "mean": float(np.mean(values)) if len(values) else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def figures(rows: list[dict]) -> dict:
    """Dice and IoU by image and by subject, and what was found where nothing is; for metrics.json.

    A subject's Dice is of all pixels of its images together. Images and subjects in which nothing is there
    have none: they are left out of the means, and counted under `empty`.
    """
    groups = by_subject(rows)
    of_each = {subject: dict(zip(("dice", "iou"), dice_and_iou(group))) for subject, group in groups.items()}
    there = [group for subject, group in groups.items() if of_each[subject]["dice"] is not None]
    one_each = [[one] for one in of_each.values() if one["dice"] is not None]
    result: dict = {"held_out": [row["name"] for row in rows]}
    for by, parts in {"by_image": there, "by_subject": one_each}.items():
        result[by] = {}
        for key in ("dice", "iou"):
            scores = [[one[key] for one in part if one[key] is not None] for part in parts]
            every = list(chain.from_iterable(scores))
            result[by] |= {"count": len(every), key: spread(every) | {"interval": interval(scores)}}
    result["by_subject"]["of_each"] = of_each
    empty = [row for row in rows if row["dice"] is None]
    false = [sum(n for column, n in row.items() if _kind(column) == "false") for row in empty]
    result["empty"] = {
        "images": len(empty),
        "subjects": len(groups) - len(there),
        "found_in": sum(pixels > 0 for pixels in false),
        "pixels": sum(false),
    }
    return result


def across(folds: list[list[dict]]) -> dict:
    """The figures of a cross-validation, by the rows of each fold: over folds, and over all images.

    `folds` has the Dice and IoU of each fold's pixels together, their mean and standard deviation; `dice` and
    `iou` are of the pixels of all images together; the rest is what `figures` gives.

    Raises:
        InputError: the folds have other classes, or an image is in two of them.
    """
    rows = list(chain.from_iterable(folds))
    if len({tuple(row) for row in rows}) > 1:
        raise InputError("expected folds of the same classes, got different columns in per_image.csv")
    names = Counter(row["name"] for row in rows)
    if twice := [name for name, times in names.items() if times > 1]:
        raise InputError(f"expected each image in one fold, got some in two: {listed(twice)}")
    of_folds = {}
    for key, values in zip(("dice", "iou"), zip(*map(dice_and_iou, folds))):
        of_folds[key] = spread([value for value in values if value is not None]) | {"of_each": list(values)}
    return {**dict(zip(("dice", "iou"), dice_and_iou(rows))), "folds": of_folds, **figures(rows)}


# Words


def said(figures: dict) -> str:
    """The figures in a line or two: by subject, by image where subjects have several, and what is empty."""
    lines, alone = [], len(figures["held_out"]) == len(figures["by_subject"]["of_each"])
    for by in ("subject",) if alone else ("subject", "image"):
        dice, count = figures[f"by_{by}"]["dice"], plural(figures[f"by_{by}"]["count"], by)
        if by == "image":
            count += f" of {plural(figures['by_subject']['count'], 'subject')}"
        if dice["std"] is None:
            continue
        line = f"by {by}: Dice {dice['mean']:.2f} mean, {dice['std']:.2f} standard deviation"
        if dice["interval"] and figures["by_subject"]["count"] >= FEW:
            line += ", {:.2f} to {:.2f} (95% interval of the mean, {})".format(*dice["interval"], count)
        lines.append(line)
    if (empty := figures["empty"])["images"]:
        whole = (
            f", among them all of {plural(empty['subjects'], 'subject')}"
            if empty["subjects"] and not alone
            else ""
        )
        lines.append(
            f"nothing is there in {plural(empty['images'], 'image')}{whole}; these have no Dice: something "
            f"was falsely found in {empty['found_in']} of them, {plural(empty['pixels'], 'pixel')} in all"
        )
    return "\n".join(lines)


def warnings(
    figures: dict,
    *,
    curve: Sequence[float] = (),
    chosen: bool = True,
    of_all: bool = False,
    subjects: int | None = None,
) -> list[str]:
    """What makes the figures worth less than they seem: a sentence each, with the way out.

    Args:
        figures: as `figures` or `across` gives them.
        curve: the validation Dice after each epoch.
        chosen: whether epoch and threshold were chosen by validation images.
        of_all: whether every subject is judged, as in a cross-validation.
        subjects: how many there are, held out or not; None: enough.
    """
    found = []
    if not (count := figures["by_subject"]["count"]):
        found.append(
            "no held-out subject has anything to find, so none has a Dice: images of more subjects mend that"
        )
    elif count < FEW:
        way_out = f"--folds {max(3, min(5, subjects or 5))} judges by every subject"
        way_out = "more subjects tell more" if of_all or not chosen else way_out
        found.append(
            f"the judgement rests on only {plural(count, 'held-out subject')}, too few for an interval to "
            f"mean anything: {way_out}"
        )
    if not chosen:
        found.append(
            "nothing was there to choose epoch and threshold by, so the last epoch counts, and the threshold "
            "is the best on the training images: validation images with something to find mend that, which "
            "needs images of at least 3 subjects"
        )
    last = curve[-max(5, len(curve) // 5) :]
    # Of independent noise about a slow trend, the differences have twice the variance.
    if len(last) >= 5 and (noise := np.std(np.diff(last), ddof=1) / 2**0.5) > NOISY:
        found.append(
            f"in the last {len(last)} epochs the validation Dice jumps by some {noise:.2f}, so the figure "
            "depends on when one stops: more images, more --epochs or a lower --rate steady it"
        )
    return found
