"""Train the network as the article first had it, on the same images for as many steps: what comes out?

Dropout, softmax and cross-entropy. The author got black masks from it, whatever he tried. Nothing here
is tuned to make it fail or succeed; where a mask is black, the probabilities behind it are looked at.
"""

import common

from tinyseg.networks import original


@common.guarded
def main(argv=None):
    args = common.flags(__doc__, out="runs/original").parse_args(argv)
    data = common.load_data(args)
    net = original(**common.network_fields(args))
    run = common.Run(args.out)
    trained = common.train(run, net, data, args)
    metrics = common.judge(run, trained, data, args)
    common.draw(run, trained, data, metrics)
    return metrics


if __name__ == "__main__":
    main()
