"""Classify pictures or rows of a table: with a multilayer perceptron that is trained with dropout, or pictures with a convolutional net.

A network that classifies learns p(class | picture), and nothing about what pictures look like. Dropout sets a random share of the
hidden units to 0 in each step, so that no unit can rely on another, and max-norm keeps each unit's incoming weights within
a ball, which allows the high learning rates at which dropout works best: N. Srivastava, G. Hinton, A. Krizhevsky,
I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).
A convolutional net sees each picture in another position, size and bend each time (--augment), which says what does not matter.

    python examples/classify.py                                     digits of 8x8 pixels, part of this library
    python examples/classify.py --data folder:PICTURES              your pictures, in a subfolder for each class: convolutions
    python examples/classify.py --data 'csv:FILE?target=COLUMN'     a table of yours
    python examples/classify.py --data mnist --hidden 1024 1024 1024 --dropout 0.5 --input-dropout 0.2 --max-norm 3 --lr 1e-3
    python examples/classify.py --data folder:PICTURES --weights squeezenet1_0.safetensors --epochs 5       on what ImageNet taught
    python examples/classify.py --predict PICTURE... --out FOLDER   what is on pictures, by a network trained before
    python examples/classify.py --predict PHOTO... --weights squeezenet1_0.safetensors

Expected of the MLP on digits: test_error=0.8 to 1.7 (percent, seeds 0 to 9) after 2 to 5 s of training on two cores. The settings were
chosen by cross-validation within the training part. Of convolutions on MNIST, after 27 minutes: test_error=0.32, by

    python examples/classify.py --data mnist --model conv --batch-size 128 --epochs 26 --weight-decay 0.02 --ema 0.998 --copies 12

In the folder of --out: learning curves, the confusion matrix, of pictures
the worst mistakes, what made the network decide, what the first layer looks for, and the weights.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, data, explain, metrics, optim, pictures
from scratchnn.data.augment import augmentation
from scratchnn.models.classifier import MLP, ConvNet, edges, like_learnt, load_classifier, predict, save_classifier
from scratchnn.models.imagenet import class_names, likeliest, picture
from scratchnn.models.squeezenet import SqueezeNet
from scratchnn.nn.utils import max_norm_
from scratchnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from scratchnn.options import arguments, number, whole
from scratchnn.run import EarlyStopping, Run, start

DATA = ("digits", "glyphs", "mnist", "fashion-mnist", "cifar10", "cifar10-subset", "moons", "swiss-roll", "ring", "grid", "csv:", "npy:",
        "folder:")


def parse():
    parser = arguments(__doc__, out="out/classify", data=DATA, epochs=40, smoke={"epochs": 6, "hidden": [64], "channels": [8, 16]})
    parser.add_argument("--model", choices=("mlp", "conv"), help="what classifies (default: conv for folder:, otherwise mlp)")
    parser.add_argument("--channels", type=whole(), nargs="+", default=[32, 64, 128], metavar="N",
                        help="of conv's blocks (default: 32 64 128)")
    parser.add_argument("--hidden", type=whole(), nargs="+", default=[256, 256], metavar="N", help="mlp's hidden units (default: 256 256)")
    parser.add_argument("--dropout", type=number(0, 1), default=0.3, metavar="P",
                        help="of the hidden units, of conv's means (default: 0.3)")
    parser.add_argument("--input-dropout", type=number(0, 1), default=0.1, metavar="P", help="of the pixels of an mlp (default: 0.1)")
    parser.add_argument("--max-norm", type=number(0), default=1.5, metavar="R", help="of an mlp's unit's incoming weights (default: 1.5)")
    parser.add_argument("--lr", type=number(0), default=5e-3, help="highest learning rate of the one-cycle schedule (default: 0.005)")
    parser.add_argument("--batch-size", type=whole(), default=64, metavar="N", help="examples in a step (default: 64)")
    parser.add_argument("--weight-decay", type=number(0), default=0, metavar="L", help="of AdamW (default: 0)")
    parser.add_argument("--augment", type=_augmentation, metavar="HOW", help="none, drawings, photographs, or settings as in "
                        "shift=0.1,rotate=10 (default: of an mlp none, of conv photographs if there is colour, otherwise drawings)")
    parser.add_argument("--ema", type=number(0, 0.99999), default=0, metavar="D", help="use the moving average of the weights that keeps "
                        "so much of itself in each step, such as 0.998 in some thousand (default: 0, the weights themselves)")
    parser.add_argument("--copies", type=whole(0), default=0, metavar="N",
                        help="classify by the mean over the example and so many augmented copies of it (default: 0)")
    parser.add_argument("--patience", type=whole(), metavar="N", help="hold out a tenth of what is learnt from, stop when N epochs were no "
                        "better on it, and take the best weights; the learning rate stays at --lr")
    parser.add_argument("--validate", type=whole(0), default=0, metavar="N",
                        help="hold out the last N training examples and test on them, to choose settings by")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of SqueezeNet, which knows 1,000 kinds of things: to teach its "
                        "last layer the classes of --data, or for --predict, which takes those of a run too (default: those in --out)")
    parser.add_argument("--predict", nargs="+", metavar="PICTURE", help="say what is on them, instead of training")
    args = parser.parse_args()
    if args.weights and args.model:
        parser.error("argument --weights: it says what the model is; leave out --model")
    args.model = "squeezenet" if args.weights else args.model or ("conv" if args.data.startswith("folder:") else "mlp")
    path, _, query = args.data.partition("?")
    if args.weights and path.startswith("folder:") and "size=" not in query:
        args.data = f"{path}?{query}{'&' if query else ''}size={SqueezeNet.size}"                   # what SqueezeNet has learnt to see
    return args


def _augmentation(text):
    try:
        augmentation(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None
    return text


def main():
    args = parse()
    if args.predict:
        return say(args)
    snn.manual_seed(args.seed)
    examples = data.load(args.data).labelled()
    if args.validate:
        examples = examples.hold_out(args.validate)
    watched = examples.set_apart(0.1) if args.patience else examples
    augment = choose_augmentation(args, examples)
    model = build(args, examples).to(args.device)
    loader, optimizer, schedule = prepare(args, model, watched, augment)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema), use_buffers=True) if args.ema else None
    final = average.module if args.ema else model
    stopping = EarlyStopping(final, args.patience or args.epochs + 1)
    parts = {"model": model, "loader": loader, "optimizer": optimizer, "schedule": schedule}
    parts |= {"average": average} if args.ema else {}
    run = Run(args, **parts | ({"stopping": stopping} if args.patience else {}))

    @snn.cuda.graphed
    def learn(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in run.epochs(args.epochs, until=stopping.is_over):
        for x, y in run.batches(loader):
            run.log(loss=learn(x, y))
            schedule.step()
            for linear in model.linears() if args.model == "mlp" else ():
                max_norm_(linear.weight, args.max_norm)
            if args.ema:
                average.update_parameters(model)
        error = metrics.error(predict(final, watched.test_x).argmax(1), watched.test_y)
        run.log(**{"held_out_error" if args.patience else "test_error": error})
        if args.patience:
            stopping.update(error)

    stopping.restore()
    finish(args, run, examples, final, augment)


def prepare(args, model, examples, augment):
    """Loader, optimizer and schedule. Early stopping may end at any epoch, so that with it the learning rate stays where it is."""
    count = len(examples.train_x)
    lonely = count % args.batch_size == 1 < min(args.batch_size, count)                      # batch norm cannot use a single example
    loader = data.DataLoader((examples.train_x, examples.train_y), args.batch_size, shuffle=True, transform=augment, drop_last=lonely)
    optimizer = optim.AdamW(model.parameters(), args.lr, weight_decay=args.weight_decay)
    if args.patience:
        return loader, optimizer, optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return loader, optimizer, optim.lr_scheduler.OneCycleLR(optimizer, args.lr, epochs=args.epochs, steps_per_epoch=len(loader))


def finish(args, run, examples, model, augment):
    """What is written at the end: weights, pictures, the result."""
    probabilities = predict(model, examples.test_x, augment=augment, copies=args.copies)
    error = metrics.error(probabilities.argmax(1), examples.test_y)
    save_classifier(run.out / "weights.safetensors", model, examples)
    draw(run, examples, model, probabilities, f"{examples.name}: {error:.2f} % of {len(examples.test_y):,} wrong")
    chosen = "settings to be chosen by it" if args.validate else "settings not chosen on this split"
    run.result(test_error=error, split=f"last {args.validate} of train" if args.validate else "test",
               protocol=f"{args.data}, {describe(args, augment)}, {chosen}")


def build(args, examples):
    shape, count = examples.shape, len(examples.classes)
    if args.model == "mlp":
        return MLP(shape, count, args.hidden, args.dropout, args.input_dropout)
    if len(shape) != 3:
        raise data.DataError(f"{args.data}: convolutions need pictures, these are rows of {shape[0]} numbers; use --model mlp")
    if args.model == "conv":
        try:
            return ConvNet(shape, count, args.channels, args.dropout)
        except ValueError as fault:
            raise data.DataError(f"{args.data}: {fault}; use larger pictures or fewer --channels") from None
    least = SqueezeNet.least
    if shape[0] != 3 or min(shape[1:]) < least:
        raise data.DataError(f"{args.data}: SqueezeNet takes colour pictures of at least {least} pixels a side, these have shape {shape}")
    return SqueezeNet.pretrained(args.weights, count, args.dropout)


def choose_augmentation(args, examples):
    """What --augment says, or what suits the pictures."""
    x, shape = examples.train_x, examples.shape
    picture = len(shape) == 3 and x.min() >= 0 and x.max() <= 1
    usual = "none" if args.model == "mlp" or not picture else "photographs" if shape[0] == 3 else "drawings"
    augment = augmentation(args.augment or usual)
    if augment is None:
        if args.copies:
            raise data.DataError(f"{args.data}: --copies needs pictures that --augment changes")
        return None
    if not picture:
        raise data.DataError(f"{args.data}: --augment changes pictures in 0..1, these have shape {shape} and go from {x.min():.3g} to "
                             f"{x.max():.3g}; use --augment none")
    if augment.crop and (args.model == "mlp" or min(np.subtract(shape[1:], augment.crop)) < 0):
        raise data.DataError(f"{args.data}: --augment crop={augment.crop} is for convolutions, and no larger than the pictures {shape}")
    light = shape[0] == 1 and edges(x).mean() > 0.5 and not augment.brightness            # dark ink: what comes into view is paper
    return replace(augment, fill=1.0) if light else augment


def describe(args, augment):
    kind = {"mlp": f"MLP {args.hidden}, dropout, max-norm", "conv": f"convolutional net {args.channels}, batch norm, dropout",
            "squeezenet": "last layer of SqueezeNet"}[args.model]
    options = {"weight average {}": args.ema, "early stopping, patience {}": args.patience, "mean over {} copies too": args.copies}
    return ", ".join([kind, "no augmentation" if augment is None else str(augment), *(text.format(n) for text, n in options.items() if n)])


def draw(run, examples, model, probabilities, title):
    predicted, target, names = probabilities.argmax(1), examples.test_y, examples.classes
    judged = "held_out_error" if run.args.patience else "test_error"
    pictures.curves(run.out / "curves.png", {"training loss": {"loss": run.history("loss")},
                                             judged.replace("_", " ") + ", percent": {judged: run.history(judged)}}, examples.name)
    pictures.confusion_matrix(run.out / "confusion.png", metrics.confusion_matrix(predicted, target, len(names)), names, title)
    if len(examples.shape) == 1:                                                             # rows of numbers, nothing to look at
        return

    wrong = np.flatnonzero(predicted != target)
    worst = wrong[np.argsort(probabilities[wrong, target[wrong]], kind="stable")][:24]       # least probability for the truth
    captions = {i: f"{names[target[i]]} taken for {names[predicted[i]]}\n{100 * probabilities[i, predicted[i]]:.0f} % sure" for i in worst}
    if len(worst):
        pictures.image_grid(run.out / "mistakes.png", examples.test_x[worst], list(captions.values()), "The worst mistakes")
    right = np.flatnonzero(predicted == target)
    shown = np.concatenate([right[np.linspace(0, len(right) - 1, min(4, len(right))).astype(int)], worst[:4]])   # of all classes
    draw_reasons(run.out / "reasons.png", model, examples.test_x[shown], predicted[shown],
                 [captions.get(i, names[predicted[i]]) for i in shown])
    if isinstance(model, MLP):
        weight, shape = model.linears()[0].weight.cpu().detach().numpy(), examples.shape
        weight = weight * examples.train_x.std(0).ravel()                                    # what no picture has does not count
    else:
        weight = model.features[0].weight.cpu().detach().numpy()
        weight, shape = weight.reshape(len(weight), -1), weight.shape[1:]
    pictures.filters(run.out / "filters.png", weight, shape, "What the first layer looks for: blue bright, red dark")


def draw_reasons(path, model, x, classes, captions):
    """What in the pictures made the model see these classes."""
    maps = {"saliency": explain.saliency(model, x, classes),
            "occlusion": explain.occlusion(model, x, classes, min(*x.shape[2:], max(2, min(x.shape[2:]) // 5)))}
    if not isinstance(model, MLP):
        maps["Grad-CAM"] = explain.grad_cam(model, model.blocks(), x, classes)
    pictures.heat_maps(path, x, maps, captions, "What made the network decide")


def say(args):
    """The most probable classes of the pictures that --predict names."""
    path = args.weights or args.out / "weights.safetensors"
    if "classifier" in checkpoint.load_metadata(path):
        model, classes, shape, border = load_classifier(path)
        if len(shape) != 3:
            raise data.DataError(f"{path}: this network learnt from rows of {shape[0]} numbers, not from pictures")
        x = like_learnt(data.read_pictures(args.predict, shape[1:], shape[0]), border)
    else:
        model, classes = SqueezeNet.pretrained(path), class_names(weights=path)
        x = np.stack([picture(file, model.size) for file in args.predict])
    probabilities = predict(model.to(args.device), x)
    for file, p in zip(args.predict, probabilities, strict=True):
        print(file)
        for name, share in likeliest(p, classes):
            print(f"{100 * share:7.1f} %  {name}")
    shown = slice(0, 8)
    best = [likeliest(p, classes, 1)[0] for p in probabilities[shown]]
    draw_reasons(args.out / "predicted.png", model, x[shown], probabilities[shown].argmax(1),
                 [f"{name}\n{100 * share:.0f} %" for name, share in best])


if __name__ == "__main__":
    start(main)
