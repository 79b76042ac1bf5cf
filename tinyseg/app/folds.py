"""Cross-validation by subject: each image is judged once, by a network that has not seen its subject."""

from __future__ import annotations

import json
from pathlib import Path

from tinyseg.app.data import blank_sides, load_data
from tinyseg.app.experiments import run_experiments
from tinyseg.app.figures import across, rows_of, said, table_of, warnings
from tinyseg.app.flags import command_of, restored, saved
from tinyseg.app.found import describe
from tinyseg.app.report import page, paragraph, section, table, verbatim, warning_list, words
from tinyseg.app.run import Run
from tinyseg.app.train import experiment, folder_name, is_there

SHOWN = {"name": "image", "subject": "subject", "dice": "Dice", "iou": "IoU"}


def noisy(out: Path, names: list[str]) -> list[str]:
    """What the folds' own runs warn of, but how few subjects each of them has."""
    found = [(name, json.loads((out / folder_name(name) / "metrics.json").read_text())) for name in names]
    return [f"{name}: {text}" for name, of_it in found for text in of_it["warnings"] if "jumps" in text]


def cross_validate(args) -> dict:
    """Train `args.folds` networks, each with other subjects held out, and return the figures of all images.

    Each run has a folder of its own in `args.out`, whose metrics.json and per_image.csv are of all images.
    """
    flags, out = saved(args), str(args.out.absolute())
    names = [f"fold {i + 1} of {args.folds}" for i in range(args.folds)]
    runs = {name: flags | {"fold": [i, args.folds], "out": out} for i, name in enumerate(names)}
    first = restored(runs[names[0]])
    data = load_data(first)  # what is wrong with the images is said here, and once
    found, doubts = describe(data, first), [*blank_sides(data), *data.warnings]
    del data  # each run loads its own
    with Run(args.out, flags | {"folds": args.folds}) as run:
        run.say(f"{found}\n(the sides are those of {names[0]})")
        for text in doubts:
            run.say(f"warning: {text}")
        where = {"table": args.out / "folds.csv", "scheduler": args.scheduler}
        run_experiments(experiment, runs, **where, there=is_there, say=run.say)
        folds = [rows_of(args.out / folder_name(name) / "per_image.csv") for name in names]
        figures = across(folds)
        metrics = figures | {
            "seed": args.seed,
            "warnings": doubts + noisy(args.out, names) + warnings(figures, of_all=True),
        }
        over = figures["folds"]["dice"]
        each = " ".join(map(words, over["of_each"]))
        run.say(
            f"held out in each fold: Dice {each}; "
            f"mean {words(over['mean'])}, standard deviation {words(over['std'])}"
        )
        run.say(f"all {len(figures['held_out'])} images, each held out once: Dice {words(figures['dice'])}, "
                f"IoU {words(figures['iou'])}")  # fmt: skip
        later = metrics["warnings"][len(doubts) :]  # the others were said before
        for line in filter(None, (said(figures), *(f"warning: {text}" for text in later))):
            run.say(line)
        pooled = {"Dice": figures["dice"], "IoU": figures["iou"]}
        rows = [row for fold in folds for row in fold]
        fold_rows = [
            {"fold": name, "images": len(fold), "Dice": dice, "IoU": iou}
            for name, fold, dice, iou in zip(
                names, folds, over["of_each"], figures["folds"]["iou"]["of_each"]
            )
        ]
        fold_rows.append({"fold": "all images", "images": len(rows)} | pooled)
        run.write("per_image.csv", table_of(rows))
        run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
        sections = [
            section("What was done", verbatim(f"{command_of(args)} --folds {args.folds}")),
            section(
                "Figures of all images, each held out once",
                *map(paragraph, said(figures).splitlines()),
                warning_list(metrics["warnings"]) if metrics["warnings"] else "",
                table("Folds", fold_rows),
            ),
            section(
                "Image by image",
                table("Held-out images", [{title: row[k] for k, title in SHOWN.items()} for row in rows]),
            ),
        ]
        run.write(
            "report.html",
            page(f"{args.network}, {args.folds} folds: Dice {words(figures['dice'])}", sections),
        )
        run.say(f"figures are in {run.home}, and each fold's model and pictures in its own folder there")
        run.ended = True
    return metrics
