"""Learn what data look like with a restricted Boltzmann machine, without any back-propagation, and draw new ones from it.

Visible units (pixels, numbers, names) and hidden units that are 0 or 1 have one joint distribution, p(v, h) = exp(-E(v, h)) / Z. Given one
layer the units of the other are independent, so that a Gibbs step draws a whole layer at once, and the weights learn from what units
do together in data, less what they do together in samples of the machine: G. Hinton, "Training products of experts by minimizing
contrastive divergence" (2002); T. Tieleman, "Training RBMs using approximations to the likelihood gradient" (2008).

    python examples/rbm.py                                                               digits of 8x8 pixels, part of this library
    python examples/rbm.py --data mnist --hidden 500 --k 1 --lr 0.1 0 --momentum 0 --centering --weight-decay 0.0002 --epochs 400
    python examples/rbm.py --data csv:FILE --batch-size 20 --lr 0.05 0                   a table: new rows, and missing cells filled in
    python examples/rbm.py --data moons --hidden 20 --epochs 50 --method cd --k 1 10 --lr 0.1 0 --momentum 0.9

Expected on digits: log_p=-22.22 to -22.16 (nats, seeds 0 to 4), log_p_raise=-22.3, after 5 s of training, in 13 s on two cores.
Settings follow what did best on 288 held-out training examples; mnist, with the options above, ends at log_p=-83.99. Z is summed exactly
for at most 25 hidden units, else estimated by annealed importance sampling, which flatters; RAISE errs on the other side
(scratchnn/metrics/partition.py). Of numbers, log_p is the density of standardised ones. In the folder of --out: learning curves and
weights; of pictures filters, chains, fantasies and completions; of tables and points samples.csv, and completed.csv, rows whose missing
cells are drawn given the others.
"""

import numpy as np
from tqdm import tqdm

import scratchnn as snn
from scratchnn import checkpoint, data, optim, pictures
from scratchnn.device import on_host
from scratchnn.metrics import partition
from scratchnn.models.rbm import RBM, Binary, ContrastiveDivergence, Gaussian, ParallelTempering, PersistentCD, visible_for
from scratchnn.optim.swa_utils import AveragedModel
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import Run, start

DATA = ("digits", "glyphs", "mnist", "fashion-mnist", "cifar10", "cifar10-subset", "moons", "swiss-roll", "ring", "grid", "flats",
        "csv:", "npy:", "folder:")
TEST_SEED = 1        # grey test pictures are made black and white once, by this seed
LATER = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)      # Gibbs steps after which chains are shown


def parse():
    parser = arguments(__doc__, out="out/rbm", data=DATA, epochs=300, smoke={"epochs": 10, "hidden": 16})
    parser.add_argument("--hidden", type=whole(), default=100, metavar="N", help="hidden units (default: 100)")
    parser.add_argument("--method", choices=("cd", "pcd", "pt"), default="pcd",
                        help="contrastive divergence, persistent chains, or parallel tempering (default: pcd)")
    parser.add_argument("--chains", type=whole(), default=100, metavar="N", help="of pcd and pt (default: 100)")
    for name, kind, default, what in (("k", whole(), [1, 5], "Gibbs steps in a step"), ("lr", number(0), [0.3, 0.0], "learning rate"),
                                      ("momentum", number(0, 1), [0.5], "momentum")):
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=default, metavar="X",
                            help=f"{what}: one value, or the first and the last of a straight line (default: {default})")
    parser.add_argument("--weight-decay", type=number(0), default=0.0, metavar="X", help="L2 penalty of the weights (default: 0)")
    parser.add_argument("--centering", action="store_true", help="learn from units less their means")
    parser.add_argument("--sparsity", type=number(0, 1), metavar="P", help="mean activation that hidden units are drawn to (default: none)")
    parser.add_argument("--average", type=number(0, 1), default=0.2, metavar="P",
                        help="share of the training, at its end, of whose weights the mean is kept (default: 0.2; 0: the last weights)")
    parser.add_argument("--batch-size", type=whole(), default=100, metavar="N", help="examples in a step (default: 100)")
    parser.add_argument("--validate", type=whole(0), default=0, metavar="N",
                        help="hold out the last N training examples and test on them, to choose settings by")
    parser.add_argument("--ais-steps", type=whole(), default=10000, metavar="N",
                        help="inverse temperatures of AIS and RAISE (default: 10000)")
    parser.add_argument("--ais-chains", type=whole(), default=100, metavar="N", help="chains of AIS (default: 100)")
    parser.add_argument("--raise-examples", type=whole(), default=100, metavar="N", help="test examples of RAISE (default: 100)")
    args = parser.parse_args()
    if args.sparsity in (0, 1):
        parser.error(f"argument --sparsity: must lie between 0 and 1, got {args.sparsity}")
    for name in ("k", "lr", "momentum"):
        if len(vars(args)[name]) > 2:
            parser.error(f"argument --{name}: one or two values, the first and the last; got {vars(args)[name]}")
    return args


