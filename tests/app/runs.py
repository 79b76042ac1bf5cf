"""What the tests of runs share: small runs, and what they must write."""

from pathlib import Path

import pytest

SMALL = ["--images", "10", "--size", "16", "--epochs", "2", "--maps", "1", "--dilations", "1,2"]
NUMBERS = {"log.txt", "history.csv", "metrics.json", "model.npz", "per_image.csv", "run.json", "report.html"}
ALWAYS = {"masks.png", "overlays.png", "data.png", "steps.gif", "epochs.gif"}
PICTURES = ALWAYS | {"probability.png"}  # of two classes
KEYS = {
    "dice", "iou", "accuracy", "classes", "dice_of_each", "iou_of_each", "confusion", "baseline_dice",
    "best_epoch", "steps", "seed", "held_out", "by_image", "by_subject", "empty", "warnings",
}  # fmt: skip
OF_TWO = {"black_masks", "best_threshold", "best_threshold_dice", "max_probability"}
OF_WHOLE = {"whole_dice", "whole_dice_of_each", "whole_baseline_dice"}


def files(folder):
    return {path.name for path in Path(folder).iterdir()}


def refused(main, capsys, args):
    """Run with bad input: status 2, one line on standard error, nothing on standard output."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, args)])
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err
