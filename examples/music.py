"""Learn which notes come next in pieces of music, and compose new ones.

An LSTM (S. Hochreiter & J. Schmidhuber 1997) or GRU (K. Cho et al. 2014) reads a piano roll step by step and says which of the 88 keys
sound in the next step: each by itself, or from the highest to the lowest, each given those above it (RNN-NADE, N. Boulanger-Lewandowski,
Y. Bengio & P. Vincent 2012); or it reads and writes events, note by note with their loudness, like a text.

    python examples/music.py                                                  tunes of a small composer of our own
    python examples/music.py --data jsb-chorales --transpose 0 --dropout 0.6 --weight-decay 0.1 --batch-size 8 --epochs 45     J. S. Bach
    python examples/music.py --data 'midi:FOLDER?steps=12' --output events    MIDI files of yours, 12 steps in a quarter
    python examples/music.py --sample 200 --from out/music --primer SONG.mid  200 steps that go on from the beginning of a song
    python examples/music.py --harmonise SONG.mid --from out/music            lower voices for the highest voice of a song

nats is -log p of a step given those before it, summed over keys, the mean of steps 2 to the last of all test pieces (of events, all of
them over the number of steps: an upper bound). In the folder of --out: weights and learning curves, three pieces as .mid and .wav, their
picture, and what they consist of beside the data. held, silent and looped are the longest stretches of composed pieces in which a key
is held, none sounds, or a passage comes again and again; stuck counts the pieces in which one of these exceeds what 99 % of the data have.
Expected by the second line: nats=5.25, after a minute on one core.
"""

from pathlib import Path

import numpy as np

import scratchnn as snn
from scratchnn import data, optim, pictures
from scratchnn.data.midi import read_midi, write_midi
from scratchnn.data.score import Score
from scratchnn.data.synth import RATE, synthesise
from scratchnn.data.wav import write_wav
from scratchnn.metrics import music as measure
from scratchnn.models.music import EventModel, RollModel, load_music_model, save_music_model
from scratchnn.models.networks import CELLS
from scratchnn.nn.utils import clip_grad_norm_
from scratchnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import EarlyStopping, Run, start

DATA = ("tunes", "jsb-chorales", "nottingham", "midi:")
OUTPUTS = ("bernoulli", "autoregressive", "events")
WATCHED, SHOWN = 16, 3       # pieces that are composed to be looked after while training, and of those at its end that are kept


