"""Train the article's two networks over several seeds, each on the same data, and tabulate what came out.

A third row shows what dilation is for: the modified network with every dilation set to 1. With --apart, the
article's three changes are made one by one too, for it never said which of them did it. Then each network
gets another norm, other initial weights, and other rates.
"""

import shlex
import sys
from io import BytesIO
from itertools import product

import numpy as np

from tinyseg import load, predict
from tinyseg.app import report
from tinyseg.app.data import load_data
from tinyseg.app.drawing import choose
from tinyseg.app.experiments import begin_table, run_experiments
from tinyseg.app.flags import flags, plain, positive, restored, saved
from tinyseg.app.report import figure, page, paragraph, section, verbatim
from tinyseg.app.run import LOG, Log, alone, guarded, make, versions
from tinyseg.app.train import experiment, folder_name, is_there
from tinyseg.data.dataset import all_pixels
from tinyseg.errors import InputError
from tinyseg.io import pictures
from tinyseg.training import most_probable


def changes(args) -> dict[str, dict]:
    """What is trained, by name: the flags, or fields of the network, that each changes."""
    nets = {
        "original": {"network": "original"},
        "modified": {"network": "modified"},
        "modified, every dilation 1": {"network": "modified", "dilations": (1,) * len(args.dilations)},
    }
    if not args.apart:
        return nets
    losses = {"softmax": "cross-entropy", "linear": "squared error"}
    for residual, dropout, head in product((False, True), (0.5, 0.0), losses):
        name = f"{'residual' if residual else 'no residual'}, dropout {dropout:g}, {losses[head]}"
        change = {"network": "original", "residual": residual, "dropout": dropout, "head": head}
        if (residual, dropout, head) not in ((False, 0.5, "softmax"), (True, 0.0, "linear")):
            nets[name] = change  # those two are the original and the modified
    others = {
        "instance norm": {"norm": "instance"},
        "He's initial weights": {"weight_std": None},
        "rate 0.003": {"rate": 0.003},
        "rate 0.01": {"rate": 0.01},
    }
    for network, (words, change) in product(("original", "modified"), others.items()):
        nets[f"{network}, {words}"] = {"network": network, **change}
    return nets


@guarded
def main(argv=None):
    parser = flags(__doc__, "modified", out="runs/compare")
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many seeds (default 5)")
    parser.add_argument("--apart", action="store_true", help="also each change alone, norms, weights, rates")
    parser.add_argument("--quick", action="store_true", help="100 images, 12 epochs, 2 seeds: two minutes")
    args = parser.parse_args(argv)
    if args.quick:
        parser.set_defaults(images=100, epochs=12, seeds=2)
        args = parser.parse_args(argv)

    # One run for each network and seed. All that it needs is in its settings, so any machine can do it.
    if args.folds or args.resume:
        raise InputError(
            "--folds and --resume are for one network; compare.py goes on by itself where it stood"
        )
    nets, seeds = changes(args), range(args.seed, args.seed + args.seeds)
    runs = {}
    for seed, (name, change) in product(seeds, nets.items()):
        change = {key: plain(value) for key, value in change.items()}
        runs[f"{name}, seed {seed}"] = saved(args) | change | {"seed": seed, "out": str(args.out)}

    make(args.out)
    with alone(args.out):
        names = ["table.md", "logs.txt", "compare.png", "dice.png", "report.html", LOG]
        begin_table(args.out / "runs.csv", runs, names)
        top, where = Log(args.out), {"table": args.out / "runs.csv", "scheduler": args.scheduler}
        results = run_experiments(experiment, runs, **where, there=is_there, say=top.say)
        table = {name: [results[f"{name}, seed {seed}"] for seed in seeds] for name in nets}
        top.say("\n" + markdown(table))
        top.write("table.md", markdown(table) + "\n")
        top.write("logs.txt", logs(args.out, runs))
        pictures.write_image(args.out / "compare.png", masks(args, runs, list(nets)[:3], seeds[0]))
        dots(top, table)
        write_page(
            top,
            args,
            shlex.join(["python", "demos/compare.py", *(sys.argv[1:] if argv is None else argv)]),
            table,
        )
    return table


