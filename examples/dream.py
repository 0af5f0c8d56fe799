"""Deep Dream: change a photograph until a network that classifies sees more of what it has learnt to see.

The network stays as it is, and the picture is trained, by gradient ascent on the activations of a layer, in several sizes from small to
large: A. Mordvintsev, C. Olah & M. Tyka 2015, "Inceptionism: Going deeper into neural networks". What was made to tell classes apart turns
out to hold pictures of them.

    python examples/dream.py                                            matplotlib's photograph, a network trained now on printed digits
    python examples/dream.py PHOTO --network squeezenet                 a photograph of yours, a network that knows 1,000 kinds of things
    python examples/dream.py PHOTO --network squeezenet --layer features.9 --normalise mean
    python examples/dream.py PHOTO --network squeezenet --class flamingo --normalise frequency --steps 20
    python examples/dream.py PHOTO --network squeezenet --guide OTHER --layer features.7      with what is seen in another picture
    python examples/dream.py PHOTO --network squeezenet --zoom 40       a flight into the dream
    python examples/dream.py PHOTO --network out/classify               a network of yours, by examples/classify.py; an MLP dreams in its
                                                                        own size alone, in one octave and without --jitter
    python examples/dream.py --network squeezenet --list-layers

In the folder of --out: dream.png in full size, before-after.png with what the network sees in both, and of --zoom dream.gif.
objective is how strongly the layer answers in the end, times_noise how much more than to the photograph with noise as strong as what was
dreamt; with --class, its probability before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import data, optim, pictures
from scratchnn.data.augment import DRAWINGS
from scratchnn.data.dataset import DataError
from scratchnn.models import dream as dreams
from scratchnn.models.classifier import MLP, NETWORKS, ConvNet, load_classifier, predict, save_classifier
from scratchnn.models.imagenet import class_names, likeliest, picture
from scratchnn.options import arguments, number, whole
from scratchnn.run import Run, start

DATA = ("glyphs", "digits", "mnist", "fashion-mnist", "cifar10", "cifar10-subset", "folder:")
PHOTO = "grace_hopper.jpg"       # of matplotlib's sample data: Rear Admiral Grace Hopper, by James S. Davis, public domain
SHOWN = 5                        # classes that are named under a picture


def parse():
    parser = arguments(__doc__, out="out/dream", data=DATA, epochs=1, cuda=False,
                       smoke={"data": "digits", "octaves": 2, "steps": 2, "size": 96})
    parser.add_argument("photo", nargs="?", type=Path, metavar="PHOTO", help="what is dreamt of (default: matplotlib's sample photograph)")
    parser.add_argument("--network", metavar="NAME", help=f"{', '.join(NETWORKS)} with the weights in $SCRATCHNN_DATA or --weights, or "
                        "the folder of a classifier trained before (default: a small one is trained on --data, for --epochs)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--list-layers", action="store_true", help="only name the layers, with channels and size, and the classes")
    parser.add_argument("--layer", nargs="+", default=[], metavar="NAME", help="whose answer shall grow; of several, NAME=WEIGHT says how "
                        "much each counts (default: a late one, unless --class is given)")
    parser.add_argument("--channel", type=whole(0), metavar="N", help="of the layer, instead of all")
    parser.add_argument("--unit", type=int, nargs=2, metavar=("ROW", "COLUMN"), help="of the channel, counted from the middle")
    parser.add_argument("--class", dest="target", metavar="NAME", help="or number of the class that shall be seen")
    parser.add_argument("--guide", type=Path, metavar="PHOTO", help="another picture: what the layer answers becomes more like what "
                        "it answers to this one")
    parser.add_argument("--from-noise", action="store_true", help="dream of noise of the photograph's size, not of the photograph")
    parser.add_argument("--size", type=whole(32), metavar="N", help="pixels of the longer side (default: as it is, at most 1024)")
    parser.add_argument("--octaves", type=whole(), default=4, metavar="N", help="sizes that are dreamt in (default: 4)")
    parser.add_argument("--scale", type=number(1.01), default=1.4, metavar="X", help="from one size to the next (default: 1.4)")
    parser.add_argument("--steps", type=whole(), default=10, metavar="N", help="in each size (default: 10)")
    parser.add_argument("--rate", type=number(0), default=1.5, metavar="X", help="mean change of a pixel in a step, of 255 (default: 1.5)")
    parser.add_argument("--jitter", type=whole(0), default=32, metavar="N", help="pixels that it is moved by at random (default: 32)")
    parser.add_argument("--flip", action="store_true", help="mirror it at random too")
    parser.add_argument("--rotate", type=number(0, 45), default=0, metavar="DEGREES", help="turn it at random by at most so much "
                        "(default: 0)")
    parser.add_argument("--normalise", choices=dreams.NORMALISATIONS, default="laplacian", help="the gradient: by its mean size, "
                        "by bands of a Laplacian pyramid, or by frequency (default: laplacian)")
    parser.add_argument("--tv", type=number(0), default=0, metavar="X", help="weight of the total variation, which smooths (default: 0)")
    parser.add_argument("--keep-colours", action="store_true", help="change brightness alone")
    parser.add_argument("--tile", type=whole(dreams.LEAST_TILE), default=512, metavar="N", help="pixels a side that are looked at at "
                        f"once at most, a multiple of {dreams.GRID} (default: 512)")
    parser.add_argument("--zoom", type=whole(), default=1, metavar="FRAMES", help="of a flight into the dream, as a GIF (default: 1, none)")
    args = parser.parse_args()
    if args.weights and args.network not in NETWORKS:
        parser.error(f"argument --weights: they are for --network {', '.join(NETWORKS)}")
    if (args.channel is not None or args.unit or args.guide) and len(args.layer) != 1:
        parser.error("argument --channel, --unit, --guide: they need one --layer")
    if args.guide and args.channel is not None:
        parser.error("argument --guide: it is for all channels; leave out --channel")
    if args.unit and args.channel is None:
        parser.error("argument --unit: it is one of a --channel")
    if args.tile % dreams.GRID:
        parser.error(f"argument --tile: must be a multiple of {dreams.GRID}, got {args.tile}")
    return args


def main():
    args = parse()
    snn.manual_seed(args.seed)
    model, classes, shape = network(args)
    if args.list_layers:
        return list_layers(model, classes, shape)
    if isinstance(model, MLP):                                   # it sees pictures of one size alone
        args.octaves, args.jitter = 1, 0
    photo = read_photo(args, shape if isinstance(model, MLP) else None)
    try:
        objectives = wished(args, model, classes)
        how = dreams.Dreaming(args.octaves, args.scale, args.steps, args.rate / 255, args.jitter, args.flip, args.rotate, args.normalise,
                              args.tv, args.keep_colours, args.tile)
        dream = dreams.Dream(model, photo, objectives, how, frames=args.zoom)
    except ValueError as fault:
        raise DataError(str(fault)) from None
    run = Run(args, dream=dream)
    for _ in run.steps(dream.steps):
        run.log(objective=dream.step())
    finish(args, run, model, classes, photo, dream)


# ---- what is dreamt with and of --------------------------------------------------------------------------------------------

def network(args):
    """(network, names of its classes, shape (C, H, W) of the pictures that it has learnt from)."""
    if args.network in NETWORKS:
        model = NETWORKS[args.network].pretrained(args.weights)
        return model, class_names(weights=args.weights), (3, model.size, model.size)
    if args.network is None:
        folder = train(args)
    else:
        folder = Path(args.network)
        if not (folder / "weights.safetensors").exists():
            raise DataError(f"--network {args.network}: neither {', '.join(NETWORKS)} nor a folder with the weights.safetensors of a "
                            "classifier; python examples/classify.py --model conv trains one")
    model, classes, shape, _ = load_classifier(folder / "weights.safetensors")
    if len(shape) != 3:
        raise DataError(f"--network {args.network}: this network learnt from rows of {shape[0]} numbers, not from pictures")
    return model, classes, shape


def train(args):
    """A small classifier of --data, trained now: the folder of its weights."""
    own = argparse.Namespace(**vars(args) | {"out": args.out / "network", "record": None})
    examples = data.load(args.data).labelled()
    model = ConvNet(examples.shape, len(examples.classes), (16, 32, 64)).to(args.device)
    augment = DRAWINGS if examples.shape[0] == 1 else None
    loader = data.DataLoader((examples.train_x, examples.train_y), 64, shuffle=True, transform=augment, drop_last=True)
    optimizer = optim.AdamW(model.parameters(), 5e-3)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs=args.epochs, steps_per_epoch=len(loader))
    run = Run(own, model=model, loader=loader, optimizer=optimizer, schedule=schedule)
    for _ in run.epochs(args.epochs):
        for x, y in run.batches(loader):
            loss = F.cross_entropy(model(x), y)
            run.log(loss=loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    save_classifier(own.out / "weights.safetensors", model, examples)
    return own.out


def read_photo(args, shape):
    """The photograph (1, 3, H, W) in 0..1, or noise of its size; in the size of `shape`, if it is not None."""
    path = args.photo
    if path is None:
        from matplotlib import cbook
        path = cbook.get_sample_data(PHOTO, asfileobj=False)
    H, W = data.read_picture(path).shape[1:]
    shrink = min(1.0, 1024 / max(H, W)) if args.size is None else args.size / max(H, W)
    size = tuple(max(1, round(n * shrink)) for n in (H, W)) if shape is None else tuple(shape[1:])
    if args.from_noise:
        return np.clip(0.5 + 0.1 * snn.randn(1, 3, *size).numpy(), 0, 1)
    return data.read_picture(path, size)[None] / np.float32(255)


def wished(args, model, classes):
    """The objectives that the options name."""
    found = []
    for text in args.layer:
        name, _, weight = text.partition("=")
        try:
            found.append(dreams.Objective(name, args.channel, args.unit and tuple(args.unit), float(weight or 1)))
        except ValueError:
            raise DataError(f"--layer {text}: the weight must be a number") from None
    if args.guide:
        other = read_guide(args, model)
        found[0] = found[0]._replace(guide=dreams.activations(model, other, found[0].layer))
    if args.target is not None:
        last = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))][-1]
        found.append(dreams.Objective(last, number_of(args.target, classes)))
    if not found:
        late = model.linears()[-2] if isinstance(model, MLP) else model.blocks()[-1]
        found.append(dreams.Objective(next(name for name, module in model.named_modules() if module is late)))
    return found


def number_of(target, classes):
    """The number of a class, given by name or number."""
    lower = [name.lower() for name in classes]
    if target.lower() in lower:
        return lower.index(target.lower())
    if target.isdigit() and int(target) < len(classes):
        return int(target)
    import difflib
    close = difflib.get_close_matches(target.lower(), lower, 5) or [name for name in lower if target.lower() in name][:5]
    raise DataError(f"--class {target}: there is no such class; " + (f"close are {', '.join(close)}" if close else
                    f"numbers go from 0 to {len(classes) - 1}, --list-layers shows the names"))


def read_guide(args, model):
    """The picture of --guide, (1, C, H, W), at most 512 pixels long, as the network takes it."""
    H, W = data.read_picture(args.guide).shape[1:]
    shrink = min(1.0, 512 / max(H, W))
    return data.read_pictures([args.guide], (max(1, round(H * shrink)), max(1, round(W * shrink))), dreams.channels(model))


# ---- what is written --------------------------------------------------------------------------------------------------------

def list_layers(model, classes, shape):
    """--list-layers: what --layer, --channel and --class can be."""
    for name, found in dreams.layers(model, shape).items():
        print(f"{name:34s}{found[1]:6,} channels" + (f" of {found[2]} x {found[3]} units" if len(found) == 4 else ""))
    print(f"\n{len(classes):,} classes:", ", ".join(classes))


def finish(args, run, model, classes, photo, dream):
    files = [run.out / "photo.png", run.out / "dream.png"]
    for file, image in zip(files, (photo, dream.picture), strict=True):
        pictures.save(file, image[0])
    if args.zoom > 1:
        pictures.moving_photograph(run.out / "dream.gif", np.concatenate(dream.film))
    published = args.network in NETWORKS                         # which know things by their size in the middle of a photograph
    before, after = predict(model, np.stack([picture(file, model.size) for file in files]) if published else
                            data.read_pictures(files, photo.shape[2:], dreams.channels(model)))
    captions = ["\n".join(f"{100 * share:5.1f} %  {name}" for name, share in likeliest(p, classes, SHOWN)) for p in (before, after)]
    pictures.side_by_side(run.out / "before-after.png", [photo[0], dream.picture[0]], captions)
    print(f"before:\n{captions[0]}\nafter:\n{captions[1]}")

    found = {"objective": dream.score(dream.picture)}
    noise = dream.score(noisy(dream.start, dream.picture))
    if args.target is None and noise > 0:                        # a channel's mean need not be
        found["times_noise"] = found["objective"] / noise
    if args.target is not None:
        found |= {f"probability_{when}": float(p[number_of(args.target, classes)]) for when, p in (("before", before), ("after", after))}
    what = ", ".join(filter(None, [args.target and f"class {args.target}", *[f"{o.layer}" for o in dream.objectives if not args.target]]))
    run.result(**found, split="one photograph",
               protocol=f"{args.network or args.data}, {what} on {args.photo.name if args.photo else PHOTO}, {photo.shape[3]} x "
                        f"{photo.shape[2]} pixels, {args.octaves} octaves of {args.steps} steps, {args.normalise}")


def noisy(photo, dreamt):
    """The photograph with normal noise that is as strong, in its 2-norm, as what was dreamt."""
    noise = snn.randn(*photo.shape).numpy()
    return np.clip(photo + noise * (np.linalg.norm(dreamt - photo) / np.linalg.norm(noise)), 0, 1)


if __name__ == "__main__":
    start(main)