def parse():
    parser = arguments(__doc__, out="out/music", data=DATA, epochs=60, cuda=False,
                       smoke={"epochs": 2, "hidden": 32, "units": 16, "embedding": 8, "steps": 32, "lr": 0.03,
                              "ema": 0.5, "batch_size": 8})
    parser.add_argument("--output", choices=OUTPUTS, default="autoregressive", help="what the network says (default: autoregressive)")
    parser.add_argument("--cell", choices=tuple(CELLS), default="LSTM", help="(default: LSTM)")
    parser.add_argument("--hidden", type=whole(), default=256, metavar="N", help="units of a layer (default: 256)")
    parser.add_argument("--layers", type=whole(), default=1, metavar="N", help="(default: 1)")
    parser.add_argument("--units", type=whole(), default=128, metavar="N", help="of --output autoregressive (default: 128)")
    parser.add_argument("--embedding", type=whole(), default=64, metavar="N",
                        help="numbers that stand for an event, of --output events (default: 64)")
    parser.add_argument("--dropout", type=number(0, 0.95), default=0.5, metavar="P", help="of what comes out of layers (default: 0.5)")
    parser.add_argument("--input-dropout", type=number(0, 0.95), default=0.0, metavar="P", help="of the keys of a step, not of events "
                        "(default: 0)")
    parser.add_argument("--transpose", type=whole(0, 12), default=5, metavar="N", help="semitones by which pieces to learn from are moved "
                        "up or down at most, anew in each epoch (default: 5)")
    parser.add_argument("--batch-size", type=whole(), default=16, metavar="N", help="pieces in a batch (default: 16)")
    parser.add_argument("--length", type=whole(8), default=512, metavar="N", help="steps or events; longer pieces are divided to learn "
                        "from (default: 512)")
    parser.add_argument("--lr", type=number(0), default=8e-3, metavar="X", help="learning rate of AdamW at the start; it falls to 0 as "
                        "half a cosine (default: 0.008)")
    parser.add_argument("--weight-decay", type=number(0), default=0.01, metavar="X", help="(default: 0.01)")
    parser.add_argument("--ema", type=number(0, 0.99999), default=0.99, metavar="X", help="decay of the average of weights that is "
                        "judged and kept (default: 0.99)")
    parser.add_argument("--patience", type=whole(), default=20, metavar="N", help="epochs without a better one on the validation pieces, "
                        "of which the best is kept, before training stops (default: 20)")
    parser.add_argument("--no-test", action="store_true", help="judge by the validation pieces alone, to choose settings by")
    parser.add_argument("--steps", type=whole(8), default=128, metavar="N", help="of pieces that are composed to judge them (default: 128)")
    parser.add_argument("--sample", type=whole(), metavar="N", help="only compose three pieces of N steps, by the weights in --from")
    parser.add_argument("--primer", type=Path, metavar="FILE", help="a MIDI file that --sample goes on from")
    parser.add_argument("--primer-steps", type=whole(), default=16, metavar="N", help="of its beginning that are taken (default: 16)")
    parser.add_argument("--harmonise", type=Path, metavar="FILE", help="only find lower voices for the highest of a MIDI file, by the "
                        "weights in --from")
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="of a run whose weights are taken (default: --out)")
    parser.add_argument("--temperature", type=number(0.05), default=0.9, metavar="X", help="of what is drawn: the lower, the more likely "
                        "(default: 0.9)")
    args = parser.parse_args()
    if args.primer and not args.sample:
        parser.error("argument --primer: it is for --sample")
    if args.sample and args.harmonise:
        parser.error("argument --harmonise: it takes the length of the song; leave out --sample")
    return args


def main():
    args = parse()
    if args.sample or args.harmonise:
        return write_more(args)
    snn.manual_seed(args.seed)
    music = data.load(args.data)
    model = (EventModel(args.embedding, args.hidden, args.layers, args.cell, args.dropout) if args.output == "events" else
             RollModel(args.output, args.hidden, args.layers, args.cell, args.units, args.dropout, args.input_dropout)).to(args.device)
    train, valid, test = (pieces(music, part, args.output) for part in ("train", "valid", "test"))
    loader = data.PieceBatches(train, args.batch_size, args.length, args.transpose)
    optimizer = optim.AdamW(model.parameters(), args.lr, weight_decay=args.weight_decay)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema))
    stopping = EarlyStopping(average, args.patience)
    run = Run(args, model=model, loader=loader, optimizer=optimizer, schedule=schedule, average=average, stopping=stopping)
    about = {"data": music.name, "quarter": music.quarter, "tempo": music.tempo, "usual": vars(measure.usual(music.train))}

    for epoch in run.epochs(args.epochs, until=stopping.is_over):
        for x, lengths in run.batches(loader):
            nats, count = model.loss(x, lengths)
            optimizer.zero_grad()
            (nats / count).backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            if run.step % 10 == 0:
                run.log(train=nats / count)
        nats = average.module.nats(valid)
        stopping.update(nats)
        run.log(valid=nats, **watch(compose(average.module, about, None, WATCHED, args.steps, args.temperature, epoch), about))

    stopping.restore()
    finish(args, run, average.module, music, about, valid if args.no_test else test)


def pieces(music, part, output):
    """A part of the music as a model of such an output takes it."""
    return [data.encode(score) for score in music.notes(part)] if output == "events" else list(getattr(music, part))