def markdown(table: dict) -> str:
    """One row for each network: its seeds side by side, mean and standard deviation."""
    lines = [
        "| network | held-out Dice | mean | at the best threshold | mean | black masks | highest value |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in table.items():
        cells = [name]
        for key in ("dice", "best_threshold_dice"):
            values = [number(run[key]) for run in runs]
            spread = f" ± {np.std(values, ddof=1):.2f}" if values[1:] else ""
            cells += [" ".join(f"{value:.2f}" for value in values), f"{np.mean(values):.2f}{spread}"]
        cells.append(f"{np.mean([number(run['black_masks']) for run in runs]):.0%}")
        cells.append(" ".join(f"{run['max_probability']:.2f}" for run in runs))
        lines.append(f"| {' | '.join(cells)} |")
    baseline = [number(run["baseline_dice"]) for run in table["original"]]
    each, mean = " ".join(f"{value:.2f}" for value in baseline), np.mean(baseline)
    return "\n".join([*lines, f"| brightness and a blur alone, no network | {each} | {mean:.2f} | | | | |"])


def number(figure: float | None) -> float:
    """A figure of metrics.json, NaN where there is none."""
    return float("nan") if figure is None else figure


def logs(folder, runs: dict) -> str:
    """The complete logs of all runs, after the versions of what computed them."""
    parts = [" ".join(f"{name} {version}" for name, version in versions().items())]
    for name in runs:
        log = (folder / folder_name(name) / LOG).read_text(errors="replace")
        parts.append(f"==== {name}\n{log.rpartition('pictures,')[0].strip()}")
    return "\n\n".join(parts) + "\n"


def masks(args, runs: dict, names: list[str], seed: int) -> np.ndarray:
    """Held-out images in rows: image, truth, what each network finds; of the first also what is behind."""
    data = load_data(restored(runs[f"{names[0]}, seed {seed}"]))
    shown = data.held_out.take(choose(data.held_out))
    images = [image.mean(axis=0) for image in shown.images]  # (channels, h, w) -> (h, w)
    columns = [[pictures.grey(plane) for plane in planes] for planes in (images, shown.labels)]
    for name in names:
        net, params, state, _ = load(args.out / folder_name(f"{name}, seed {seed}") / "model.npz")
        p = predict(net, params, state, shown.images)
        columns.append([pictures.grey(most_probable(one)) for one in p])
        if name == names[0]:  # brightened
            columns.append([pictures.grey(pictures.full_contrast(one[0], all_pixels(p))) for one in p])
    captions = ["image", "truth", names[0], f"{names[0]}: probabilities, full contrast", *names[1:]]
    return pictures.grid([list(row) for row in zip(*columns)], names=tuple(captions), width=128)


def dots(top: Log, table: dict) -> None:
    """dice.png: a row for each network, a dot for each seed, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        top.say("no dice.png, because matplotlib is not installed")
        return
    figure = Figure(figsize=(8, 0.9 + 0.3 * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(table))
    for key, label, colour, shift in (
        ("dice", "at a threshold of 0.5", "#0072b2", -0.12),
        ("best_threshold_dice", "at the threshold chosen on validation images", "#e69f00", 0.12),
    ):
        dice = [[number(run[key]) for run in runs] for runs in table.values()]  # (networks, seeds)
        places = np.repeat(np.add(rows, shift), len(dice[0]))
        axes.plot(np.ravel(dice), places, "o", color=colour, alpha=0.6, markersize=5)
        axes.plot(np.mean(dice, axis=1), np.add(rows, shift), "|", color=colour, markersize=12, label=label)
    axes.set_yticks(rows, table)
    axes.set_ylim(len(table) - 0.5, -0.5)  # the first row is at the top
    axes.set_xlim(-0.03, 1)
    axes.set_xlabel("held-out Dice; a dot for each seed, a line for their mean")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    top.write("dice.png", content.getvalue())


def write_page(top: Log, args, command: str, table: dict) -> None:
    """report.html: the table and the pictures on one page."""
    rows = [
        {
            "network": name,
            "seed": args.seed + i,
            "Dice": run["dice"],
            "at the best threshold": run["best_threshold_dice"],
            "black masks": f"{number(run['black_masks']):.0%}",
            "highest probability": run["max_probability"],
            "brightness and a blur": run["baseline_dice"],
        }
        for name, runs in table.items()
        for i, run in enumerate(runs)
    ]
    drawn = {
        "compare.png": "Held-out images of the first seed.",
        "dice.png": "Dots are seeds, lines are means.",
    }
    shown = [
        figure(name, (top.folder / name).read_bytes(), text)
        for name, text in drawn.items()
        if (top.folder / name).exists()
    ]
    numbers = ", ".join(f"{name} {version}" for name, version in versions().items())
    sections = [
        section("What was done", verbatim(command), paragraph(numbers)),
        section("Pictures", *shown),
        section("Figures of the held-out images", report.table("Each network and seed", rows)),
    ]
    top.write("report.html", page("The networks side by side", sections))


if __name__ == "__main__":
    main()
