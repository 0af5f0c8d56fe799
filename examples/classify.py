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
chosen by cross-validation within the training part. In the folder of --out: learning curves, the confusion matrix, of pictures
the worst mistakes, what made the network decide, what the first layer looks for, and the weights.
"""

import argparse
from pathlib import Path

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, data, explain, metrics, optim, pictures
from scratchnn.data.augment import augmentation
from scratchnn.models.classifier import MLP, ConvNet, like_learnt, load_classifier, predict, save_classifier
from scratchnn.models.squeezenet import SIZE, SqueezeNet, class_names, likeliest, picture
from scratchnn.nn.utils import max_norm_
from scratchnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from scratchnn.run import EarlyStopping, Run, arguments, start

DATA = ("digits", "glyphs", "mnist", "fashion-mnist", "cifar10", "cifar10-subset", "moons", "swiss-roll", "ring", "grid", "csv:", "npy:",
        "folder:")


def parse():
    parser = arguments(__doc__, out="out/classify", data=DATA, epochs=40, smoke={"epochs": 6, "hidden": [64], "channels": [8, 16]})
    parser.add_argument("--model", choices=("mlp", "conv"), help="what classifies (default: conv for folder:, otherwise mlp)")
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128], metavar="N", help="of conv's blocks (default: 32 64 128)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256], metavar="N", help="mlp's hidden units (default: 256 256)")
    parser.add_argument("--dropout", type=float, default=0.3, metavar="P", help="of the hidden units, of conv's means (default: 0.3)")
    parser.add_argument("--input-dropout", type=float, default=0.1, metavar="P", help="of the pixels of an mlp (default: 0.1)")
    parser.add_argument("--max-norm", type=float, default=1.5, metavar="R", help="of an mlp's unit's incoming weights (default: 1.5)")
    parser.add_argument("--lr", type=float, default=5e-3, help="highest learning rate of the one-cycle schedule (default: 0.005)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="examples in a step (default: 64)")
    parser.add_argument("--weight-decay", type=float, default=0, metavar="L", help="of AdamW (default: 0)")
    parser.add_argument("--augment", type=_augmentation, metavar="HOW", help="none, drawings, photographs, or settings as in "
                        "shift=0.1,rotate=10 (default: of an mlp none, of conv photographs if there is colour, otherwise drawings)")
    parser.add_argument("--ema", type=float, default=0, metavar="D", help="use the moving average of the weights that keeps so much of "
                        "itself in each step, such as 0.999 (default: 0, the weights themselves)")
    parser.add_argument("--copies", type=int, default=0, metavar="N", help="classify the mean of so many augmented copies (default: 0)")
    parser.add_argument("--patience", type=int, metavar="N", help="hold out a tenth of what is learnt from, stop when N epochs were no "
                        "better on it, and take the best weights")
    parser.add_argument("--validate", type=int, default=0, metavar="N",
                        help="hold out the last N training examples and test on them, to choose settings by")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of SqueezeNet, which knows 1,000 kinds of things: to teach its "
                        "last layer the classes of --data, or for --predict, which takes those of a run too (default: those in --out)")
    parser.add_argument("--predict", nargs="+", metavar="PICTURE", help="say what is on them, instead of training")
    args = parser.parse_args()
    args.model = "squeezenet" if args.weights else args.model or ("conv" if args.data.startswith("folder:") else "mlp")
    if args.weights and args.data.startswith("folder:") and "size=" not in args.data:
        args.data += f"{'&' if '?' in args.data else '?'}size={SIZE}"                    # what SqueezeNet has learnt to see
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
    watched = examples.hold_out(len(examples.train_x) // 10) if args.patience else examples
    augment = choose_augmentation(args, examples.shape)

    model = build(args, examples).to(args.device)
    loader = data.DataLoader((watched.train_x, watched.train_y), args.batch_size, shuffle=True, transform=augment)
    optimizer = optim.AdamW(model.parameters(), args.lr, weight_decay=args.weight_decay)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, args.lr, epochs=args.epochs, steps_per_epoch=len(loader))
    parts = {"model": model, "loader": loader, "optimizer": optimizer, "schedule": schedule}
    if args.ema:
        parts["average"] = average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema), use_buffers=True)
    final = average.module if args.ema else model
    if args.patience:
        parts["stopping"] = stopping = EarlyStopping(final, args.patience)
    run = Run(args, **parts)

    for _ in run.epochs(args.epochs, until=stopping.is_over if args.patience else lambda: False):
        for x, y in run.batches(loader):
            loss = F.cross_entropy(model(x), y)
            run.log(loss=loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            for linear in model.linears() if args.model == "mlp" else ():
                max_norm_(linear.weight, args.max_norm)
            if args.ema:
                average.update_parameters(model)
        error = metrics.error(predict(final, watched.test_x).argmax(1), watched.test_y)
        run.log(**{"held_out_error" if args.patience else "test_error": error})
        if args.patience:
            stopping.update(error)

    if args.patience:
        stopping.restore()
    probabilities = predict(final, examples.test_x, augment=augment, copies=args.copies)
    error = metrics.error(probabilities.argmax(1), examples.test_y)
    save_classifier(run.out / "weights.safetensors", final, examples)
    draw(run, examples, final, probabilities, f"{examples.name}: {error:.2f} % of {len(examples.test_y):,} wrong")
    run.result(test_error=error, split=f"last {args.validate} of train" if args.validate else "test",
               protocol=f"{args.data}, {describe(args, augment)}, settings not chosen on this split")


def build(args, examples):
    if args.model == "squeezenet":
        return SqueezeNet.pretrained(args.weights, len(examples.classes), args.dropout)
    if args.model == "mlp":
        return MLP(examples.shape, len(examples.classes), args.hidden, args.dropout, args.input_dropout)
    if len(examples.shape) != 3:
        raise data.DataError(f"{args.data}: --model conv needs pictures, these are rows of {examples.shape[0]} numbers; use --model mlp")
    return ConvNet(examples.shape, len(examples.classes), args.channels, args.dropout)


def choose_augmentation(args, shape):
    """What --augment says, or what suits the pictures."""
    if args.augment:
        if len(shape) == 1 and args.augment != "none":
            raise data.DataError(f"{args.data}: --augment changes pictures, these are rows of {shape[0]} numbers")
        return augmentation(args.augment)
    return augmentation("none" if args.model == "mlp" else "photographs" if shape[0] == 3 else "drawings")


def describe(args, augment):
    kind = {"mlp": f"MLP {args.hidden}, dropout, max-norm", "conv": f"convolutional net {args.channels}, batch norm, dropout",
            "squeezenet": "last layer of SqueezeNet"}[args.model]
    return f"{kind}, {'no augmentation' if augment is None else augment}" + (f", mean over {args.copies} copies too" if args.copies else "")


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
        weight, shape = model.linears()[0].weight.detach().numpy(), examples.shape
        weight = weight * examples.train_x.std(0).ravel()                                    # what no picture has does not count
    else:
        weight = model.features[0].weight.detach().numpy()
        weight, shape = weight.reshape(len(weight), -1), weight.shape[1:]
    pictures.filters(run.out / "filters.png", weight, shape, "What the first layer looks for: blue ink, red no ink")


def draw_reasons(path, model, x, classes, captions):
    """What in the pictures made the model see these classes."""
    maps = {"saliency": explain.saliency(model, x, classes),
            "occlusion": explain.occlusion(model, x, classes, max(2, min(x.shape[2:]) // 5))}
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
        names = path.with_name("imagenet-simple-labels.json")
        model, classes = SqueezeNet.pretrained(path), class_names(names if names.exists() else None)
        x = np.stack([picture(file) for file in args.predict])
    probabilities = predict(model, x)
    for file, p in zip(args.predict, probabilities, strict=True):
        print(file)
        for name, share in likeliest(p, classes):
            print(f"{100 * share:7.1f} %  {name}")
    best = [likeliest(p, classes, 1)[0] for p in probabilities]
    draw_reasons(args.out / "reasons.png", model, x, probabilities.argmax(1), [f"{name}\n{100 * share:.0f} %" for name, share in best])


if __name__ == "__main__":
    start(main)
