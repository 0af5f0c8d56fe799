"""Standard MIDI files: notes of a file, and a file of notes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import DataError
from scratchnn.data.files import read_bytes
from scratchnn.data.score import LONGEST, Score, tidied

LARGEST = 1 << 20               # bytes of a file; a message in memory takes a hundred times what it takes in the file
DRUMS = 9                       # the channel whose notes are no keys
TICKS = 480                     # in a quarter of files that are written, or as near below as a step takes a whole number of them
TEMPO = 500_000                 # microseconds in a quarter where a file doesn't say


def read_midi(path: str | Path, quarter: int = 4) -> Score:
    """The notes of a MIDI file of type 0 or 1, in steps of which a quarter has `quarter`; each starts and ends at the nearest step and
    takes one at least. Channels are put together and drums left out; a note that is never ended lasts to the end of its track.
    The tempo is the first that the file names. Raises DataError naming file and fault, OSError."""
    from mido import MidiFile
    content = read_bytes(path, LARGEST)
    try:
        file = MidiFile(file=io.BytesIO(content))
        tracks = [[(m.time, m.type, getattr(m, "channel", 0), getattr(m, "note", 0), getattr(m, "velocity", 0), getattr(m, "tempo", 0))
                   for m in track] for track in file.tracks]
    except Exception as error:                  # the parser has no error of its own: a damaged file ends in any of a dozen kinds
        raise DataError(f"{path}: not a sound MIDI file: {type(error).__name__}: {error}") from None
    if file.type == 2 or file.ticks_per_beat <= 0:
        what = "its tracks are pieces of their own (type 2)" if file.type == 2 else f"{file.ticks_per_beat} ticks in a quarter"
        raise DataError(f"{path}: {what}, which cannot be read here; export it as type 0 or 1 with ticks that count quarters")
    return _score(path, tracks, file.ticks_per_beat, quarter)


def _score(path, tracks, ticks, quarter):
    """The notes of tracks of messages (delta time, type, channel, note, velocity, tempo)."""
    found, tempos, end = [], [], 0
    for messages in tracks:
        notes, tempo, last = _track(messages)
        found, tempos, end = found + notes, tempos + tempo, max(end, last)
    if not found:
        raise DataError(f"{path}: no notes in {len(tracks)} tracks")
    notes = np.array(found, object)                                            # of any size until they are known to fit
    notes[:, :2] = (2 * notes[:, :2] * quarter + ticks) // (2 * ticks)         # to the nearest step
    if notes[:, :2].max() > LONGEST:
        raise DataError(f"{path}: lasts {notes[:, :2].max():,} steps, more than the limit of {LONGEST:,}")
    notes = notes.astype(np.int64)
    notes[:, 1] = np.maximum(notes[:, 1] - notes[:, 0], 1)
    notes = tidied(notes)
    steps = max(int(notes[:, :2].sum(1).max()), min(LONGEST, (2 * end * quarter + ticks) // (2 * ticks)))
    return Score(notes, steps, quarter, 6e7 / (min(tempos)[1] or TEMPO) if tempos else 6e7 / TEMPO)


def _track(messages):
    """Notes (start, end, note, velocity) in ticks, tempos (tick, microseconds a quarter), and the tick of the end."""
    now, sounding, notes, tempos = 0, {}, [], []
    for time, kind, channel, note, velocity, tempo in messages:
        now += time
        if kind == "set_tempo":
            tempos.append((now, tempo))
        elif kind in ("note_on", "note_off") and channel != DRUMS:
            if (channel, note) in sounding:
                start, loud = sounding.pop((channel, note))
                notes.append((start, now, note, loud))
            if kind == "note_on" and velocity:
                sounding[channel, note] = (now, velocity)
    notes += [(start, now, note, loud) for (_, note), (start, loud) in sounding.items()]
    return notes, tempos, now


def write_midi(path: str | Path, score: Score) -> None:
    """Write a score as a MIDI file of one track. What `read_midi` reads of it with the same `quarter` is the score again, bit for bit but
    for the tempo, which a file holds in whole microseconds a quarter."""
    from mido import Message, MetaMessage, MidiFile, MidiTrack
    scale = max(1, TICKS // score.quarter)
    events = [(start, 1, Message("note_on", note=note, velocity=velocity)) for start, _, note, velocity in score.notes.tolist()]
    events += [(start + length, 0, Message("note_off", note=note)) for start, length, note, _ in score.notes.tolist()]
    track, now = MidiTrack([MetaMessage("set_tempo", tempo=round(6e7 / score.tempo))]), 0
    for step, _, message in sorted(events, key=lambda event: event[:2]):       # what ends before what starts
        message.time, now = (step - now) * scale, step
        track.append(message)
    track.append(MetaMessage("end_of_track", time=(score.steps - now) * scale))
    file, out = MidiFile(type=0, ticks_per_beat=score.quarter * scale), io.BytesIO()
    file.tracks.append(track)
    file.save(file=out)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
