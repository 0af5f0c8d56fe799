"""Learn which character or word of a text comes next, and write new text by drawing one after the other.

A recurrent network reads the text from beginning to end and carries what it remembers from batch to batch. Cells are those of
S. Hochreiter & J. Schmidhuber 1997 (LSTM), K. Cho et al. 2014 (GRU) and J. Elman 1990 (RNN); dropout as Gal & Ghahramani 2016 and
Merity, Keskar & Socher 2018.

    python examples/text.py                                                   characters of Python's own documentation
    python examples/text.py --data tinyshakespeare --hidden 512 --dropout 0.4 --weight-drop 0.2 --weight-decay 0.1 --ema 0.998 --lr 0.003 \\
        --epochs 28 --validate 0.02
    python examples/text.py --data ptb --level word --hidden 200 --layers 2 --tied --dropout 0.25 --length 35 --lr 0.003 --epochs 16
    python examples/text.py --data text:FILE --level word --min-count 3       a text of yours; rarer words become one
    python examples/text.py --sample 500 --from out/text --prime "The "       more by a model that was trained before, as it writes

nats is the mean of -log p of the test's tokens, read from beginning to end; bits the same to base 2, perplexity its exponential. Expected
on two cores: nats=1.20 by the first line (Python 3.11's documentation), 1.485 by the second one, after 62 minutes of most of one core, and
perplexity=108.8 for the words of the Penn Treebank by the third one. In the folder of --out: weights and learning curves,
sample.txt, and cells.html, a page that shows what single units of the network see.
longest_copy is how many tokens of the sample in a row stand in the text that was learnt.
"""

import math
import sys
from pathlib import Path

import numpy as np

import scratchnn as snn
from scratchnn import cells, data, optim, pictures
from scratchnn.metrics.novelty import longest_copy
from scratchnn.models.language import LanguageModel, Memory, load_language_model, save_language_model
from scratchnn.models.networks import CELLS
from scratchnn.nn.utils import clip_grad_norm_
from scratchnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import Run, start

DATA = ("python-docs", "tinyshakespeare", "ptb", "text:")
READERS = 32         # who measure the validation text, each a part of it
SHOWN = 2000         # tokens on the page of cells, and of the sample


def parse():
    parser = arguments(__doc__, out="out/text", data=DATA, epochs=10, cuda=False,
                       smoke={"epochs": 1, "hidden": 48, "embedding": 16, "batch_size": 64, "length": 128})
    parser.add_argument("--level", choices=data.LEVELS, default="char", help="what a token is (default: char)")
    parser.add_argument("--min-count", type=whole(), default=1, metavar="N", help="tokens that occur less often become one (default: 1)")
    parser.add_argument("--cell", choices=tuple(CELLS), default="LSTM", help="(default: LSTM)")
    parser.add_argument("--embedding", type=whole(), default=64, metavar="N", help="numbers that stand for a token (default: 64)")
    parser.add_argument("--hidden", type=whole(), default=256, metavar="N", help="units of a layer (default: 256)")
    parser.add_argument("--layers", type=whole(), default=1, metavar="N", help="(default: 1)")
    parser.add_argument("--tied", action="store_true", help="the last layer's weights are the embedding, which takes --hidden numbers")
    parser.add_argument("--dropout", type=number(0, 0.95), default=0.0, metavar="P", help="of what layers say (default: 0)")
    parser.add_argument("--weight-drop", type=number(0, 0.95), default=0.0, metavar="P", help="of the weights between steps (default: 0)")
    parser.add_argument("--batch-size", type=whole(), default=32, metavar="N", help="parts of the text that are read at once (default: 32)")
    parser.add_argument("--length", type=whole(), default=64, metavar="N", help="tokens in a batch, of each part (default: 64)")
    parser.add_argument("--lr", type=number(0), default=4e-3, metavar="X", help="learning rate of Adam at the start (default: 0.004)")
    parser.add_argument("--decay", choices=("cosine", "plateau"), default="cosine", help="how it falls: to 0 as half a cosine, or by half "
                        "when the validation text is read no better (default: cosine)")
    parser.add_argument("--weight-decay", type=number(0), default=0.0, metavar="X", help="(default: 0)")
    parser.add_argument("--clip", type=number(0), default=1.0, metavar="X", help="largest norm of all gradients (default: 1)")
    parser.add_argument("--ema", type=number(0, 0.99999), default=0, metavar="D", help="use the moving average of the weights that keeps "
                        "this much of itself in each step (default: 0, the last weights)")
    parser.add_argument("--validate", type=number(0, 0.5), default=0.05, metavar="P", help="share of the text to learn from that is held "
                        "out at its end, where the data have no part to choose by (default: 0.05; with 0 nothing is)")
    parser.add_argument("--no-test", action="store_true", help="judge by the validation text alone, to choose settings by")
    parser.add_argument("--sample", type=whole(), metavar="N", help="only write N tokens, by the weights in --from; no training")
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="of a run that --sample writes by (default: --out)")
    parser.add_argument("--prime", default="\n", metavar="TEXT", help="what --sample goes on from (default: a new line)")
    parser.add_argument("--temperature", type=number(0), default=0.8, metavar="X", help="of what is drawn: 0 takes the most likely "
                        "(default: 0.8)")
    parser.add_argument("--top-k", type=whole(), metavar="N", help="draw of the N most likely alone")
    parser.add_argument("--top-p", type=number(1e-6, 1), default=1.0, metavar="P", help="draw of the fewest that have this probability "
                        "together (default: 1)")
    parser.add_argument("--beam", type=whole(), metavar="N", help="instead of drawing, look for the most likely text with N candidates")
    args = parser.parse_args()
    for name, wanted in (("--decay: plateau", args.decay == "plateau"), ("--no-test: it", args.no_test)):
        if wanted and not args.validate and args.data != "ptb":
            parser.error(f"argument {name} takes a validation text; give --validate more than 0")
    if not args.sample and (args.beam or args.prime != "\n"):
        parser.error("argument --prime, --beam: they are for --sample")
    return args


