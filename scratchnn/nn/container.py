"""Containers: Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scratchnn.nn.fusion import run_fused
from scratchnn.nn.module import Module, framed
from scratchnn.nn.parameter import Parameter
from scratchnn.tensor import Tensor


def _position(index: int, length: int, what: Any) -> int:
    """A list index from 0 on; IndexError outside of -length .. length - 1."""
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for a {type(what).__name__} of {length}")
    return index % length


class _ListOfModules(Module):
    """Modules in order, under the names "0", "1", ...: what Sequential and ModuleList share."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def _name(self, index):
        return list(self._modules)[_position(index, len(self), self)]

    def _replace(self, modules):
        """Hold these modules, numbered anew."""
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        if not isinstance(index, slice):
            _position(index, len(self), self)
        del modules[index]
        self._replace(modules)

    def append(self, module: Module) -> _ListOfModules:
        """Add a module at the end. Returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> _ListOfModules:
        """Add modules at the end. Returns self."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> _ListOfModules:
        """Add a module before position `index`. Returns self."""
        modules = list(self)
        modules.insert(index, module)
        self._replace(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove and return the module at `index`."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules: Iterable[Module]) -> _ListOfModules:
        return self.extend(modules)

    def __add__(self, modules: Iterable[Module]) -> _ListOfModules:
        joined = type(self)()
        return joined.extend(self).extend(modules)


class Sequential(_ListOfModules):
    """Applies modules one after another: Sequential(first, second, ...), or Sequential({"name": module, ...}).

    Counts, slices and changes like a list. A slice keeps its modules' names. Neighbours such as BatchNorm2d and ReLU are computed as one
    (fusion.py), with the same results and gradients.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else {str(i): m for i, m in enumerate(modules)}
        for name, module in named.items():
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        return run_fused(list(self), input)


class ModuleList(_ListOfModules):
    """A list of modules whose parameters count as the owner's. It has no forward: the owner decides what to do with them."""

    def __init__(self, modules: Iterable[Module] | Mapping[str, Module] = ()):
        super().__init__()
        self.extend(modules.values() if isinstance(modules, Mapping) else modules)

    def __repr__(self) -> str:
        """As PyTorch prints it: equal neighbours in one line."""
        runs = []                                            # [first index, last index, text]
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        parts = [f"({a}): {text}" if a == b else f"({a}-{b}): {b - a + 1} x {text}" for a, b, text in runs]
        return framed(type(self).__name__, [], [part.replace("\n", "\n  ") for part in parts])


class ModuleDict(Module):
    """A dict of modules whose parameters count as the owner's: ModuleDict({"name": module, ...})."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        super().__init__()
        self.update(modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Pairs of name and module."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules by name."""
        for key, module in dict(modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules).items():
            self.add_module(key, module)

    def pop(self, key: str) -> Module:
        """Remove and return the module of this name."""
        return self._modules.pop(key)

    def clear(self) -> None:
        """Remove all."""
        self._modules.clear()


class ParameterList(Module):
    """A list of parameters that count as the owner's; a Tensor that is none is made one."""

    def __init__(self, values: Iterable[Tensor] = ()):
        super().__init__()
        self.extend(values)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(list(self)[index])
        return self._parameters[str(_position(index, len(self), self))]

    def __setitem__(self, index: int, value: Tensor) -> None:
        self.register_parameter(str(_position(index, len(self), self)), value if isinstance(value, Parameter) else Parameter(value))

    def append(self, value: Tensor) -> ParameterList:
        """Add a parameter at the end. Returns self."""
        self.register_parameter(str(len(self)), value if isinstance(value, Parameter) else Parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> ParameterList:
        """Add parameters at the end. Returns self."""
        for value in list(values):
            self.append(value)
        return self

    def __repr__(self) -> str:
        return framed(type(self).__name__, [], [f"({i}): Parameter of shape {p.shape}, {p.dtype}" for i, p in enumerate(self)])
