"""Teach a generator to make data by a game: a discriminator learns to tell what it makes from real examples, and it learns to get by.

I. Goodfellow et al. 2014, "Generative adversarial nets". Pictures are made by convolutions (Radford, Metz & Chintala 2016, DCGAN), points
and rows of tables by linear layers.

    python examples/gan.py                                                digits of 8x8 pixels, part of this library
    python examples/gan.py --data mnist                                   DCGAN on MNIST
    python examples/gan.py --data grid --hidden 128 128 128 128 --steps 16000     25 Gaussians: are all modes found?
    python examples/gan.py --data ring --steps 12000                      8 Gaussians
    python examples/gan.py --data glyphs --conditional                    digits of a chosen kind
    python examples/gan.py --data csv:FILE                                a table: new rows
    python examples/gan.py --sample 1000 --from out/gan                   more of a model that was trained before

The loss, --loss, is the generator's and the discriminator's; --penalty holds the discriminator's slope down. Both learning rates fall to 0
along a straight line, and examples are drawn by a moving average of the generator's weights. A game can go wrong: drawn examples that
are all alike ("collapse") or a discriminator that is never wrong any more ("divergence") are reported with the step at which it began.
Expected on two cores: 25 modes and 97 % of good samples of grid, 8 and 98 % of ring, after some minutes (seeds 0 to 4); a Frechet
distance of 3.6 on MNIST by the second line (seed 0), in half an hour of one core beside other work. In the
folder of --out: weights and curves; of pictures samples, a film of what the same noise becomes in training and a walk through the
latent space; of tables and points samples.csv.
"""

from pathlib import Path

import numpy as np

import scratchnn as snn
from scratchnn import data, drawn, optim, pictures
from scratchnn.metrics.judge import judge
from scratchnn.models.gan import GAN, LOSSES, PENALTIES, Watch, examples_for, load_gan, save_gan
from scratchnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import Run, start

FRAMES = 40          # moments of a film
LOOKS = 100          # how often what is drawn is looked at in training
# What is not chosen on the command line, for pictures, for rows of numbers and for those of tables, which have more columns.
PICTURES = {"channels": [32, 64], "hidden": [], "latent": 64, "batch_size": 64, "lr": 1e-3, "penalty": "r1", "penalty_weight": 1.0}
ROWS = {"channels": [], "hidden": [128, 128, 128], "latent": 2, "batch_size": 512, "lr": 3e-3, "penalty": "r1", "penalty_weight": 0.1}
TABLES = ROWS | {"latent": 16}


def parse():
    parser = arguments(__doc__, out="out/gan", data=drawn.DATA, steps=20_000, smoke={"steps": 60, "ema": 0.9})
    parser.add_argument("--latent", type=whole(), metavar="N",
                        help="numbers of noise an example is made of (default: 64; for points 2, for tables 16)")
    parser.add_argument("--hidden", type=whole(), nargs="+", metavar="N", help="units of linear layers (default for rows: 128 128 128)")
    parser.add_argument("--channels", type=whole(), nargs="+", metavar="N",
                        help="of convolutions, the discriminator's; the generator has them in reverse (default for pictures: 32 64)")
    parser.add_argument("--conditional", action="store_true", help="examples of chosen classes; the discriminator is shown the class")
    parser.add_argument("--auxiliary", action="store_true", help="examples of chosen classes; the discriminator says the class")
    parser.add_argument("--loss", choices=(*LOSSES, "feature-matching"), default="non-saturating", help="(default: non-saturating)")
    parser.add_argument("--penalty", choices=PENALTIES, help="of the discriminator's slope: gradient is that of WGAN-GP, for --loss "
                        "wasserstein (default: r1, with --clip none)")
    parser.add_argument("--penalty-weight", type=number(0), metavar="X", help="(default: 1; for rows 0.1)")
    parser.add_argument("--penalty-every", type=whole(), default=4, metavar="N",
                        help="steps from one penalty to the next, which weighs so much more (default: 4)")
    parser.add_argument("--clip", type=number(0), metavar="X", help="clip the discriminator's weights to so much, for --loss wasserstein")
    parser.add_argument("--packing", type=whole(), default=1, metavar="N",
                        help="examples that the discriminator judges at once (default: 1)")
    parser.add_argument("--spectral-norm", action="store_true", help="divide the discriminator's weights by their largest singular value")
    parser.add_argument("--minibatch-deviation", action="store_true", help="show the discriminator how much a batch varies")
    parser.add_argument("--n-critic", type=whole(), default=1, metavar="N",
                        help="discriminator's steps for one of the generator (default: 1)")
    parser.add_argument("--lr", type=number(0), metavar="X", help="learning rate at the start, of both (default: 0.001; for rows 0.003)")
    parser.add_argument("--betas", type=number(0, 0.9999), nargs=2, default=[0.5, 0.99], metavar="X", help="of Adam (default: 0.5 0.99)")
    parser.add_argument("--batch-size", type=whole(2), metavar="N", help="examples in a step (default: 64; for rows 512)")
    parser.add_argument("--ema", type=number(0, 0.99999), default=0.998, metavar="D",
                        help="what the average of the generator's weights keeps of itself in each step (default: 0.998)")
    parser.add_argument("--validate", type=whole(0), default=0, metavar="N",
                        help="hold out the last N training examples and test on them, to choose settings by")
    parser.add_argument("--sample", type=whole(), metavar="N", help="only draw N examples, by the weights in --from; no training")
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="of a run that --sample draws from (default: --out)")
    args = parser.parse_args()
    if args.conditional and args.auxiliary:
        parser.error("argument --auxiliary: the discriminator is either shown the class or asked for it; leave out one of both")
    if args.packing > 1 and (args.conditional or args.auxiliary):
        parser.error("argument --packing: a pack has no class; leave out --conditional and --auxiliary")
    if args.clip is not None and args.loss != "wasserstein":
        parser.error("argument --clip: it is for --loss wasserstein")
    return args


