"""Train the article's modified network: it learns to outline the nerve within a minute.

A residual connection around every 3x3 layer, no dropout, and the last layer straight into a mean squared
error. The images are synthetic ultrasound in which the nerve is the one honeycomb beside the artery;
--data DIR trains on yours.
"""

from drawing import draw
from flags import flags, network_fields
from judging import judge
from run import Run, guarded
from steps import load_data, train

from tinyseg.networks import modified


@guarded
def main(argv=None):
    args = flags(__doc__, out="runs/modified").parse_args(argv)
    data = load_data(args)
    net = modified(**network_fields(args))
    run = Run(args.out)
    trained = train(run, net, data, args)
    metrics = judge(run, trained, data, args)
    draw(run, trained, data, metrics)
    return metrics


if __name__ == "__main__":
    main()
