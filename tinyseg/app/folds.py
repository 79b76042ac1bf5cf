"""Cross-validation by subject: each image is judged once, by a network that has not seen its subject."""

from __future__ import annotations

import json

from tinyseg.app.data import load_data
from tinyseg.app.experiments import run_experiments
from tinyseg.app.figures import across, rows_of, said, table_of, warnings
from tinyseg.app.flags import restored, saved
from tinyseg.app.run import Run
from tinyseg.app.train import experiment, folder_name


def cross_validate(args) -> dict:
    """Train `args.folds` networks, each with other subjects held out, and return the figures of all images.

    Each run has a folder of its own in `args.out`, whose metrics.json and per_image.csv are of all images.
    """
    flags, out = saved(args), str(args.out.absolute())
    names = [f"fold {i + 1} of {args.folds}" for i in range(args.folds)]
    runs = {name: flags | {"fold": [i, args.folds], "out": out} for i, name in enumerate(names)}
    load_data(restored(runs[names[0]]))  # what is wrong with the images is said here, and once
    with Run(args.out, flags | {"folds": args.folds}) as run:
        table = args.out / "folds.csv"
        run_experiments(experiment, runs, table=table, scheduler=args.scheduler, say=run.say)
        folds = [rows_of(args.out / folder_name(name) / "per_image.csv") for name in names]
        figures = across(folds)
        metrics = figures | {"seed": args.seed, "warnings": warnings(figures, of_all=True)}
        over = figures["folds"]["dice"]
        each = " ".join("-" if dice is None else f"{dice:.3f}" for dice in over["of_each"])
        run.say(
            f"held out in each fold: Dice {each}; "
            f"mean {over['mean']:.3f}, standard deviation {over['std']:.3f}"
        )
        run.say(f"all {len(figures['held_out'])} images, each held out once: Dice {figures['dice']:.3f}, "
                f"IoU {figures['iou']:.3f}")  # fmt: skip
        for line in filter(None, (said(figures), *(f"warning: {text}" for text in metrics["warnings"]))):
            run.say(line)
        run.write("per_image.csv", table_of([row for fold in folds for row in fold]))
        run.write("metrics.json", json.dumps(metrics, indent=2) + "\n")
        run.say(f"figures are in {run.home}, and each fold's model and pictures in its own folder there")
        run.ended = True
    return metrics
