"""See the same data in two ways: learn to tell its classes apart, p(y | x), and learn what each class looks like, p(x | y).

The first is what a discriminative network does: it answers a question about any x, and knows nothing else of it. The second is what a
generative one does: it can draw new examples, says how likely an x is at all, and tells classes apart too, by Bayes' rule,
p(y | x) = p(x | y) p(y) / p(x). A. Ng & M. Jordan 2002, "On discriminative vs. generative classifiers", compare such pairs.

    python examples/two_ways.py                                 points of two half circles
    python examples/two_ways.py --data digits --epochs 100      handwritten digits of 8x8 pixels, part of this library
    python examples/two_ways.py --data 'csv:FILE?target=COLUMN' a table of yours

Both networks see the same batches: a multilayer perceptron makes log p(y | x) large, and the decoder of a variational autoencoder on
condition of the class (examples/vae.py) a bound of log p(x | y). Strange examples are test examples whose features were shuffled: each
number is one that its feature takes, but they do not belong together. strange_auc_told says how well the classifier's doubt,
strange_auc_drawn how well log p(x) tells them from test examples: 0.5 is not at all, 1 always. sure_of_strange is the mean probability, in
percent, of the class that the classifier takes strange ones for. Expected by the first line: told_error=0.15, drawn_error=0.05 (percent),
strange_auc_told=0.62, strange_auc_drawn=0.79, sure_of_strange=98; by the second: 2.5, 0.84, 0.89, 1.00 and 88. In the folder of --out: both
networks, curves, of points what both know of the plane, of pictures those that were drawn, and strange ones.
"""

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import data, metrics, nn, optim, pictures
from scratchnn.metrics.samples import auc
from scratchnn.models.classifier import MLP, predict, save_classifier
from scratchnn.models.vae import VAE, likelihood_for, save_vae
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import Run, start

DATA = ("moons", "ring", "grid", "digits", "glyphs", "mnist", "fashion-mnist", "csv:", "npy:", "folder:")
TEST_SEED = 1        # grey test pictures are made black and white, and features shuffled, once, by this seed
SIDE = 120           # of a map of the plane


def parse():
    parser = arguments(__doc__, out="out/two_ways", data=DATA, epochs=30,
                       smoke={"data": "digits", "epochs": 2, "hidden": [32], "samples": 20})
    parser.add_argument("--hidden", type=whole(), nargs="+", default=[128, 128], metavar="N", help="units of the layers of both networks "
                        "(default: 128 128)")
    parser.add_argument("--latent", type=whole(), metavar="N", help="dimensions of the latent space (default: 10, of fewer "
                        "numbers as many)")
    parser.add_argument("--k", type=whole(), default=5, metavar="N", help="importance samples in the bound (default: 5)")
    parser.add_argument("--lr", type=number(0), default=4e-3, metavar="X", help="learning rate of Adam at the start, falling to 0 as half "
                        "a cosine (default: 0.004)")
    parser.add_argument("--batch-size", type=whole(), default=100, metavar="N", help="examples in a step (default: 100)")
    parser.add_argument("--samples", type=whole(), default=200, metavar="N", help="of importance sampling, by which log p(x | y) is "
                        "estimated, for each test example and class (default: 200)")
    return parser.parse_args()


def main():
    args = parse()
    snn.manual_seed(args.seed)
    examples = data.load(args.data).labelled()
    likelihood, classes = likelihood_for(examples, None if examples.table else "Gaussian"), len(examples.classes)
    teller = MLP(examples.shape, classes, args.hidden, dropout=0, input_dropout=0, activation=nn.SiLU).to(args.device)
    drawer = VAE(likelihood, args.latent or min(10, likelihood.size), args.hidden, classes=classes, activation="SiLU").to(args.device)
    train, unseen = likelihood.encode(examples.train_x), observed(likelihood, examples.test_x)
    drawer.begin_at(train)
    loader = data.DataLoader((train, examples.train_y), args.batch_size, shuffle=True)
    optimizer = optim.Adam([*teller.parameters(), *drawer.parameters()], args.lr)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))
    run = Run(args, teller=teller, drawer=drawer, loader=loader, optimizer=optimizer, schedule=schedule)

    for _ in run.epochs(args.epochs):
        for x, y in run.batches(loader):
            x = likelihood.observe(x)
            told = -F.cross_entropy(teller(x), y)                              # log p(y | x): what is asked for, and nothing else
            drawn = drawer.iwae(x, y, args.k, beta=warmth(args, run, loader))  # log p(x | y): all that there is to see
            optimizer.zero_grad()
            (-told - drawn).backward()                                         # they share no weight: two trainings side by side
            optimizer.step()
            schedule.step()
            if run.step % 10 == 0:
                run.log(told=told, drawn=drawn)

    save_classifier(run.out / "teller.safetensors", teller, examples)
    save_vae(run.out / "drawer.safetensors", drawer, examples)
    finish(args, run, examples, Views(teller, drawer, examples, args.samples), unseen)


def observed(likelihood, x):
    return likelihood.observe(snn.from_numpy(likelihood.encode(x)), Generator(TEST_SEED)).numpy()