def main():
    args = parse()
    if args.sample:
        return draw_more(args)
    snn.manual_seed(args.seed)
    examples = data.load(args.data)
    if args.validate:
        examples = examples.hold_out(args.validate)
    choose_defaults(args, examples)
    classes = len(examples.labelled().classes) if args.conditional or args.auxiliary else 0
    look = examples_for(examples)
    model = GAN(look, args.latent, args.hidden, args.channels, classes=classes, auxiliary=args.auxiliary, loss=args.loss,
                batch_norm=bool(args.channels), penalty=args.penalty, packing=args.packing, spectral=args.spectral_norm,
                deviation=args.minibatch_deviation).to(args.device)
    x = look.encode(examples.train_x)
    loader = data.DataLoader((x, examples.train_y) if classes else x, args.batch_size, shuffle=True, drop_last=True)
    epochs = -(-args.steps // len(loader))
    to_tell, to_make = (optim.Adam(network.parameters(), args.lr, tuple(args.betas)) for network in (model.discriminator, model.generator))
    steps = epochs * len(loader)
    tell_schedule = optim.lr_scheduler.LinearLR(to_tell, 1.0, 0.0, steps)
    make_schedule = optim.lr_scheduler.LinearLR(to_make, 1.0, 0.0, max(1, steps // args.n_critic))
    average = AveragedModel(model.generator, multi_avg_fn=get_ema_multi_avg_fn(args.ema), use_buffers=True)
    watch, film = Watch(critic=args.loss == "wasserstein"), pictures.Film()
    run = Run(args, model=model, average=average, loader=loader, to_tell=to_tell, to_make=to_make,
              tell_schedule=tell_schedule, make_schedule=make_schedule, watch=watch, film=film)

    @snn.cuda.graphed
    def learn_to_tell(real, y, is_penalised):
        loss, on_real, on_drawn, made = model.discriminator_loss(real, y)
        if is_penalised:
            loss = loss + args.penalty_weight * args.penalty_every * model.slope_penalty(real, made, y)
        to_tell.zero_grad()
        loss.backward()
        to_tell.step()
        if args.clip is not None:
            model.discriminator.clip_weights(args.clip)
        return on_real, on_drawn

    @snn.cuda.graphed
    def learn_to_make(real, y):
        loss = model.generator_loss(real, y)
        to_make.zero_grad()
        loss.backward()
        to_make.step()

    for _ in run.epochs(epochs):
        for batch in run.batches(loader):
            real, y = batch if classes else (batch, None)
            watch.update(*learn_to_tell(real, y, args.penalty != "none" and run.step % args.penalty_every == 0))
            tell_schedule.step()
            if (run.step + 1) % args.n_critic == 0:
                learn_to_make(real, y)
                make_schedule.step()
                average.update_parameters(model.generator)
            if moment(run, steps, LOOKS):
                look_at(run, examples, model, average, watch)
            if moment(run, steps, FRAMES) and len(examples.shape) == 3:
                film.add(averaged(model, average).generate(*drawn.fixed_noise(model.latent, model.classes, 5, 8)))

    finish(args, run, examples, averaged(model, average), watch, film)


def choose_defaults(args, examples):
    """What the command line leaves open, as fits the data."""
    picture = len(examples.shape) == 3
    if args.clip is not None and args.penalty is None:
        args.penalty = "none"                                                  # clipping already bounds the slope
    if args.channels and not picture:
        raise data.DataError(f"{args.data}: --channels is for pictures, these are rows of {examples.shape[0]} numbers; use --hidden")
    defaults = PICTURES | ({"channels": []} if args.hidden else {})
    for name, value in (defaults if picture else TABLES if examples.table else ROWS).items():
        if vars(args)[name] is None:
            setattr(args, name, value)
    args.batch_size = min(args.batch_size, len(examples.train_x)) // args.packing * args.packing
    if not args.batch_size:
        raise data.DataError(f"--packing {args.packing}: there are fewer examples in a batch")


def moment(run, steps, count):
    """Whether this step ends one of `count` equal parts of the training."""
    return (run.step + 1) * count // steps > run.step * count // steps


def averaged(model, average):
    """The model with the average of its generator's weights: both networks of the result."""
    return model.with_generator(average.module)


def look_at(run, examples, model, average, watch):
    """Log how the game stands, and say at once if it went wrong."""
    before = watch.report()
    samples = averaged(model, average).sample(1000, like_test(examples, model, 1000), Generator(0))
    run.log(**watch.judge(run.step, examples.train_x[:1000], samples), **judge(examples, samples, teach=False))
    if watch.report() != before:
        run.say(watch.report() or "the game goes on well again")


def like_test(examples, model, count):
    """Labels like those of `count` test examples, of a model that takes some."""
    return np.resize(examples.test_y, count) if model.classes else None


# ---- what is written ------------------------------------------------------------------------------------------------------

def finish(args, run, examples, model, watch, film):
    save_gan(run.out / "weights.safetensors", model, examples)
    draw(run, examples, model, film)
    if watch.report():
        run.say(f"at the end: {watch.report()}")
    count = {"ring": 2500, "grid": 2500, "stacked-mnist": 26_000}.get(examples.name, min(10_000, len(examples.test_x)))
    samples = model.sample(count, like_test(examples, model, count), Generator(args.seed))
    figures = judge(examples, samples)
    if "frechet" in figures:
        figures["frechet_of_train"] = judge(examples, examples.train_x[:count])["frechet"]
    slope = f"penalty {args.penalty} of weight {args.penalty_weight:g}" if args.penalty != "none" else "no penalty"
    run.result(**figures, split=f"last {args.validate} of train" if args.validate else "test",
               protocol=f"{args.data}, {count} drawn, seed {args.seed}; {args.loss}, {slope}; layers {args.channels + args.hidden}, "
                        f"{args.latent} latents, batches of {args.batch_size}, {run.step} steps")


def draw(run, examples, model, film):
    names = {"the discriminator's logits": ("on_real", "on_drawn"), "share it tells": ("told_real", "told_drawn"),
             "spread of what is drawn": ("spread",)}
    judged = [name for name in ("modes", "frechet") if len(run.history(name)[0])]
    pictures.curves(run.out / "curves.png", {title: {name: run.history(name) for name in group} for title, group in
                                             (names | {name: (name,) for name in judged}).items()}, examples.name, log=False)
    if len(examples.shape) == 3:
        film.write(run.out / "progress.gif", 8)
        draw_pictures(run.out, examples, model)
    else:
        draw_rows(run.out, examples, model)


def draw_pictures(out, examples, model):
    samples = model.generate(*drawn.fixed_noise(model.latent, model.classes, 10, 12))
    pictures.image_table(out / "samples.png", samples.reshape(-1, 12, *examples.shape),
                         examples.classes[:drawn.CLASSES] if model.classes else ())
    path = drawn.round_trip(model.latent, 32)                                  # (84, 32, L)
    y = np.tile(np.arange(32) % model.classes, len(path)) if model.classes else None
    pictures.animation(out / "walk.gif", model.generate(path.reshape(-1, model.latent), y).reshape(*path.shape[:2], *examples.shape), 8)


def draw_rows(out, examples, model):
    """As many rows as there are to learn from, and of points their picture."""
    y = examples.train_y if model.classes else None
    rows = model.sample(len(examples.train_x), y, Generator(0))
    drawn.write_rows(out / "samples.csv", model.examples.cells(rows), y, examples.classes, examples.target)
    if examples.shape == (2,):
        pictures.scatter(out / "points.png", {"test": examples.test_x, "samples": rows[:len(examples.test_x)]})


def draw_more(args):
    """--sample: new examples of a model that was trained before, of each class as often as it learnt it."""
    model, shares, target = load_gan((args.source or args.out) / "weights.safetensors")
    model.to(args.device)
    generator = Generator(args.seed)
    y = drawn.labels_for(shares, args.sample, generator)
    x = model.sample(args.sample, y, generator)
    args.out.mkdir(parents=True, exist_ok=True)
    if len(model.examples.shape) == 3:
        drawn.write_pictures(args.out, x, y, list(shares))
    else:
        drawn.write_rows(args.out / "samples.csv", model.examples.cells(x), y, list(shares), target)


if __name__ == "__main__":
    start(main)
