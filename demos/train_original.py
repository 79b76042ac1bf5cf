"""Train the network as the article first had it, on the same images for as many steps: what comes out?

Dropout, softmax and cross-entropy. The author got black masks from it, whatever he tried. Nothing here
is tuned to make it fail or succeed; where a mask is black, the probabilities behind it are looked at.
"""

from drawing import draw
from flags import flags, network_fields
from judging import judge
from run import Run, guarded
from steps import load_data, train

from tinyseg.networks import original


@guarded
def main(argv=None):
    args = flags(__doc__, out="runs/original").parse_args(argv)
    data = load_data(args)
    net = original(**network_fields(args))
    run = Run(args.out)
    trained = train(run, net, data, args)
    metrics = judge(run, trained, data, args)
    draw(run, trained, data, metrics)
    return metrics


if __name__ == "__main__":
    main()
