"""Learn what a sound's next sample is, given those before it, and speak or play by drawing one after the other.

WaveNet (A. van den Oord et al. 2016): a stack of convolutions that see the past alone, each twice as far as the one before. It is told
what it shall say, such as a digit and a speaker, or what it shall sound like, frame by frame.

    python examples/wavenet.py                                              five vowels, made by a small synthesiser of our own
    python examples/wavenet.py --data melodies                              a plucked string that plays tunes, likewise
    python examples/wavenet.py --data fsdd --layers 10 --epochs 25          spoken digits by three speakers
    python examples/wavenet.py --data 'wav:FOLDER?rate=8000'                recordings of yours, in subfolders if there are classes
    python examples/wavenet.py --sample 3 --from out/wavenet --label a      three seconds more, written while they are made
    python examples/wavenet.py --sample 3 --from out/wavenet --seed-audio FILE.wav          that go on from the end of a recording

bits_per_sample is the mean of -log2 p of the samples of all test takes that have a full receptive field, 8 mu-law bits each; unigram_bits
and linear_bits are those of how often a class occurs and of a linear predictor of order 16. recognised is how many percent of the sounds
that were made a network of ours takes for what they shall be, recognised_real how many of the test takes. Where nothing says what they
shall be, note_overlap is what the notes in them have in common with those of the training takes, 1 if they are as frequent, and
note_overlap_real the same of test takes. Expected of the first line: bits_per_sample=4.46 (unigram_bits=7.59, linear_bits=6.51),
recognised=67, in four minutes; of fsdd 4.14 (7.37, 6.36) and 58, in 75 minutes of most of a core; of melodies with --layers 10 --epochs 12
1.30 (7.35, 4.51) and note_overlap=0.55 (note_overlap_real=0.78), in 13. In the folder of --out: weights and learning curves, samples/
with sounds, and pictures of their waveforms and spectrograms beside real ones.
"""

import itertools
from pathlib import Path

import numpy as np

import scratchnn as snn
from scratchnn import data, optim, pictures
from scratchnn.data.audio import as_float, as_int16
from scratchnn.data.clips import FEATURES, TakeBatches, features
from scratchnn.data.wav import WavWriter, read_wav, write_wav
from scratchnn.metrics import audio as measure
from scratchnn.models.wavenet import WaveNet, doubling, load_wavenet, save_wavenet
from scratchnn.nn.utils import clip_grad_norm_
from scratchnn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator
from scratchnn.run import EarlyStopping, Run, start

DATA = ("vowels", "melodies", "fsdd", "wav:")
SILENCE = 0.05       # seconds behind a take that has a label, by which it comes to an end; sounds are cut off where half of it are silent
SHOWN = 10           # rows of the picture, at most
TUNES = 4            # sounds that are made where nothing says what they shall be, each from the first second of a test take on
LASTING = 6.0        # seconds of these
FOLLOWED = 30        # takes whose frames are followed, at most: what is made of a second's frames takes 2 MB


