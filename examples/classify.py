"""Classify pictures or rows of a table with a multilayer perceptron that is trained with dropout, or pictures with a convolutional net.

A network that classifies learns p(class | picture), and nothing about what pictures look like. Dropout sets a random share of the
hidden units to 0 in each step, so that no unit can rely on another, and max-norm keeps each unit's incoming weights within
a ball, which allows the high learning rates at which dropout works best: N. Srivastava, G. Hinton, A. Krizhevsky,
I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    python examples/classify.py                                     digits of 8x8 pixels, part of this library
    python examples/classify.py --data 'csv:FILE?target=COLUMN'     a table of yours; folder:DIR with a subfolder of pictures for each class
    python examples/classify.py --data mnist --model conv --epochs 4                                  convolutions and batch norm
    python examples/classify.py --data mnist --hidden 1024 1024 1024 --dropout 0.5 --input-dropout 0.2 --max-norm 3 --lr 1e-3

Expected of the MLP on digits: test_error=0.8 to 1.7 (percent, seeds 0 to 9) after 2 to 5 s of training on two cores. The settings were
chosen by cross-validation within the training part. In the folder of --out: learning curves, the confusion matrix, of pictures
the worst mistakes, what the first layer looks for, and the weights.
"""

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, data, metrics, optim, pictures
from scratchnn.models.classifier import MLP, ConvNet, predict
from scratchnn.nn.utils import max_norm_
from scratchnn.run import Run, arguments, start

DATA = ("digits", "glyphs", "mnist", "fashion-mnist", "cifar10", "cifar10-subset", "moons", "swiss-roll", "ring", "grid", "csv:", "npy:",
        "folder:")


def parse():
    parser = arguments(__doc__, out="out/classify", data=DATA, epochs=40, smoke={"epochs": 6, "hidden": [64]})
    parser.add_argument("--model", choices=("mlp", "conv"), default="mlp", help="what classifies (default: mlp)")
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128], metavar="N", help="of conv's blocks (default: 32 64 128)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 256], metavar="N", help="mlp's hidden units (default: 256 256)")
    parser.add_argument("--dropout", type=float, default=0.3, metavar="P", help="of the hidden units, of conv's means (default: 0.3)")
    parser.add_argument("--input-dropout", type=float, default=0.1, metavar="P", help="of the pixels of an mlp (default: 0.1)")
    parser.add_argument("--max-norm", type=float, default=1.5, metavar="R", help="of an mlp's unit's incoming weights (default: 1.5)")
    parser.add_argument("--lr", type=float, default=5e-3, help="highest learning rate of the one-cycle schedule (default: 0.005)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="examples in a step (default: 64)")
    parser.add_argument("--validate", type=int, default=0, metavar="N",
                        help="hold out the last N training examples and test on them, to choose settings by")
    return parser.parse_args()


def main():
    args = parse()
    snn.manual_seed(args.seed)
    examples = data.load(args.data).labelled()
    if args.validate:
        examples = examples.hold_out(args.validate)

    model = build(args, examples).to(args.device)
    loader = data.DataLoader((examples.train_x, examples.train_y), args.batch_size, shuffle=True)
    optimizer = optim.Adam(model.parameters(), args.lr)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, args.lr, epochs=args.epochs, steps_per_epoch=len(loader))
    run = Run(args, model=model, loader=loader, optimizer=optimizer, schedule=schedule)

    for _ in run.epochs(args.epochs):
        for x, y in run.batches(loader):
            loss = F.cross_entropy(model(x), y)
            run.log(loss=loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            for linear in model.linears() if args.model == "mlp" else ():
                max_norm_(linear.weight, args.max_norm)
        run.log(test_error=metrics.error(predict(model, examples.test_x).argmax(1), examples.test_y))

    probabilities = predict(model, examples.test_x)
    error = metrics.error(probabilities.argmax(1), examples.test_y)
    draw(run, examples, model, probabilities, f"{examples.name}: {error:.2f} % of {len(examples.test_y):,} wrong")
    checkpoint.save_weights(run.out / "weights.safetensors", model.state_dict())
    run.result(test_error=error, split=f"last {args.validate} of train" if args.validate else "test",
               protocol=f"{args.data}, {describe(args)}, no augmentation, settings not chosen on this split")


def build(args, examples):
    if args.model == "mlp":
        return MLP(examples.shape, len(examples.classes), args.hidden, args.dropout, args.input_dropout)
    if len(examples.shape) != 3:
        raise data.DataError(f"{args.data}: --model conv needs pictures, these are rows of {examples.shape[0]} numbers; use --model mlp")
    return ConvNet(examples.shape, len(examples.classes), args.channels, args.dropout)


def describe(args):
    return f"MLP {args.hidden}, dropout, max-norm" if args.model == "mlp" else f"convolutional net {args.channels}, batch norm, dropout"


def draw(run, examples, model, probabilities, title):
    predicted, target, names = probabilities.argmax(1), examples.test_y, examples.classes
    pictures.curves(run.out / "curves.png", {"training loss": {"loss": run.history("loss")},
                                             "test error, percent": {"test": run.history("test_error")}}, examples.name)
    pictures.confusion_matrix(run.out / "confusion.png", metrics.confusion_matrix(predicted, target, len(names)), names, title)

    if len(examples.shape) == 1:                                                             # rows of numbers, nothing to look at
        return
    wrong = np.flatnonzero(predicted != target)
    worst = wrong[np.argsort(probabilities[wrong, target[wrong]], kind="stable")][:24]       # least probability for the truth
    captions = [f"{names[target[i]]} taken for {names[predicted[i]]}\n{100 * probabilities[i, predicted[i]]:.0f} % sure" for i in worst]
    if len(worst):
        pictures.image_grid(run.out / "mistakes.png", examples.test_x[worst], captions, "The worst mistakes")
    if isinstance(model, MLP):
        weight, shape = model.linears()[0].weight.detach().numpy(), examples.shape
        weight = weight * examples.train_x.std(0).ravel()                                    # what no picture has does not count
    else:
        weight = model.features[0].weight.detach().numpy()
        weight, shape = weight.reshape(len(weight), -1), weight.shape[1:]
    pictures.filters(run.out / "filters.png", weight, shape, "What the first layer looks for: blue ink, red no ink")


if __name__ == "__main__":
    start(main)
