"""Train the article's modified network: it learns to outline the nerve within a minute.

A residual connection around every 3x3 layer, no dropout, and the last layer straight into a mean squared
error. The images are synthetic ultrasound in which the nerve is the one honeycomb beside the artery;
--data DIR trains on yours.
"""

from tinyseg import begin, evaluate, fit, modified, save
from tinyseg.app.data import load_data
from tinyseg.app.drawing import draw
from tinyseg.app.flags import flags, network_fields, optimizer_of, schedule_of
from tinyseg.app.judging import judge
from tinyseg.app.progress import Progress
from tinyseg.app.run import Run, guarded
from tinyseg.app.train import introduce
from tinyseg.data import random_symmetry
from tinyseg.fast.memory import keep_memory
from tinyseg.io.preprocessing import preprocessing_of


def story(args, network):
    """Train a network of this kind as the flags say; returns what metrics.json holds."""
    # 1. The data: images (N, 1, H, W), and for each pixel a label, 1 in the nerve and 0 elsewhere.
    # A fifth of the images is held out: the network never trains on them, so that they can judge it.
    data = load_data(args)

    # 2. The network: a frozen value that says how to compute. What it learns are arrays, kept apart from it.
    net = network(**network_fields(args))

    with Run(args.out) as run:  # a folder for all results; what is said here also goes into its log
        introduce(run, net, data, args)  # prints what the images are, and the network's layers

        # 3. The training starts with random parameters. The seed decides which, so a run can be repeated.
        optimizer = optimizer_of(args)  # Adam: from a gradient to a step
        last = begin(net, args.seed, optimizer)
        progress = Progress(run, net, data, args, last)  # prints a line for each epoch, and remembers it
        keep_memory()  # for speed alone: the process keeps the memory that a step has freed

        # 4. The loop. For each minibatch `fit` runs the network, asks autograd for the gradient of the loss,
        # and takes a step down. Each image is turned or flipped at random. After each pass
        # over the images (an epoch) we get a snapshot of the training, and look how it does on the others.
        epochs = fit(
            net,
            data.train,
            last,
            epochs=args.epochs,  # 25, if the flags say nothing else
            batch=args.batch,  # images in each step: 2
            optimizer=optimizer,
            schedule=schedule_of(
                args, len(data.train)
            ),  # the learning rate at each step: 0.001, and down to 0 in the end
            augment=random_symmetry,
        )
        try:
            for last in epochs:
                loss, counts, _ = evaluate(net, last.params, last.state, data.held_out)
                progress.epoch(last, loss, counts)  # prints a line
        except KeyboardInterrupt:  # Ctrl-C is no error: the last whole epoch is there
            progress.stopped(last)

        # 5. The model: all that others need to use it, in one file. `tinyseg segment` does.
        progress.write()  # history.csv
        save(run.folder / "model.npz", net, last.params, last.state, preprocessing_of(data.train))

        # 6. The judgement: is what it finds in held-out images the nerve? And what does one find without it?
        metrics = judge(run, net, last, data, steps=last.step, seed=args.seed)

        # 7. The pictures.
        draw(run, net, last, data, progress, metrics)
    return metrics


@guarded  # a mistake in the flags or files ends in one line, not in a traceback
def main(argv=None):
    return story(flags(__doc__, "modified", out="runs/modified").parse_args(argv), modified)


if __name__ == "__main__":
    main()