def compose(model, about, primer, count, steps, temperature, seed):
    """Scores of so many pieces; they begin with the score `primer`, if there is one, and go on for so many steps."""
    how, generator = {"quarter": about["quarter"], "tempo": about["tempo"]}, Generator(seed)
    if isinstance(model, EventModel):
        given = data.encode(primer)[:-1] if primer else np.zeros(0, np.int64)
        found = model.compose(given, count, steps, temperature=temperature, generator=generator)
        return [data.decode(ids, **how) for ids in found]
    given = primer.roll() if primer else np.zeros((0, data.KEYS), np.uint8)
    return [Score.of_roll(roll, **how) for roll in model.compose(given, count, steps, temperature=temperature, generator=generator)]


def watch(scores, about):
    """The longest stretches without music in composed pieces, and in how many these are longer than in the data."""
    found, limits = [measure.faults(score.roll()) for score in scores], measure.Faults(**about["usual"])
    return {name: max(getattr(f, name) for f in found) for name in about["usual"]} | {"stuck": sum(bool(f.beyond(limits)) for f in found)}


# ---- what is written ------------------------------------------------------------------------------------------------------

def finish(args, run, model, music, about, judged):
    save_music_model(run.out / "weights.safetensors", model, about)
    pictures.curves(run.out / "curves.png", {"nats": {name: run.history(name) for name in ("train", "valid")}}, music.name, log=False)
    scores = compose(model, about, None, WATCHED, args.steps, args.temperature, args.seed)
    write_pieces(run.out, scores[:SHOWN], f"composed after {music.name}")
    pictures.histograms(run.out / "histograms.png", {music.name: measure.histograms(music.test),
                                                     "composed": measure.histograms([score.roll() for score in scores])})
    layers = f"{args.layers} layers of {args.hidden} {args.cell}, {args.output}"
    run.result(nats=model.nats(judged), valid=run.parts["stopping"].best, **watch(scores, about), split="valid" if args.no_test else "test",
               protocol=f"{music.name}, {len(judged)} pieces, steps 2 to the last, total over total; {layers}"
                        f"{f' of {args.units} units' if args.output == 'autoregressive' else ''}, dropout {args.dropout:g}, in training "
                        f"transposed by up to {args.transpose} semitones, AdamW {args.lr:g}, average {args.ema:g}, best of "
                        f"{run.epoch} epochs on valid; faults of {WATCHED} pieces of {args.steps} steps, temperature {args.temperature:g}")


def write_pieces(folder, scores, title, name="piece", picture="pieces.png"):
    """Scores as name-1.mid, name-1.wav and so on, and one picture of them all."""
    for i, score in enumerate(scores, 1):
        write_midi(folder / f"{name}-{i}.mid", score)
        write_wav(folder / f"{name}-{i}.wav", synthesise(score), RATE)
    pictures.piano_rolls(folder / picture, {f"{name} {i}": score.roll() for i, score in enumerate(scores, 1)}, scores[0].quarter,
                         title)


def write_more(args):
    """--sample and --harmonise: new music by a model that was trained before."""
    path = (args.source or args.out) / "weights.safetensors"
    model, about = load_music_model(path)
    song = args.harmonise or args.primer
    score = read_midi(song, about["quarter"]) if song else None
    if args.harmonise:
        if isinstance(model, EventModel):
            raise data.DataError(f"{path}: a model of events, which cannot harmonise; train one with --output autoregressive")
        melody = measure.melody(score.roll())
        rolls = [model.harmonise(melody, temperature=args.temperature, generator=Generator(args.seed + i)) for i in range(SHOWN)]
        scores = [Score.of_roll(roll, about["quarter"], score.tempo) for roll in rolls]
        write_pieces(args.out, scores, f"{song.stem}, harmonised after {about['data']}", "harmony",
                     "harmonies.png")
    else:
        primer = score.cut(args.primer_steps) if score else None
        scores = compose(model, about, primer, SHOWN, args.sample, args.temperature, args.seed)
        write_pieces(args.out, scores, f"composed after {about['data']}")
    print("result:", " ".join(f"{name}={value}" for name, value in watch(scores, about).items()))


if __name__ == "__main__":
    start(main)
