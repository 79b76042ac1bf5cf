"""Train the paper's network on lung CT of which only a part is annotated: six classes, known by texture.

LungNet with instance norm, one slice a step. Its loss is cross-entropy on annotated pixels, rare classes
weighing more, plus a tenth of the entropy elsewhere. Kept is the epoch that did best on slices of other
subjects; it is judged on slices of others again. The slices are synthetic; --data DIR trains on yours, with
label maps in place of masks: any number of values, each a class, and 255 where nobody annotated.

The paper's size is --maps 32 --size 256.
"""

from tinyseg.app.flags import flags, parsed
from tinyseg.app.run import guarded
from tinyseg.app.train import follow


@guarded
def main(argv=None):
    # The loop is as in train_modified.py, with this loss, and it keeps the best epoch: tinyseg/app/train.py.
    return follow(parsed(flags(__doc__, "lungnet", out="runs/lungnet"), argv))


if __name__ == "__main__":
    main()