def parse():
    parser = arguments(__doc__, out="out/wavenet", data=DATA, epochs=8, cuda=False,
                       smoke={"epochs": 1, "residual": 8, "skip": 16, "blocks": 1, "layers": 7, "clips": 10, "listen": 10, "ema": 0.9,
                              "batch_size": 2, "lr": 0.01})
    parser.add_argument("--output", choices=("mu-law", "logistics"), default="mu-law", help="what the network says: one of 256 classes, or "
                        "a mixture of logistic distributions over 16 bits (default: mu-law)")
    parser.add_argument("--mixtures", type=whole(), default=5, metavar="N", help="of --output logistics (default: 5)")
    parser.add_argument("--frames", choices=tuple(FEATURES), help="tell the network frame by frame what to sound like, by a mel spectrum "
                        "or by pitch and loudness (default: it is told labels alone)")
    parser.add_argument("--hop", type=whole(32), default=128, metavar="N", help="samples in a frame, a multiple of 32 (default: 128)")
    parser.add_argument("--residual", type=whole(), default=32, metavar="N", help="channels of the stack (default: 32)")
    parser.add_argument("--skip", type=whole(), default=128, metavar="N", help="channels above it (default: 128)")
    parser.add_argument("--blocks", type=whole(), default=2, metavar="N", help="in which dilations begin again (default: 2)")
    parser.add_argument("--layers", type=whole(1, 16), default=9, metavar="N", help="of a block, with dilations 1, 2, 4, ... (default: 9)")
    parser.add_argument("--batch-size", type=whole(), default=2, metavar="N", help="takes in a batch (default: 2)")
    parser.add_argument("--length", type=whole(256), default=8192, metavar="N", help="samples; longer takes are divided (default: 8192)")
    parser.add_argument("--lr", type=number(0), default=6e-3, metavar="X", help="learning rate of Adam at the start; it falls to 0 as half "
                        "a cosine (default: 0.006)")
    parser.add_argument("--ema", type=number(0, 0.99999), default=0.99, metavar="X", help="decay of the average of weights that is "
                        "judged and kept (default: 0.99)")
    parser.add_argument("--patience", type=whole(), default=10, metavar="N", help="epochs without a better one on the validation takes, of "
                        "which the best is kept, before training stops (default: 10)")
    parser.add_argument("--no-test", action="store_true", help="judge by the validation takes alone, to choose settings by")
    parser.add_argument("--clips", type=whole(), default=150, metavar="N", help="sounds with labels that are made to be recognised, about "
                        "(default: 150)")
    parser.add_argument("--listen", type=whole(), default=300, metavar="N", help="steps in which the network that recognises them learns "
                        "from real takes (default: 300)")
    parser.add_argument("--sample", type=number(0.01, 3600), metavar="SECONDS", help="only make a sound, by the weights in --from")
    parser.add_argument("--from", type=Path, dest="source", metavar="FOLDER", help="of a run whose weights are taken (default: --out)")
    parser.add_argument("--seed-audio", type=Path, metavar="FILE", help="a recording that --sample goes on from")
    parser.add_argument("--like", type=Path, metavar="FILE", help="a recording whose frames --sample follows, of a run with --frames")
    parser.add_argument("--label", nargs="+", default=[], metavar="NAME", help="what --sample says, as 7 theo; the rest is drawn")
    parser.add_argument("--temperature", type=number(0.05), default=1.0, metavar="X", help="of what is drawn: the lower, the more likely "
                        "(default: 1)")
    parser.add_argument("--top-k", type=whole(), metavar="N", help="draw of the N most likely classes alone")
    args = parser.parse_args()
    if not args.sample and (args.source or args.seed_audio or args.like or args.label):
        parser.error("argument --from, --seed-audio, --like, --label: they are for --sample")
    if args.hop % 32:
        parser.error(f"argument --hop: must be a multiple of 32, got {args.hop}")
    if args.top_k and args.output == "logistics":
        parser.error("argument --top-k: it is for --output mu-law")
    return args


def main():
    args = parse()
    if args.sample:
        return write_more(args)
    snn.manual_seed(args.seed)
    audio = data.load(args.data)
    model = WaveNet(mixtures=args.mixtures if args.output == "logistics" else 0, residual=args.residual, skip=args.skip,
                    dilations=doubling(args.blocks, args.layers), labels=[len(names) for names in audio.classes.values()],
                    frames=FEATURES.get(args.frames, 0), hop=args.hop).to(args.device)
    seconds = model.receptive_field / audio.rate
    print(f"receptive field: {model.receptive_field:,} samples, {1000 * seconds:.0f} ms")
    audio = audio.lasting(model.before + 1, f"which is all that the network hears at once ({seconds:.2f} s): record longer ones, or take "
                          "fewer --layers or --blocks")
    about = {"data": audio.name, "rate": audio.rate, "classes": audio.classes, "frames": args.frames}
    silence = round(SILENCE * audio.rate) if audio.classes else 0
    loader = TakeBatches(audio.train, audio.labels["train"], args.batch_size, args.length, model.before, silence, framing(model, about),
                         args.hop if args.frames else 1)
    optimizer = optim.Adam(model.parameters(), args.lr)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(args.ema))
    stopping = EarlyStopping(average, args.patience)
    run = Run(args, model=model, loader=loader, optimizer=optimizer, schedule=schedule, average=average, stopping=stopping)

    for _ in run.epochs(args.epochs, until=stopping.is_over):
        for clips in run.batches(loader):
            nats, count = model.loss(*clips)
            optimizer.zero_grad()
            (nats / count).backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            if run.step % 10 == 0:
                run.log(train=nats / (count * np.log(2)))
        bits = average.module.bits(audio.valid, audio.labels["valid"], framing(model, about))
        stopping.update(bits)
        run.log(valid=bits)

    stopping.restore()
    finish(args, run, average.module, audio, about)


def framing(model, about):
    """What makes the frames of a take that the model takes; None if it takes none."""
    kind, rate, hop = about["frames"], about["rate"], model.options["hop"]
    return None if kind is None else lambda take: features(kind, take, rate, hop)


