"""Train the article's two networks over several seeds on the same data, and tabulate what came out.

A third row shows what dilation is for: the modified network with every dilation set to 1. With --apart,
the article's three changes are made one by one too, for it never said which of them did it.
"""

from dataclasses import replace
from itertools import product

from drawing import choose, draw
from flags import flags, network_fields, positive
from judging import judge
from run import Run, guarded
from steps import load_data, train

from tinyseg import pictures
from tinyseg.networks import modified, original
from tinyseg.training import predict


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
    parser = flags(__doc__, out="runs/compare")
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many seeds (default 5)")
    parser.add_argument("--apart", action="store_true", help="also each mixture of the three changes")
    args = parser.parse_args(argv)
    seeds = range(args.seed, args.seed + args.seeds)
    table, top = {name: [] for name in networks(args)}, None
    for seed in seeds:
        args.seed = seed  # of everything below
        data = load_data(args)
        top = top or Run(args.out)
        shown = choose(data.held_out)
        columns = [[pictures.grey(plane[0]) for plane in planes] for planes in (shown.images, shown.masks)]
        for name, net in networks(args).items():
            folder = name.replace(",", "").replace(" ", "-") + f"-seed-{seed}"
            run = Run(args.out / folder, quiet=True)
            trained = train(run, net, data, args)
            metrics = judge(run, trained, data, args)
            draw(run, trained, data, metrics)
            if trained.fitted.interrupted:
                raise KeyboardInterrupt
            top.say(f"seed {seed}, {name}: Dice {metrics['dice']:.3f} in {metrics['seconds']:.0f} s")
            table[name].append(metrics)
            p = predict(net, trained.fitted.params, trained.fitted.state, shown.images)[:, 0]
            columns.append([pictures.grey(plane > 0.5) for plane in p])
            if name == "original":  # what lies behind it, brightened
                columns.append([pictures.grey(pictures.stretched(plane, p)) for plane in p])
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
    return "\n".join([*lines, f"| a threshold on the blurred image, no network | | {baseline} | |"])


if __name__ == "__main__":
    main()
