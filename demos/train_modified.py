"""Train the article's modified network: it learns to outline the nerve within a minute.

A residual connection around every layer, no dropout, and the last layer straight into a mean squared
error. The images are synthetic ultrasound in which the nerve is the one honeycomb beside the artery;
--data DIR trains on yours.
"""

import common

from tinyseg.networks import modified


@common.guarded
def main(argv=None):
    args = common.flags(__doc__, out="runs/modified").parse_args(argv)
    data = common.load_data(args)
    net = modified(**common.network_fields(args))
    run = common.Run(args.out)
    trained = common.train(run, net, data, args)
    metrics = common.judge(run, trained, data, args)
    common.draw(run, trained, data, metrics)
    return metrics


if __name__ == "__main__":
    main()