def warmth(args, run, loader):
    """Weight of the divergence from the prior, which grows from 0 in the first fifth of the training: see `choose` in examples/vae.py."""
    return min(1.0, 5 * (run.step + 1) / (args.epochs * len(loader)))


class Views:
    """What both networks say of rows (N, D)."""

    def __init__(self, teller, drawer, examples, samples):
        self.teller, self.drawer, self.samples = teller, drawer, samples
        self.log_prior = np.log(np.bincount(examples.train_y, minlength=len(examples.classes)) / len(examples.train_y))

    def told(self, rows):
        """p(y | x) (N, classes) by the network that classifies."""
        return predict(self.teller, rows)

    def drawn(self, rows):
        """(p(y | x) by Bayes' rule (N, classes), log p(x) (N,)) by the network that draws."""
        joint = np.stack([self.drawer.log_likelihood(rows, np.full(len(rows), y), self.samples, Generator(0))
                          for y in range(len(self.log_prior))], 1) + self.log_prior                 # log p(x | y) + log p(y)
        evidence = np.logaddexp.reduce(joint, 1)
        return np.exp(joint - evidence[:, None]), evidence


def shuffled(rows, generator):
    """Rows (N, D) in which each feature is that of another one."""
    order = np.stack([snn.randperm(len(rows), generator=generator).numpy() for _ in range(rows.shape[1])], 1)
    return np.take_along_axis(rows, order, 0)


# ---- what is written ------------------------------------------------------------------------------------------------------

def finish(args, run, examples, views, unseen):
    strange = shuffled(unseen, Generator(TEST_SEED))
    told, (drawn, evidence) = views.told(unseen), views.drawn(unseen)
    told_strange, (_, evidence_strange) = views.told(strange), views.drawn(strange)
    pictures.curves(run.out / "curves.png", {"log p(y | x), nats": {"train": run.history("told")},
                                             "bound on log p(x | y), nats": {"train": run.history("drawn")}}, examples.name, log=False)
    if len(examples.shape) == 3:
        draw_pictures(run.out, examples, views, strange, told_strange, evidence_strange, evidence)
    elif examples.shape == (2,):
        draw_plane(run.out, examples, views)
    real = np.r_[np.ones(len(unseen)), np.zeros(len(strange))]
    run.result(told_error=metrics.error(told.argmax(1), examples.test_y), drawn_error=metrics.error(drawn.argmax(1), examples.test_y),
               nll=-evidence.mean(), strange_auc_told=auc(np.r_[told.max(1), told_strange.max(1)], real),
               strange_auc_drawn=auc(np.r_[evidence, evidence_strange], real), sure_of_strange=100 * told_strange.max(1).mean(),
               protocol=f"{args.data}, layers {args.hidden}, {views.drawer.latent} latents, k={args.k}, Adam {args.lr:g}, {args.epochs} "
                        f"epochs; {args.samples} importance samples for each class, seed 0; features shuffled by seed {TEST_SEED}")


def draw_plane(out, examples, views):
    """plane.png: what both networks know of each place in the plane, and plane.npz: the numbers behind it."""
    likelihood, low, high = views.drawer.likelihood, examples.test_x.min(0), examples.test_x.max(0)
    low, high = low - (high - low) / 2, high + (high - low) / 2               # twice as wide as the data
    axes = [np.linspace(low[i], high[i], SIDE) for i in (0, 1)]
    places = likelihood.encode(np.stack(np.meshgrid(*axes), -1).reshape(-1, 2))
    told, (drawn, evidence) = views.told(places), views.drawn(places)
    maps = {"told": told, "drawn": drawn, "evidence": evidence}
    np.savez(out / "plane.npz", low=low, high=high,
             **{name: found.reshape(SIDE, SIDE, -1).astype(np.float32) for name, found in maps.items()})
    y = examples.test_y
    rows = views.drawer.sample(len(y), y, draw=True, generator=Generator(0))
    pictures.plane(out / "plane.png", (low, high), {
        "a classifier's p(y | x), test points": (told.reshape(SIDE, SIDE, -1), None, examples.test_x, y),
        "a generative network's p(x)": (None, evidence.reshape(SIDE, SIDE), None, None),
        "points that it drew": (None, None, rows, y),
        "its p(y | x), by Bayes' rule": (drawn.reshape(SIDE, SIDE, -1), None, examples.test_x, y)})


def draw_pictures(out, examples, views, strange, told, evidence, usual):
    """samples.png: pictures of each class; strange.png: what both networks say of pictures that are none."""
    classes = min(12, len(examples.classes))
    y = np.arange(classes).repeat(12)
    drawn = views.drawer.sample(len(y), y, generator=Generator(0))
    pictures.image_table(out / "samples.png", drawn.reshape(classes, 12, *examples.shape), examples.classes[:classes],
                         title="Drawn by the network that learnt p(x | y)")
    captions = [f"{examples.classes[p.argmax()]}, {100 * p.max():.0f} % sure\nlog p {log_p:.0f}"
                for p, log_p in zip(told[:12], evidence[:12], strict=True)]
    pictures.image_grid(out / "strange.png", views.drawer.likelihood.decode(strange[:12]), captions,
                        f"Shuffled pixels: taken for what, and log p(x) in nats (of digits about {np.median(usual):.0f})", 6)


if __name__ == "__main__":
    start(main)
