"""Learn what data look like with a variational autoencoder, and draw new ones: pictures, points, or rows of a table.

An encoder says which latent numbers z may stand behind an example x, a decoder what examples a z makes. Both learn together, by making a
lower bound of log p(x) large: D. Kingma & M. Welling, "Auto-encoding variational Bayes" (2014). With --k above 1 the bound is that of
Y. Burda, R. Grosse & R. Salakhutdinov, "Importance weighted autoencoders" (2016), which is closer to log p(x).

    python examples/vae.py                                                        digits of 8x8 pixels, part of this library
    python examples/vae.py --data mnist --latent 50 --hidden 200 200 --k 1 --lr 0.002 --epochs 800 --samples 5000
    python examples/vae.py --data mnist --channels 32 64 --latent 2               convolutions, and a map of all that it can draw
    python examples/vae.py --data glyphs --channels 32 64 --latent 2 --conditional      a map of each digit
    python examples/vae.py --data moons                                           points, in half a minute
    python examples/vae.py --data csv:FILE                                        a table: new rows
    python examples/vae.py --data 'csv:FILE?target=COLUMN' --conditional          the same for each class in a column
    python examples/vae.py --sample 1000 --from out/vae                           more of a model that was trained before

Expected on two cores: nll=22.8 on digits after 11 seconds, 86.6 on MNIST, by the second line, after an hour (seed 0). nll is
-log p(x) of test examples by importance sampling, with --samples for each; of numbers, the density of standardised ones. Grey
pictures are made black and white anew in each epoch, with their grey values as probabilities, and those of the test once, by a stated
seed. bits_per_dim is nll in bits for each pixel; a density of numbers has none. Points and tables have defaults of their own (see
`choose`): with 2,000 training points held out, moons got auc=0.52, with 5,000 and --epochs 12 the modes and their share of samples
were 8 and 77 % of ring, 25 and 61 % of grid. In the folder of --out: weights and learning curves; of pictures samples, a film of what
the same noise becomes in training, reconstructions and walks through the latent space; of tables and points samples.csv.
"""

import math
from pathlib import Path

import numpy as np
from tqdm import tqdm

import scratchnn as snn
from scratchnn import data, drawn, optim, pictures
from scratchnn.metrics.judge import judge, judge_reconstructions
from scratchnn.models.vae import VAE, Bernoulli, DiscretisedLogistic, interpolate, likelihood_for, load_vae, save_vae, traverse
from scratchnn.optim.swa_utils import AveragedModel
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import Run, start

TEST_SEED = 1        # grey test pictures are made black and white once, by this seed
FRAMES = 40          # moments of a film


