"""Checkpoints and weights: one safetensors file each, written whole or not at all. Pickle is neither read nor written.

A checkpoint holds any nesting of dicts, lists, tuples, numbers, strings, None, Tensors and arrays. Its arrays are the tensors of
the file; everything else is JSON in the file's metadata, beside a format version and a checksum of it all. Python writes a
float as the shortest text that reads back as the same number, so what is loaded equals bit for bit what was saved.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from scratchnn.data.files import writing
from scratchnn.device import on_host
from scratchnn.nn.module import Module
from scratchnn.tensor import Tensor

FORMAT = "scratchnn checkpoint"
VERSION = "1"
DTYPES = {np.dtype(name) for name in ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
                                      "float16", "float32", "float64")}


class CheckpointError(ValueError):
    """A file that cannot be loaded. The message names the file and what is wrong with it."""


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write `state` to one file. Whatever happens meanwhile, `path` holds either the old or the new content, whole.

    Raises TypeError that names the place in `state` of a value that is none of the kinds that a checkpoint can hold.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_pack(state, "", arrays))
    metadata = {"format": FORMAT, "version": VERSION, "sha256": _digest(text, arrays), "state": text}
    write_atomically(path, to_bytes(arrays, metadata))


def load(path: str | Path) -> dict[str, Any]:
    """What `save` was given: Tensors as Tensors, arrays as arrays. Raises CheckpointError, FileNotFoundError."""
    arrays, metadata = _read(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but no checkpoint of scratchnn; plain weights are read by load_weights")
    if metadata.get("version") != VERSION:
        raise CheckpointError(f"{path}: checkpoint format {metadata.get('version')!r}; this version of scratchnn reads {VERSION!r}")
    text = metadata.get("state", "")
    if metadata.get("sha256") != _digest(text, arrays):
        raise CheckpointError(f"{path}: corrupt: its content does not have the checksum that was written with it")
    try:
        return _unpack(json.loads(text), arrays)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description of the state makes no sense: {error!r}") from None


def save_weights(path: str | Path, state_dict: Mapping[str, Tensor | np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write a module's state_dict() as a plain .safetensors file, which PyTorch reads too (safetensors.torch.load_file), with texts of
    any kind beside them."""
    write_atomically(path, to_bytes({name: _as_array(value, name) for name, value in state_dict.items()}, metadata))


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """The Tensors of a .safetensors file by name, for load_state_dict(). Raises CheckpointError, FileNotFoundError."""
    return {name: Tensor(array) for name, array in _read(path)[0].items()}


def load_metadata(path: str | Path) -> dict[str, str]:
    """The texts that `save_weights` wrote beside the weights. Raises CheckpointError, FileNotFoundError."""
    return _read(path)[1]


def save_model(path: str | Path, kind: str, model: Module, about: Mapping[str, Any]) -> None:
    """Write a model's weights, and beside them what `load_model` makes the model of: values that JSON can hold."""
    save_weights(path, model.state_dict(), {kind: json.dumps(about)})


def load_model(path: str | Path, kind: str, build: Callable[[dict[str, Any]], Module],
               result: Callable[[Module, dict[str, Any]], Any]) -> Any:
    """What `result` makes of the model and of what was written about it, in a file that `save_model` wrote under the same kind; `build`
    makes a model of the latter, which gets the weights. Raises CheckpointError, FileNotFoundError."""
    weights, metadata = load_weights(path), load_metadata(path)
    try:
        about = json.loads(metadata[kind])
        model = build(about)
        model.load_state_dict(weights)
        return result(model, about)
    except KeyError:
        raise CheckpointError(f"{path}: weights, but without the description of a {kind} that was saved here") from None
    except (AttributeError, TypeError, ValueError, RuntimeError) as fault:
        raise CheckpointError(f"{path}: its weights do not fit its description: {fault}") from None


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file such that, even after a crash or a power cut, `path` has either its old content or all of the new.

    The content goes to a temporary file beside it, is forced to the disk, and then takes over the name in one step.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":                       # the new name is durable once the folder is; Windows has no such call
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _as_array(value, place):
    """The values in rows one after the other and in native byte order: safetensors writes memory as it lies, so that a
    transposed view would come back scrambled."""
    array = on_host(value)
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    if array.dtype not in DTYPES:
        raise TypeError(f"cannot save {place}: dtype {array.dtype} has no place in a safetensors file")
    return array


def _read(path):
    """(arrays by name, metadata) of a safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}   # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated, corrupt or not a safetensors file: {error}") from None
    except TypeError as error:
        raise CheckpointError(f"{path}: holds a kind of number that NumPy does not have: {error}; convert it to float32") from None


def _digest(text, arrays):
    """SHA-256 over everything that a checkpoint says, as hexadecimal text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].reshape(-1).view(np.uint8))
    return digest.hexdigest()


# ---- nested values as JSON: what JSON does not have becomes {"$kind": content} -----------------------------------------

def _pack(value, place, arrays):
    """The JSON form of `value`; its arrays go to `arrays` under their place ("model.0.weight")."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (Tensor, np.ndarray)):
        while place in arrays:                   # {"a": {"b": ...}, "a.b": ...} name two places alike
            place += "'"
        arrays[place] = _as_array(value, place)
        return {"$tensor" if isinstance(value, Tensor) else "$array": place}
    if isinstance(value, (list, tuple)):
        items = [_pack(v, f"{place}[{i}]", arrays) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        items = [[k, _pack(v, f"{place}.{k}" if place else str(k), arrays)] for k, v in value.items()]
        plain = all(isinstance(k, str) and not k.startswith("$") for k, _ in items)
        return dict(items) if plain else {"$dict": items}
    raise TypeError(f"cannot save {place or 'the state'}: a {type(value).__name__} is none of dict, list, tuple, int, float, str, "
                    "None, Tensor, array")


def _unpack(value, arrays):
    """The inverse of _pack."""
    if isinstance(value, list):
        return [_unpack(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    if not kind.startswith("$"):
        return {k: _unpack(v, arrays) for k, v in value.items()}
    content = value[kind]
    if kind == "$tuple":
        return tuple(_unpack(content, arrays))
    if kind == "$dict":
        return {k: _unpack(v, arrays) for k, v in content}
    return Tensor(arrays[content]) if kind == "$tensor" else arrays[content]
