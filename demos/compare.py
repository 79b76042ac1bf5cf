"""Train the article's two networks over several seeds on the same data, and tabulate what came out.

A third row shows what dilation is for: the modified network with every dilation set to 1. With --apart,
the article's three changes are made one by one too, for it never said which of them did it.
"""

from dataclasses import replace
from itertools import product

from tinyseg import modified, original, predict
from tinyseg.app.data import load_data
from tinyseg.app.drawing import choose
from tinyseg.app.flags import flags, network_fields, positive
from tinyseg.app.run import Run, guarded
from tinyseg.app.train import carry_out
from tinyseg.io import pictures
from tinyseg.training import most_probable


def networks(args) -> dict:
    """What is trained, by name."""
    fields = network_fields(args)
    nets = {
        "original": original(**fields),
        "modified": modified(**fields),
        "modified, every dilation 1": modified(**{**fields, "dilations": (1,) * len(args.dilations)}),
    }
    if args.apart:
        losses = {"softmax": "cross-entropy", "linear": "squared error"}
        for residual, dropout, head in product((False, True), (0.5, 0.0), losses):
            name = f"{'residual' if residual else 'no residual'}, dropout {dropout:g}, {losses[head]}"
            nets[name] = replace(nets["original"], residual=residual, dropout=dropout, head=head)
        del nets["no residual, dropout 0.5, cross-entropy"]  # the original
        del nets["residual, dropout 0, squared error"]  # the modified
    return nets


@guarded
def main(argv=None):
    parser = flags(__doc__, "modified", out="runs/compare")
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many seeds (default 5)")
    parser.add_argument("--apart", action="store_true", help="also each mixture of the three changes")
    args = parser.parse_args(argv)
    seeds = range(args.seed, args.seed + args.seeds)
    table, top = {name: [] for name in networks(args)}, None
    for seed in seeds:
        args.seed = seed  # of everything below
        data = load_data(args)
        top = top or Run(args.out)
        shown = data.held_out.take(choose(data.held_out))
        columns = [
            [pictures.grey(plane) for plane in planes] for planes in (shown.images[:, 0], shown.labels)
        ]
        for name, net in networks(args).items():
            folder = name.replace(",", "").replace(" ", "-") + f"-seed-{seed}"
            with Run(args.out / folder, quiet=True) as run:
                trained, metrics = carry_out(run, net, data, args)
            if trained.interrupted:
                raise KeyboardInterrupt
            top.say(f"seed {seed}, {name}: Dice {metrics['dice']:.3f} in {metrics['seconds']:.0f} s")
            table[name].append(metrics)
            p = predict(net, trained.kept.params, trained.kept.state, shown.images)
            columns.append([pictures.grey(labels) for labels in most_probable(p)])
            if name == "original":  # what lies behind it, brightened
                columns.append([pictures.grey(pictures.full_contrast(plane[0], p)) for plane in p])
        if seed == seeds[0]:
            sheet = pictures.grid([list(row) for row in zip(*columns[:6])], width=128)
            pictures.write_image(args.out / "compare.png", sheet)
        top.write("table.md", markdown(table) + "\n")
    top.say("\n" + markdown(table))
    return table


def markdown(table: dict) -> str:
    """One row for each network, its seeds side by side in each cell."""
    lines = [
        "| network | held-out Dice | at the best threshold | highest probability |",
        "|---|---|---|---|",
    ]
    for name, runs in table.items():
        cells = [
            " ".join(f"{run[key]:.2f}" for run in runs)
            for key in ("dice", "best_threshold_dice", "max_probability")
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    baseline = " ".join(f"{run['baseline_dice']:.2f}" for run in table["original"])
    return "\n".join([*lines, f"| brightness and a blur alone, no network | | {baseline} | |"])


if __name__ == "__main__":
    main()