def parse():
    parser = arguments(__doc__, out="out/vae", data=drawn.DATA, epochs=100,
                       smoke={"epochs": 5, "hidden": [64], "latent": 8, "samples": 50})
    parser.add_argument("--latent", type=whole(), metavar="N",
                        help="dimensions of the latent space (default: 10, of fewer numbers as many)")
    parser.add_argument("--hidden", type=whole(), nargs="*", metavar="N", help="units of layers, none: only --channels (default: of "
                        "pictures 200 200, otherwise 128 128 128)")
    parser.add_argument("--activation", choices=("Tanh", "ReLU", "SiLU"), help="of these layers (default: Tanh, as Burda et al., of "
                        "pictures without --channels; otherwise SiLU)")
    parser.add_argument("--channels", type=whole(), nargs="+", default=[], metavar="N",
                        help="of convolutions between pictures and --hidden")
    parser.add_argument("--conditional", action="store_true", help="learn p(x | class), and draw of each class")
    parser.add_argument("--likelihood", choices=("Bernoulli", "Gaussian", "DiscretisedLogistic"), help="of pictures and points "
                        "(default: Bernoulli for grey pictures, DiscretisedLogistic for colours, Gaussian for points)")
    parser.add_argument("--k", type=whole(), metavar="N",
                        help="importance samples in the bound; 1: the usual one (default: of pictures, or "
                        "with --beta or --free-bits, 1, otherwise 5)")
    parser.add_argument("--beta", type=number(0), default=1.0, metavar="X", help="weight of the divergence from the prior (default: 1)")
    parser.add_argument("--warm-up", type=whole(0), metavar="N", help="epochs in which that weight grows from 0 (default: of pictures 0, "
                        "otherwise a fifth of all)")
    parser.add_argument("--free-bits", type=number(0), default=0.0, metavar="X",
                        help="nats that each latent may hold for nothing (default: 0)")
    parser.add_argument("--lr", type=number(0), default=4e-3, metavar="X", help="learning rate at the start, falling to 0 as half a cosine "
                        "(default: 0.004)")
    parser.add_argument("--batch-size", type=whole(), metavar="N",
                        help="examples in a step (default: 100; of few rows fewer, for 40 steps in an epoch)")
    parser.add_argument("--average", type=number(0, 1), default=0.2, metavar="P",
                        help="share of the training, at its end, of whose weights the mean is kept (default: 0.2; 0: the last weights)")
    parser.add_argument("--samples", type=whole(), default=1000, metavar="N",
                        help="of importance sampling, for each test example (default: 1000; papers take 5000)")
    parser.add_argument("--validate", type=whole(0), default=0, metavar="N",
                        help="hold out the last N training examples and test on them, to choose settings by")
    parser.add_argument("--sample", type=whole(), metavar="N", help="only draw N examples, by the weights in --from; no training")
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="of a run that --sample draws from (default: --out)")
    args = parser.parse_args()
    if (args.k or 1) > 1 and (args.beta != 1 or args.free_bits):
        parser.error("argument --k: --beta and --free-bits are of the usual bound, --k 1")
    return args