# ---- sounds ---------------------------------------------------------------------------------------------------------------

def make(args, model, audio, about, part):
    """(takes that the model made, their labels (N, kinds), real takes like them)."""
    real, known, how = getattr(audio, part), audio.labels[part], {"temperature": args.temperature, "top_k": args.top_k,
                                                                  "generator": Generator(args.seed)}
    if args.frames:                                                            # real takes anew, from what they sound like
        chosen = np.linspace(0, len(real) - 1, min(len(real), args.clips, FOLLOWED)).astype(int)
        steps = max(len(real[i]) for i in chosen)
        frames = np.stack([framing(model, about)(np.pad(real[i], (model.before, steps - len(real[i])))) for i in chosen])
        made = np.concatenate(list(model.generate(steps, known[chosen] if audio.classes else None, frames, **how)), 1)
        return [take[:len(real[i])] for i, take in zip(chosen, made, strict=True)], known[chosen], [real[i] for i in chosen]
    if not audio.classes:
        heard = [take[:audio.rate] for take in real[:TUNES]]
        size = min(map(len, heard))
        made = model.generate(round(LASTING * audio.rate), start=np.stack([take[-size:] for take in heard]), **how)
        return list(np.concatenate([np.zeros((len(heard), 0), np.int16), *made], 1)), known[:TUNES], real[:TUNES]
    kinds = list(itertools.product(*(range(len(names)) for names in audio.classes.values())))
    labels = np.array(kinds * max(1, args.clips // len(kinds)))
    steps = int(np.quantile([len(take) for take in audio.train], 0.98)) + round(SILENCE * audio.rate)
    made = np.concatenate(list(model.generate(steps, labels, **how)), 1)
    alike = [next((take for take, own in zip(real, known, strict=True) if (own == label).all()), real[0]) for label in labels]
    return [ended(take, audio.rate, model) for take in made], labels, alike


def ended(take, rate, model):
    """A take up to where it falls silent, after it has begun."""
    nothing = take == model.samples.decode(model.samples.encode(np.zeros(1, np.int16)))
    size = round(SILENCE * rate / 2)
    silent = np.convolve(nothing, np.ones(size, int), "valid")                 # samples of the next `size`
    begun = np.argmax(silent <= size // 2)
    ends = np.flatnonzero(silent[begun:] == size)
    return take[:begun + ends[0]] if len(ends) else take


# ---- what is written ------------------------------------------------------------------------------------------------------

def finish(args, run, model, audio, about):
    part = "valid" if args.no_test else "test"
    save_wavenet(run.out / "weights.safetensors", model, about)
    pictures.curves(run.out / "curves.png", {"bits per sample": {name: run.history(name) for name in ("train", "valid")
                                                                 if len(run.history(name)[0])}}, audio.name, log=False)
    made, labels, alike = make(args, model, audio, about, part)
    names = write_samples(run.out, made, labels, audio)
    chosen = np.linspace(0, len(made) - 1, min(SHOWN, len(made))).astype(int)
    pictures.sounds(run.out / "sounds.png", {f"{names[i]}": [as_float(alike[i]), as_float(made[i])] for i in chosen}, audio.rate,
                    [f"{audio.name}, real", "made"])
    judged, others = getattr(audio, part), {}
    if audio.classes:
        classes = next(iter(audio.classes.values()))
        listener = measure.Recogniser(audio.train, audio.labels["train"][:, 0], len(classes), audio.rate, args.listen)
        for name, takes, truth in (("recognised", made, labels), ("recognised_real", judged, audio.labels[part])):
            others[name] = 100 * float((listener.classes(takes) == truth[:, 0]).mean())
    elif not args.frames:
        learnt, own, real = (measure.pitch_histograms(takes, audio.rate) for takes in (audio.train, made, alike))
        pictures.histograms(run.out / "notes.png", {audio.name: learnt, "made": own})
        for name, found in (("note_overlap", own), ("note_overlap_real", real)):
            others[name] = measure.overlap(learnt["note"][1], found["note"][1])
    scales = [measure.mu_law_levels(), measure.companded_levels()] if args.output == "mu-law" else [measure.pcm_levels()]
    run.result(bits_per_sample=model.bits(judged, audio.labels[part], framing(model, about)), valid_bits=run.parts["stopping"].best,
               unigram_bits=measure.unigram_bits(audio.train, judged, scales[0], model.before),
               linear_bits=measure.linear_bits(audio.train, audio.valid, judged, scales, model.before), **others, split=part,
               protocol=describe(args, model, audio, len(judged), len(made), run.epoch))


def describe(args, model, audio, judged, made, epochs):
    output = "mu-law 256" if args.output == "mu-law" else f"{args.mixtures} logistics over 16 bits"
    told = " and ".join([*audio.classes, *([f"{args.frames} frames of {args.hop}"] if args.frames else [])]) or "nothing"
    return (f"{audio.name}, {judged} takes at {audio.rate} Hz, samples with a full receptive field of {model.receptive_field}; {output}, "
            f"{args.blocks} x {args.layers} layers, {args.residual} residual and {args.skip} skip channels, told {told}; Adam {args.lr:g}, "
            f"cosine, {args.batch_size} takes in a batch, average {args.ema:g}, best of {epochs} epochs on valid; {made} sounds made at "
            f"temperature {args.temperature:g}" + (f", top {args.top_k}" if args.top_k else ""))


def write_samples(folder, made, labels, audio):
    """Takes as samples/NAME.wav, one for each name; all names."""
    names = ["-".join(kind[i] for kind, i in zip(audio.classes.values(), label, strict=True)) or f"sample {n}"
             for n, label in enumerate(labels, 1)]
    for name, take in zip(reversed(names), reversed(made), strict=True):
        write_wav(folder / "samples" / f"{name.replace(' ', '-')}.wav", as_float(take), audio.rate)
    return names


def write_more(args):
    """--sample: a sound by a model that was trained before, in a file that grows while it is made."""
    from tqdm import tqdm
    path = (args.source or args.out) / "weights.safetensors"
    model, about = load_wavenet(path)
    rate, steps = about["rate"], round(args.sample * about["rate"])
    seed = as_int16(read_wav(args.seed_audio, rate)[0]) if args.seed_audio else np.zeros(0, np.int16)
    if args.seed_audio and len(seed) < model.receptive_field:
        raise data.DataError(f"{args.seed_audio}: lasts {len(seed):,} samples at {rate:,} a second, fewer than the "
                             f"{model.receptive_field:,} that the network hears at once; give a longer recording")
    if (args.like is None) != (about["frames"] is None):
        raise data.DataError(f"{path}: a model that follows {about['frames'] or 'no'} frames; {'leave out' if args.like else 'give'} "
                             "--like")
    if args.top_k and model.options["mixtures"]:
        raise data.DataError(f"{path}: a model of logistics, which has no classes; leave out --top-k")
    labels, frames = choose(args, about["classes"]), None
    if args.like:
        like = as_int16(read_wav(args.like, rate)[0])
        steps = min(steps, len(like))
        frames = framing(model, about)(np.r_[np.zeros(model.before, np.int16), seed, like])[None]
    written, made, generator = args.out / "sample.wav", [], Generator(args.seed)
    print(f"writing {written}, which is a sound file at any moment")
    progress = "{l_bar}{bar}| {n:.2f} of {total:.2f} s of sound in {elapsed}"
    with WavWriter(written, rate) as file, tqdm(total=steps / rate, disable=None, bar_format=progress) as bar:
        for part in model.generate(steps, labels, frames, start=seed[None], temperature=args.temperature, top_k=args.top_k,
                                   generator=generator):
            file.write(part[0])
            made.append(part[0])
            bar.update(part.shape[1] / rate)
    pictures.sounds(args.out / "sample.png", {"": [as_float(np.concatenate(made))]}, rate, [f"made after {about['data']}"])
    print(f"result: seconds_of_sound={steps / rate:.3f} file={written}")


def choose(args, classes):
    """Labels (1, kinds) of what --label names; what it leaves open is drawn by the seed."""
    names, labels, generator = set(args.label), [], Generator(args.seed)
    for kind, known in classes.items():
        chosen = [i for i, name in enumerate(known) if name in names]
        if len(chosen) > 1:
            raise data.DataError(f"--label: {', '.join(known[i] for i in chosen)} are of one kind, {kind}; name one of them")
        labels.append(chosen[0] if chosen else int(snn.randint(0, len(known), (1,), generator=generator)))
        names -= set(known)
        print(f"{kind}: {known[labels[-1]]}")
    if names:
        listed = "; ".join(f"{kind}: {', '.join(known)}" for kind, known in classes.items()) or "this model takes none"
        raise data.DataError(f"--label: {', '.join(sorted(names))} is not known; {listed}")
    return np.array([labels]) if classes else None


if __name__ == "__main__":
    start(main)
