"""Train the network as the article first had it, on the same images for as many steps: what comes out?

Dropout, softmax and cross-entropy. The author got black masks from it, whatever he tried. Nothing here
is tuned to make it fail or succeed; where a mask is black, the probabilities behind it are looked at.
"""

from train_modified import story

from tinyseg import original
from tinyseg.app.flags import flags, parsed
from tinyseg.app.run import guarded
from tinyseg.app.train import follow


@guarded
def main(argv=None):
    args = parsed(flags(__doc__, "original", out="runs/original"), argv)
    return follow(args) if args.folds else story(args, original)


if __name__ == "__main__":
    main()
