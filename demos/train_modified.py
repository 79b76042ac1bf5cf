"""Train the article's modified network: it learns to outline the nerve within a minute.

A residual connection around every 3x3 layer, no dropout, and the last layer straight into a mean squared
error. The images are synthetic ultrasound in which the nerve is the one honeycomb beside the artery;
--data DIR trains on yours.
"""

from tinyseg import evaluate, fit, modified, save
from tinyseg.app.data import load_data
from tinyseg.app.flags import flags, network_fields, optimizer_of, parsed, saved, schedule_of
from tinyseg.app.judging import judge
from tinyseg.app.progress import Progress
from tinyseg.app.run import Run, guarded
from tinyseg.app.train import augment_of, follow, introduce, show, start
from tinyseg.fast.memory import keep_memory
from tinyseg.io.preprocessing import preprocessing_of


def story(args, network):
    """Train a network of this kind as the flags say; returns what metrics.json holds."""
    # 1. The data: images (N, 1, H, W), and for each pixel a label, 1 in the nerve and 0 elsewhere. We train
    # on three fifths. A fifth, the validation images, is to choose by. A fifth is held out, to judge.
    data = load_data(args)
    preprocessing = preprocessing_of(data.train)

    # 2. The network: a frozen value that says how to compute. What it learns are arrays, kept apart from it.
    net = network(**network_fields(args))

    # 3. The training starts with random parameters. The seed decides which, so a run can be repeated.
    optimizer = optimizer_of(args)  # Adam: from a gradient to a step
    first = start(args, net, optimizer, preprocessing)

    with Run(args.out, saved(args), resume=bool(args.resume)) as run:  # a folder for all results, and a log
        introduce(run, net, data, args)  # prints what the images are, and the network's layers
        progress = Progress(run, net, data, args, first)  # looks at the validation images after each epoch
        keep_memory()  # for speed alone: the process keeps the memory that a step has freed

        # 4. The loop. For each minibatch `fit` runs the network, asks autograd for the gradient of the loss,
        # and takes a step down. Each image is turned or flipped at random. After each pass
        # over the images (an epoch) we get a snapshot of it, and see how it does on the validation images.
        epochs = fit(
            net,
            data.train,
            progress.last,  # the first snapshot, or with --resume the one after the last whole epoch
            epochs=args.epochs,  # 25, if the flags say nothing else
            batch=args.batch,  # images in each step: 2
            optimizer=optimizer,
            schedule=schedule_of(args),  # the learning rate at each step: 0.001, and down to 0 in the end
            augment=augment_of(args, data.train),  # large images: random crops; then flips and quarter turns
        )
        with progress:  # Ctrl-C ends the loop and not the program: the last whole epoch is there
            for last in epochs:
                loss, counts, p = evaluate(net, last.params, last.state, progress.watched)
                progress.epoch(last, loss, counts, p)  # prints a line, and saves what --resume needs

        # 5. The model: all that others need to use it, in one file. `tinyseg segment` does. Kept is the epoch
        # that did best on the validation images.
        kept = progress.kept
        save(run.folder / "model.npz", net, kept.params, kept.state, preprocessing)

        # 6. The judgement: is what it finds in held-out images the nerve? How well does one do without it?
        how = {"steps": progress.last.step, "seed": args.seed, "curve": progress.curve}
        metrics = judge(run, net, kept, data, **how)  # writes metrics.json and per_image.csv

        # 7. The pictures, and a page with all of it.
        show(run, net, data, progress, metrics, args)
    return metrics


@guarded  # a mistake in the flags or files ends in one line, not in a traceback
def main(argv=None):
    args = parsed(flags(__doc__, "modified", out="runs/modified"), argv)
    return follow(args) if args.folds else story(args, modified)


if __name__ == "__main__":
    main()
