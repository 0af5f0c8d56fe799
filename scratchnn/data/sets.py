"""load(spec): any data set by what `--data` says."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from scratchnn.data.arrays import array_file
from scratchnn.data.audio import Audio, fsdd, melodies, vowels, wav_folder
from scratchnn.data.cifar import cifar10, cifar10_subset
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.folder import picture_folder
from scratchnn.data.glyphs import glyphs
from scratchnn.data.images import digits, fashion_mnist, mnist, stacked_mnist
from scratchnn.data.music import Music, jsb_chorales, midi_folder, nottingham, tunes
from scratchnn.data.table import csv_file
from scratchnn.data.text import Text, ptb, python_docs, text_file, tinyshakespeare
from scratchnn.data.toys import flats, grid, moons, ring, swiss_roll

SETS: dict[str, Callable[[], Any]] = {
    "digits": digits, "glyphs": glyphs, "mnist": mnist, "fashion-mnist": fashion_mnist,
    "stacked-mnist": stacked_mnist, "cifar10": cifar10,
    "cifar10-subset": cifar10_subset, "moons": moons, "swiss-roll": swiss_roll, "ring": ring, "grid": grid, "flats": flats,
    "tinyshakespeare": tinyshakespeare, "ptb": ptb, "python-docs": python_docs,
    "tunes": tunes, "jsb-chorales": jsb_chorales, "nottingham": nottingham,
    "vowels": vowels, "melodies": melodies, "fsdd": fsdd}


def _yes_or_no(text):
    return {"yes": True, "no": False}[text]


# kind: (reader, {option: how its value is read})
FILES: dict[str, tuple[Callable[..., Any], dict[str, Callable]]] = {
    "csv": (csv_file, {"target": str, "skip": str, "header": _yes_or_no, "delimiter": str, "encoding": str, "test": float}),
    "npy": (array_file, {"test": float}),
    "folder": (picture_folder, {"size": int, "channels": int, "test": float}),
    "text": (text_file, {}),
    "midi": (midi_folder, {"steps": int}),
    "wav": (wav_folder, {"rate": int, "trim": _yes_or_no})}


def load(spec: str) -> DataSet | Text | Music | Audio:
    """The data set that `spec` names: one of SETS, or a file of the user's.

    A file is given as KIND:PATH or KIND:PATH?option=value&option=value, as in "csv:people.csv?target=income&skip=name". The kinds
    and their options are those of csv_file, array_file (npy: for .npy and .npz), picture_folder, text_file, midi_folder and
    wav_folder; what has a meaning of its own in such an address is written as %26 for & and %2B for +.
    Raises DataError, which lists what there is, for a name, kind or option that is not known.
    """
    kind, colon, place = spec.partition(":")
    if spec in SETS:
        return SETS[spec]()
    if not colon or kind not in FILES:
        raise DataError(f"data set {spec!r} is not known; choose one of {', '.join(SETS)}, or "
                        f"{', '.join(f'{kind}:PATH' for kind in FILES)}")
    reader, known = FILES[kind]
    path, _, query = (place, "", "") if os.path.exists(place) else place.partition("?")
    options = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        try:
            options[name] = known[name](value)
        except (KeyError, ValueError):
            fault = f"cannot be {value!r}" if name in known else f"is not known; {kind}: has {', '.join(known) or 'no options'}"
            raise DataError(f"{spec}: option {name!r} {fault}") from None
    return reader(path, **options)