def main():
    args = parse()
    if args.sample:
        return write_more(args)
    snn.manual_seed(args.seed)
    text, vocabulary, train, valid, test = read(args)
    model = LanguageModel(len(vocabulary), args.hidden if args.tied else args.embedding, args.hidden, args.layers, args.cell, args.dropout,
                          args.weight_drop, args.tied).to(args.device)
    loader, memory = data.TextBatches(train, args.batch_size, args.length), Memory()
    optimizer = optim.AdamW(model.parameters(), args.lr, weight_decay=args.weight_decay)
    cosine = args.decay == "cosine"
    schedule = (optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader)) if cosine else
                optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema)) if args.ema else None
    final = average.module if args.ema else model
    parts = {"model": model, "loader": loader, "memory": memory, "optimizer": optimizer, "schedule": schedule}
    run = Run(args, **parts | ({"average": average} if args.ema else {}))

    for _ in run.epochs(args.epochs):
        if loader.position == 0:
            memory.forget()                                                    # what comes next is the text's beginning
        for x, y in run.batches(loader):
            loss, state = model.loss(x, y, memory.state)
            memory.keep(state)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            if args.ema:
                average.update_parameters(model)
            if cosine:
                schedule.step()
            if run.step % 50 == 0:
                run.log(train=loss)
        if len(valid):
            nats = final.nats(valid, READERS)
            run.log(valid=nats)
            if not cosine:
                schedule.step(nats)

    finish(args, run, final, text, vocabulary, train, valid if args.no_test else test)


def read(args):
    """The text, its vocabulary, and the numbers of its parts: to learn from, to choose by, and to be judged by."""
    text = data.load(args.data)
    train, valid = text.train, text.valid
    if not valid:
        end = round(len(train) * (1 - args.validate))
        train, valid = train[:end], train[end:]
    vocabulary = data.Vocabulary.of(train, args.level, args.min_count, text.spaced, (valid, text.test))
    parts = [vocabulary.encode(part) for part in (train, valid, text.test)]
    for part, name, needed in zip(parts, ("to learn from", "to choose by", "to be judged by"), (2, 2 * READERS, 2), strict=True):
        if 0 < len(part) < needed or needed == 2 > len(part):
            raise data.DataError(f"{args.data}: the part {name} has {len(part)} tokens, {needed} are needed; take a longer text")
    return text, vocabulary, *parts


# ---- what is written ------------------------------------------------------------------------------------------------------

def finish(args, run, model, text, vocabulary, train, judged):
    save_language_model(run.out / "weights.safetensors", model, vocabulary)
    pictures.curves(run.out / "curves.png", {"nats a token": {name: run.history(name) for name in ("train", "valid")
                                                              if len(run.history(name)[0])}}, text.name, log=False)
    prime = opening(vocabulary, "\n")
    ids = np.concatenate(list(model.generate(prime, SHOWN, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
                                             generator=Generator(args.seed))))
    (run.out / "sample.txt").write_text(vocabulary.decode(ids), encoding="utf-8")
    shown = judged[:SHOWN]
    cells.write_page(run.out / "cells.html", [vocabulary.tokens[i] for i in shown], model.activations(shown),
                     f"What units of the network see in {text.name}", "" if args.level == "char" else " ")
    print(vocabulary.decode(ids[:500]))
    nats = model.nats(judged)
    run.result(nats=nats, bits=nats / math.log(2), perplexity=math.exp(nats), longest_copy=longest_copy(ids, train)[1],
               split="valid" if args.no_test else "test",
               protocol=f"{text.name}, {len(judged):,} {args.level}s read from beginning to end, {len(vocabulary)} in the vocabulary; "
                        f"{args.layers} layers of {args.hidden} {args.cell}, dropout {args.dropout:g}, weight drop {args.weight_drop:g}"
                        f"{', tied' if args.tied else ''}, {args.batch_size} x {args.length}, {args.epochs} epochs, Adam {args.lr:g}, "
                        f"{args.decay}{f', weight decay {args.weight_decay:g}' if args.weight_decay else ''}"
                        f"{f', weight average {args.ema:g}' if args.ema else ''}; sample of {SHOWN} at temperature {args.temperature:g}")


def opening(vocabulary, text):
    """Numbers of the tokens that writing starts from, at least one."""
    ids = vocabulary.encode(text)
    return ids if len(ids) else np.zeros(1, np.int64)


def write_more(args):
    """--sample: new text by a model that was trained before, shown as it is written and kept in sample.txt."""
    model, vocabulary = load_language_model((args.source or args.out) / "weights.safetensors")
    prime, written = opening(vocabulary, args.prime), ""
    args.out.mkdir(parents=True, exist_ok=True)
    if args.beam:
        parts = [model.most_likely(prime, args.sample, args.beam)]
    else:
        parts = model.generate(prime, args.sample, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
                               generator=Generator(args.seed), at_once=8)
    ids = list(prime)
    sys.stdout.write(vocabulary.decode(ids))
    for part in parts:
        before, ids = len(vocabulary.decode(ids)), [*ids, *part]
        written = vocabulary.decode(ids)
        sys.stdout.write(written[before:])
        sys.stdout.flush()
    print()
    (args.out / "sample.txt").write_text(written, encoding="utf-8")


if __name__ == "__main__":
    start(main)