def main():
    args = parse()
    snn.manual_seed(args.seed)
    examples = data.load(args.data)
    if args.validate:
        examples = examples.hold_out(args.validate)
    visible = visible_for(examples)
    train, test = visible.encode(examples.train_x), visible.encode(examples.test_x)

    rbm = RBM(visible.units, args.hidden).to(args.device)
    seen, unseen = complete(args, train), visible.states(complete(args, test), rbm, Generator(TEST_SEED))
    base, seen = rbm.base_rate(seen), visible.states(seen[:1000], rbm)
    rbm.visible_bias.array[:] = base.bias
    average, cd = AveragedModel(rbm), teacher(args, rbm, base)
    loader = data.DataLoader(train, args.batch_size, shuffle=True)
    others = [p for p in rbm.parameters() if p is not rbm.weight]
    optimizer = optim.SGD([{"params": [rbm.weight], "weight_decay": args.weight_decay}, {"params": others}], args.lr[0], args.momentum[0])
    run = Run(args, rbm=rbm, average=average, cd=cd, loader=loader, optimizer=optimizer)

    for epoch in run.epochs(args.epochs):
        for batch in run.batches(loader):
            done = run.step / (args.epochs * len(loader))
            cd.k = round(between(args.k, done))
            for group in optimizer.param_groups:
                group["lr"], group["momentum"] = between(args.lr, done), between(args.momentum, done)
            cd.gradient(visible.states(batch.array, rbm))
            optimizer.step()
            if done >= 1 - args.average:
                average.update_parameters(rbm)
        run.log(**quality(visible, rbm, seen, unseen[:1000]))
        if (epoch + 1) % max(1, args.epochs // 20) == 0:
            log_z = partition.ais(rbm, schedule(500), base=base, generator=Generator()).value
            run.log(**{name: partition.log_likelihood(rbm, v, log_z).value for name, v in (("train_log_p", seen), ("log_p", unseen))})

    model = average.module if average.n_averaged else rbm
    checkpoint.save_weights(run.out / "weights.safetensors", model.state_dict())
    metrics, how = likelihood(args, model, unseen, base)
    draw(run, visible, model.to("cpu"), cd, train, test)
    run.result(**metrics, split=f"last {args.validate} of train" if args.validate else "test",
               protocol=f"{args.data}, {f'grey values drawn once, seed {TEST_SEED}' if isinstance(visible, Binary) else 'complete rows'}, "
                        f"RBM with {args.hidden} hidden units by {args.method}; {how}")


def complete(args, v):
    """The rows in which nothing is missing."""
    v = v[~np.isnan(v).any(1)]
    if not len(v):
        raise data.DataError(f"{args.data}: needs rows in which nothing is missing, to train and to test; leave columns out with skip=")
    return v


def teacher(args, rbm, base):
    options = {"centering": args.centering, "sparsity_target": args.sparsity}
    if args.method == "cd":
        return ContrastiveDivergence(rbm, **options)
    if args.method == "pt":
        return ParallelTempering(rbm, chains=args.chains, base=base, **options)
    return PersistentCD(rbm, chains=args.chains, **options)


def between(ends, share):
    """The point of a straight line from its first to its last value."""
    return ends[0] + share * (ends[-1] - ends[0])


def schedule(steps):
    """Inverse temperatures, denser toward 1 as in Salakhutdinov & Murray 2008."""
    first, second = max(1, steps // 29), max(1, 8 * steps // 29)
    return partition.piecewise_schedule((0.5, first), (0.9, second), (1, max(1, steps - first - second)))


def quality(visible, rbm, seen, unseen):
    values = {"reconstruction": rbm.reconstruction_error(seen), "free_energy_gap": rbm.free_energy_gap(seen, unseen)}
    if isinstance(visible, Binary):
        values["pseudo_log_p"] = rbm.pseudo_log_likelihood(unseen, Generator())
    return values


def likelihood(args, rbm, v, base):
    """The metrics of run.result, and how they were got."""
    if partition.exact_units(rbm) <= partition.EXACT_UNITS:
        return {"log_p": partition.log_likelihood(rbm, v, partition.exact_log_partition(rbm)).value}, "exact log Z"
    betas, few, seed = schedule(args.ais_steps), v[:args.raise_examples], Generator(args.seed)
    log_z = partition.ais(rbm, betas, args.ais_chains, base, seed, lambda steps: tqdm(steps, "AIS", unit=" steps", disable=None))
    low = partition.raise_bound(rbm, few, betas, 1, base, seed, lambda steps: tqdm(steps, "RAISE", unit=" steps", disable=None))
    same = partition.log_likelihood(rbm, few, log_z.value).value
    return ({"log_p": partition.log_likelihood(rbm, v, log_z.value).value, "log_p_standard_error": log_z.standard_error,
             "log_p_raise": low.value},
            f"log Z by AIS, {args.ais_chains} chains, {args.ais_steps} steps; RAISE of the first {len(few)} examples, by AIS {same:.2f}")


def draw(run, visible, rbm, cd, train, test):
    panels = {"reconstruction error": {"train": "reconstruction"}, "free energy, test less train": {"gap": "free_energy_gap"},
              "log p by AIS, nats": {"train": "train_log_p", "test": "log_p"}, "pseudo-log-likelihood, nats": {"test": "pseudo_log_p"}}
    if not isinstance(visible, Binary):
        del panels["pseudo-log-likelihood, nats"]
    pictures.curves(run.out / "curves.png", {title: {label: run.history(name) for label, name in lines.items()}
                                             for title, lines in panels.items()}, log=False)
    v = on_host(cd.state.get("chains", visible.states(test, rbm)))               # persistent chains, or test examples
    v = rbm.gibbs(np.resize(v[0] if v.ndim == 3 else v, (1000, v.shape[-1])), 1000)
    (draw_rows if visible.places else draw_pictures)(run, visible, rbm, v, train, test)


def draw_pictures(run, visible, rbm, v, train, test):
    show, states = visible.decode, visible.states(test[:40], rbm)
    pictures.filters(run.out / "filters.png", rbm.weight.array.T * train.std(0), visible.shape, "What hidden units look for")
    pictures.image_table(run.out / "fantasies.png", show(rbm.visible_mean(rbm.sample_hidden(v[:120]))).reshape(10, 12, *visible.shape),
                         title="Drawn by the machine")
    moments = chain(rbm, states[:10], np.diff(LATER))
    pictures.image_table(run.out / "chains.png", np.stack([show(m) for m in (test[:10], *moments)], 1), columns=LATER,
                         title="Test examples, and Gibbs steps away from them")
    pictures.animation(run.out / "chains.gif", np.stack([show(m) for m in chain(rbm, states, [1] * 80)]), 8)

    upper, rows = np.arange(test.shape[1]) % np.prod(visible.shape[1:]) < np.prod(visible.shape[1:]) // 2, [test[:14]]
    rows.append(np.where(upper, rows[0], np.nan))
    for _ in range(4):
        found = visible.complete(np.where(upper, states[:14], np.nan), rbm, 500)
        rows.append(np.where(upper, rows[0], rbm.visible_mean(rbm.sample_hidden(found))))
    pictures.image_table(run.out / "completed.png", np.stack([show(row) for row in rows]), ("original", "given", *(["completed"] * 4)),
                         title="The lower half sampled, given the upper half")


def draw_rows(run, visible, rbm, v, train, test):
    data.write_csv(run.out / "samples.csv", visible.cells(v))
    rows, places = np.concatenate([train, test]), visible.places
    rows, truth = rows[np.isnan(rows).any(1)], None
    if not len(rows):                                                      # nothing is missing: each test row loses a cell, by turns
        rows, truth = test[:1000].copy(), visible.cells(test[:1000])
        for i, row in enumerate(rows):
            row[list(places.values())[i % len(places)]] = np.nan
    missing = [[name for name, at in places.items() if np.isnan(row[at]).any()] for row in rows]
    notes = {"completed": [", ".join(names) for names in missing]}
    if truth:
        notes["was"] = [truth[names[0]][i].item() for i, names in enumerate(missing)]
    data.write_csv(run.out / "completed.csv", visible.cells(visible.complete(rows, rbm, 1000)) | notes)
    if len(places) == 2 and all(isinstance(kind, Gaussian) for kind in visible.units):
        sets = {"test": test, "samples": v, f"{list(places)[1]} sampled, given {next(iter(places))}":
                visible.complete(np.where([True, False], test[:1000], np.nan), rbm, 1000)}
        pictures.scatter(run.out / "points.png", {name: np.stack(list(visible.cells(v[:1000]).values()), 1) for name, v in sets.items()})


def chain(rbm, v, gaps):
    """Means of visible units, gaps of so many Gibbs steps apart."""
    for gap in gaps:
        v = rbm.gibbs(v, gap)
        yield rbm.visible_mean(rbm.sample_hidden(v))


if __name__ == "__main__":
    start(main)
