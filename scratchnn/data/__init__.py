"""Data sets, ready as arrays, and the loader that cuts them into batches."""

from scratchnn.data.arrays import array_file
from scratchnn.data.audio import Audio, fsdd, melodies, mu_law_decode, mu_law_encode, vowels, wav_folder
from scratchnn.data.augment import DRAWINGS, PHOTOGRAPHS, Augment
from scratchnn.data.cifar import cifar10, cifar10_subset
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.download import DownloadError, fetch
from scratchnn.data.events import decode, encode
from scratchnn.data.folder import picture_folder, read_picture, read_pictures
from scratchnn.data.glyphs import glyphs
from scratchnn.data.images import digits, fashion_mnist, mnist, stacked_mnist
from scratchnn.data.loader import DataLoader
from scratchnn.data.midi import read_midi, write_midi
from scratchnn.data.music import Music, PieceBatches, jsb_chorales, midi_folder, nottingham, tunes
from scratchnn.data.score import KEYS, Score
from scratchnn.data.sets import FILES, SETS, load
from scratchnn.data.table import Table, csv_file, write_csv
from scratchnn.data.text import Text, ptb, python_docs, text_file, tinyshakespeare
from scratchnn.data.tokens import LEVELS, TextBatches, Vocabulary
from scratchnn.data.toys import GRID_SIGMA, RING_SIGMA, flats, grid, grid_centres, moons, ring, ring_centres, swiss_roll
from scratchnn.data.wav import WavWriter, read_wav, write_wav

__all__ = [
    "DRAWINGS", "FILES", "GRID_SIGMA", "KEYS", "LEVELS", "PHOTOGRAPHS", "RING_SIGMA", "SETS", "Audio", "Augment", "DataError",
    "DataLoader", "DataSet", "DownloadError", "Music", "PieceBatches", "Score", "Table", "Text", "TextBatches", "Vocabulary",
    "WavWriter", "array_file", "cifar10", "cifar10_subset", "csv_file", "decode", "digits", "encode", "fashion_mnist", "fetch",
    "flats", "fsdd", "glyphs", "grid", "grid_centres", "jsb_chorales", "load", "melodies", "midi_folder", "mnist", "moons",
    "mu_law_decode", "mu_law_encode", "nottingham", "picture_folder", "ptb", "python_docs", "read_midi", "read_picture",
    "read_pictures", "read_wav", "ring", "ring_centres", "stacked_mnist", "swiss_roll", "text_file", "tinyshakespeare", "tunes",
    "vowels", "wav_folder", "write_csv", "write_midi", "write_wav",
]