def main():
    args = parse()
    if args.sample:
        return draw_more(args)
    snn.manual_seed(args.seed)
    examples = data.load(args.data)
    if args.conditional:
        examples = examples.labelled()
    if args.validate:
        examples = examples.hold_out(args.validate)
    choose(args, examples)
    likelihood = likelihood_for(examples, args.likelihood)
    if args.channels and len(examples.shape) != 3:
        raise data.DataError(f"{args.data}: --channels is for pictures, these are rows of {examples.shape[0]} numbers; use --hidden")
    model = VAE(likelihood, args.latent, args.hidden, args.channels, len(examples.classes) if args.conditional else 0,
                args.activation).to(args.device)

    train, seen_y, unseen_y = likelihood.encode(examples.train_x), *labels(args, examples)
    unseen = likelihood.observe(snn.from_numpy(likelihood.encode(examples.test_x)), Generator(TEST_SEED)).numpy()
    model.begin_at(train)
    loader = data.DataLoader(train if seen_y is None else (train, seen_y), args.batch_size, shuffle=True)
    optimizer = optim.Adam(model.parameters(), args.lr, eps=1e-4 if args.activation == "Tanh" else 1e-8)          # 1e-4 as Burda et al.
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))
    average, film = AveragedModel(model), pictures.Film()
    run = Run(args, model=model, average=average, loader=loader, optimizer=optimizer, schedule=schedule, film=film)

    @snn.cuda.graphed
    def learn(x, y, warm):
        loss = -bound(args, model, likelihood.observe(x), y, warm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for epoch in run.epochs(args.epochs):
        for batch in run.batches(loader):
            x, y = (batch, None) if seen_y is None else batch
            learn(x, y, min(1, (run.step + 1) / len(loader) / args.warm_up) if args.warm_up else 1)
            schedule.step()
            if run.step >= (1 - args.average) * args.epochs * len(loader):
                average.update_parameters(model)
        run.log(**quality(args, model, train[:1000], seen_y, unseen[:1000], unseen_y))
        if (epoch + 1) * FRAMES // args.epochs > epoch * FRAMES // args.epochs and len(examples.shape) == 3:
            film.add(model.generate(*drawn.fixed_noise(model.latent, model.classes, 5, 8)))

    final = average.module if average.n_averaged.item() else model
    save_vae(run.out / "weights.safetensors", final, examples)
    draw(run, examples, final, film, unseen, unseen_y)
    generator = Generator(args.seed)
    each = final.log_likelihood(unseen, unseen_y, args.samples, generator, lambda steps: tqdm(steps, "importance sampling", disable=None))
    figures = {"nll": -each.mean(), "active_units": final.active_units(unseen, unseen_y).sum()}
    if isinstance(likelihood, (Bernoulli, DiscretisedLogistic)):               # a density has no bits
        figures["bits_per_dim"] = figures["nll"] / likelihood.size / math.log(2)
    if not model.classes:
        figures |= judge_reconstructions(examples, examples.test_x, final.reconstruct(likelihood.encode(examples.test_x)))
    count = min(10_000, len(unseen))
    samples = final.sample(count, unseen_y if unseen_y is None else unseen_y[:count], draw=len(examples.shape) == 1,
                           generator=Generator(args.seed))
    run.result(**figures, **judge(examples, samples), split=f"last {args.validate} of train" if args.validate else "test",
               protocol=f"{args.data}, {type(likelihood).__name__}, grey values drawn anew in each epoch, of the test once, seed "
                        f"{TEST_SEED}; {args.latent} latents, layers {args.channels + args.hidden}, k={args.k}, {args.epochs} epochs; "
                        f"{args.samples} importance samples, seed {args.seed}")


def choose(args, examples):
    """Set the options that were not given, by what the data are.

    Points and tables have sharp edges, which take layers that bend more and a bound that forgives samples of z which miss, and noise that
    is small beside their spread. As long as nothing is learnt, that noise is thought to be as large as the spread, and latents cost more
    than they explain: training can end there, with no latent in use. In a warm-up they cost little.
    """
    picture = len(examples.shape) == 3
    chosen = {"latent": 10 if picture else min(10, *examples.shape), "hidden": [200, 200] if picture else [128, 128, 128],
              "activation": "Tanh" if picture and not args.channels else "SiLU",
              "k": 1 if picture or args.beta != 1 or args.free_bits else 5, "warm_up": 0 if picture else args.epochs // 5,
              "batch_size": 100 if picture else min(100, max(1, len(examples.train_x) // 40))}
    for name, value in chosen.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def labels(args, examples):
    return (examples.train_y, examples.test_y) if args.conditional else (None, None)


def bound(args, model, x, y, warm):
    """What a step makes larger; `warm` is the weight of the prior."""
    if args.k > 1:
        return model.iwae(x, y, args.k, beta=warm)
    return model.elbo(x, y, beta=args.beta * warm, free_bits=args.free_bits)


def quality(args, model, seen, seen_y, unseen, unseen_y):
    """Bounds on training and test examples, by numbers that are the same each time, and the latents in use."""
    seen = model.likelihood.observe(snn.from_numpy(seen), Generator(TEST_SEED)).numpy()
    values = {name: model.log_likelihood(x, y if y is None else y[:1000], args.k, Generator(0)).mean()
              for name, x, y in (("train_bound", seen, seen_y), ("test_bound", unseen, unseen_y))}
    return values | {"active": model.active_units(unseen, unseen_y if unseen_y is None else unseen_y[:1000]).sum()}


# ---- what is written ------------------------------------------------------------------------------------------------------

def draw(run, examples, model, film, unseen, unseen_y):
    bounds = {part: run.history(f"{part}_bound") for part in ("train", "test")}
    pictures.curves(run.out / "curves.png", {"bound on log p, nats": bounds, "latents in use": {"latents": run.history("active")}},
                    examples.name, log=False)
    if len(examples.shape) == 3:
        film.write(run.out / "progress.gif", 8)
        draw_pictures(run, model, examples, unseen, unseen_y)
    else:
        draw_rows(run.out, model, examples, examples.train_y if model.classes else None)


def draw_pictures(run, model, examples, unseen, unseen_y):
    out, few = run.out, slice(0, 12)
    y = None if unseen_y is None else unseen_y[few]
    samples = model.generate(*drawn.fixed_noise(model.latent, model.classes, 10, 12))
    pictures.image_table(out / "samples.png", samples.reshape(-1, 12, *examples.shape),
                         examples.classes[:drawn.CLASSES] if model.classes else (), title="Drawn from the prior")
    shown = [examples.test_x[few], model.likelihood.decode(unseen[few]), model.reconstruct(unseen[few], y)]
    pictures.image_table(out / "reconstructions.png", np.stack(shown), ("example", "seen", "decoded"), title="Test examples, decoded")
    mean, _ = model.posterior(unseen[:1000], None if unseen_y is None else unseen_y[:1000])
    ends = interpolate(mean[:8], mean[1:9], 10)                                                   # (10, 8, L)
    label = None if y is None else y[0]
    walk = generate(model, ends.swapaxes(0, 1), label)
    pictures.image_table(out / "interpolation.png", walk, title="From one test example to the next")
    order = np.argsort(-mean.var(0), kind="stable")[:10]
    pictures.image_table(out / "traversal.png", generate(model, traverse(mean[0], order, np.linspace(-3, 3, 11)), label),
                         [f"z{i + 1}" for i in order], [f"{v:.1f}" for v in np.linspace(-3, 3, 11)], "One latent at a time")
    pictures.animation(out / "walk.gif", generate(model, drawn.round_trip(model.latent, 32), label), 8)
    if model.latent == 2:
        for label, name in enumerate(examples.classes[:drawn.CLASSES]) if model.classes else [(None, "")]:
            file = out / ("manifold.png" if label is None else f"manifold-{label}.png")
            pictures.manifold(file, lambda z, label=label: generate(model, z, label), title=f"All that two latents can draw {name}".strip())
        pictures.scatter(out / "latents.png", {"posterior means of test examples": mean})


def generate(model, z, label):
    """Pictures (A, B, C, H, W) for latents (A, B, L); of a conditional model all of one label."""
    y = None if label is None else np.full(z.shape[0] * z.shape[1], label)
    return model.generate(z.reshape(-1, model.latent), y).reshape(*z.shape[:2], *model.likelihood.shape)


def draw_rows(out, model, examples, y):
    """As many rows as there are to learn from, and of points their picture."""
    rows = model.sample(len(examples.train_x), y, draw=True, generator=Generator(0))
    drawn.write_rows(out / "samples.csv", cells(model, rows), y, examples.classes, examples.target)
    if examples.shape == (2,):
        pictures.scatter(out / "points.png", {"test": examples.test_x, "samples": rows[:len(examples.test_x)]})


def cells(model, rows):
    """Rows as columns of a file, in the user's units."""
    table = getattr(model.likelihood, "table", None)
    return table.inverse(rows) if table else {f"x{i + 1}": column for i, column in enumerate(rows.T)}


def draw_more(args):
    """--sample: new examples of a model that was trained before, of each class as often as it learnt it."""
    model, shares, target = load_vae((args.source or args.out) / "weights.safetensors")
    model.to(args.device)
    generator, picture = Generator(args.seed), len(model.likelihood.shape) == 3
    y = drawn.labels_for(shares, args.sample, generator)
    x = model.sample(args.sample, y, draw=not picture, generator=generator)
    args.out.mkdir(parents=True, exist_ok=True)
    if picture:
        drawn.write_pictures(args.out, x, y, list(shares))
    else:
        drawn.write_rows(args.out / "samples.csv", cells(model, x), y, list(shares), target)


if __name__ == "__main__":
    start(main)
