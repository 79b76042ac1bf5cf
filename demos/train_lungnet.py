"""Train the paper's network on lung CT of which only a part is annotated: six classes, known by texture.

LungNet with instance norm, one slice a step. Its loss is cross-entropy on annotated pixels, rare classes
weighing more, plus a tenth of the entropy elsewhere. Kept is the epoch that did best on slices of other
subjects; it is judged on slices of others again. The slices are synthetic; --data DIR trains on yours, with
label maps in place of masks: any number of values, each a class, and 255 where nobody annotated.

The paper's size is --maps 32 --size 256.
"""

from drawing import draw_label_maps
from flags import flags, network_fields, number, positive
from judging import judge_label_maps
from run import Run, guarded
from steps import load_label_maps, train

from tinyseg.networks import lungnet
from tinyseg.ops import median_frequency, semi_supervised


def parse(argv):
    """The shared flags, with defaults of this network's own, and four more."""
    parser = flags(
        __doc__, "runs/lungnet",
        images=120, size=96, maps=12, epochs=50, batch=1, rate=0.01, schedule="cosine",
    )  # fmt: skip
    add = parser.add_argument
    add("--norm", default="instance", choices=("instance", "batch"),
        help="of each slice by itself, or by running statistics (default instance)")  # fmt: skip
    add("--entropy-weight", default=0.1, metavar="X", type=number(float, 0, "a number of at least 0"),
        help="of the semi-supervised term; 0 learns from annotated pixels alone (default 0.1)")  # fmt: skip
    add("--patience", default=20, metavar="N", type=positive,
        help="stop after so many epochs without a better one (default 20)")  # fmt: skip
    add("--channels", default=1, choices=(1, 3), type=int,
        help="of your images: grey, or red, green and blue (default 1)")  # fmt: skip
    return parser.parse_args(argv)


@guarded
def main(argv=None):
    args = parse(argv)
    data = load_label_maps(args)
    classes = len(data.train.preprocessing.names)
    net = lungnet(
        channels=args.channels,
        classes=classes,
        norm=args.norm,
        widths=(4 * args.maps, args.maps),  # the paper's, 128 and 32, for its 32 maps
        **network_fields(args),
    )
    weights = median_frequency(data.train.masks, classes)

    def loss(y, masks):
        return semi_supervised(y, masks[:, 0], class_weights=weights, entropy_weight=args.entropy_weight)

    run = Run(args.out)
    trained = train(run, net, data, args, loss=loss, patience=args.patience)
    metrics = judge_label_maps(run, trained, data, args)
    draw_label_maps(run, trained, data)
    return metrics


if __name__ == "__main__":
    main()
