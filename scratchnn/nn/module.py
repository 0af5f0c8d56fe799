"""Module: what layers and whole networks are made of.

A Module keeps three dicts: `_parameters` (trained), `_buffers` (saved, not trained) and `_modules` (its parts). Assigning a
Parameter or a Module to an attribute enters it there; everything else follows from walking through them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from scratchnn.device import Device, moved, on_host
from scratchnn.hooks import RemovableHandle
from scratchnn.nn.parameter import Parameter
from scratchnn.tensor import Tensor

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])


class Module:
    """Base of all layers and networks. A subclass calls super().__init__(), assigns its parts, and defines forward().

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden, self.out = nn.Linear(784, 100), nn.Linear(100, 10)

            def forward(self, x):                              # (N, 784) -> (N, 10)
                return self.out(self.hidden(x).relu())

    Call the module, not forward(), so that hooks run.
    """

    forward: Callable[..., Any]
    training: bool

    def __init__(self):
        registries = ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks")
        self.__dict__.update({name: {} for name in registries}, _non_persistent=set(), training=True)

    def __call__(self, *args, **kwargs):
        for hook in list(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            changed = hook(self, args, result)
            if changed is not None:
                result = changed
        return result

    def register_forward_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call hook(module, args) before forward; what it returns, unless None, replaces the positional arguments."""
        handle = RemovableHandle(self._forward_pre_hooks)
        self._forward_pre_hooks[handle.id] = hook
        return handle

    def register_forward_hook(self, hook: Callable) -> RemovableHandle:
        """Call hook(module, args, output) after forward; what it returns, unless None, replaces the output."""
        handle = RemovableHandle(self._forward_hooks)
        self._forward_hooks[handle.id] = hook
        return handle

    # ---- attributes --------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        parameters, modules, buffers = (self.__dict__.get(r) for r in ("_parameters", "_modules", "_buffers"))
        if isinstance(value, (Parameter, Module)):
            if parameters is None:
                raise AttributeError(f"cannot assign {name!r} before {type(self).__name__}.__init__() called super().__init__()")
            own = parameters if isinstance(value, Parameter) else modules
            self._forget(name, but=own)
            own[name] = value
            return
        for registry, kind in ((parameters, Parameter), (modules, Module), (buffers, Tensor)):
            if registry and name in registry:
                if value is not None and not isinstance(value, kind):
                    raise TypeError(f"cannot assign a {type(value).__name__} to {name!r}, which is a {kind.__name__} of "
                                    f"{type(self).__name__} ({kind.__name__} or None expected; del it first)")
                registry[name] = value
                return
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        for registry in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(registry, {})
            if name in entries:
                return entries[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if self._is_registered(name):
            self._forget(name)
        else:
            object.__delattr__(self, name)

    def _is_registered(self, name):
        return name in self._parameters or name in self._buffers or name in self._modules

    def _forget(self, name, but=None):
        """Take a name out of wherever it is, except out of the registry `but`, where its place in the order matters."""
        self._non_persistent.discard(name)
        for entries in (self.__dict__, self._parameters, self._buffers, self._modules):
            if entries is not but:
                entries.pop(name, None)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _new_name(self, name, kind):
        """Raise unless `name` can be given to a new parameter, buffer or module."""
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"cannot register {name!r} before {type(self).__name__}.__init__() has called super().__init__()")
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"the name of a {kind} must be a string that is not empty and has no dot, got {name!r}")
        if hasattr(self, name) and not self._is_registered(name):
            raise KeyError(f"attribute {name!r} already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Enter a parameter by name; None for one that this module could have but has not (a Linear without bias)."""
        self._new_name(name, "parameter")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot register a {type(param).__name__} as parameter {name!r}; make it an nn.Parameter")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Enter a Tensor that is not trained but moves with the module, and is saved with it if `persistent`."""
        self._new_name(name, "buffer")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot register a {type(tensor).__name__} as buffer {name!r}; make it a Tensor")
        self._buffers[name] = tensor
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Enter a part by name."""
        self._new_name(name, "module")
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module; it cannot be added as {name!r}")
        self._modules[name] = module

    # ---- walking through the parts -----------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module (""), its parts and theirs, parents first; one used twice comes once."""
        seen = set()

        def walk(module, name):
            if remove_duplicate and id(module) in seen:
                return
            seen.add(id(module))
            yield name, module
            for key, child in module._modules.items():
                if child is not None:
                    yield from walk(child, f"{name}.{key}" if name else key)
        return walk(self, prefix)

    def modules(self) -> Iterator[Module]:
        """This module, its parts and theirs."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct parts, each once."""
        seen = {id(None)}
        for name, module in self._modules.items():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct parts."""
        return (module for _, module in self.named_children())

    def get_submodule(self, target: str) -> Module:
        """The part with this dotted name, "" for the module itself; AttributeError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            if module._modules.get(name) is None:
                raise AttributeError(f"{type(module).__name__} has no part {name!r} (of {target!r}), only {list(module._modules)}")
            module = module._modules[name]
        return module

    def _named_tensors(self, registry, prefix, recurse, remove_duplicate):
        """(dotted name, tensor) of everything in one registry of this module and, with recurse, of its parts."""
        seen = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for key, tensor in module.__dict__[registry].items():
                if tensor is not None and not (remove_duplicate and id(tensor) in seen):
                    seen.add(id(tensor))
                    yield f"{path}.{key}" if path else key, tensor

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter); a parameter that is used twice comes once, under its first name."""
        return self._named_tensors("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimiser takes."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer), each once."""
        return self._named_tensors("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    # ---- changing all parts ------------------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call fn on every part, innermost first, and on this module: to initialise weights, for instance. Returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Module:
        """Set `training` here and in all parts, which dropout and normalisation heed. Returns self."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """train(False): behave as in use, not as in training. Returns self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Make all parameters trained, or none of them. Returns self."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with 0 where set_to_none is False."""
        for p in self.parameters():
            if p.grad is not None:
                p.grad = None if set_to_none else Tensor(np.zeros_like(p.grad.array))

    def to(self, *target, device: str | Device | None = None, dtype: Any = None) -> Module:
        """Move parameters and buffers: to("cpu"), to(snn.float64), to("cpu", snn.float64), to(tensor), or by keyword.

        A dtype must be floating-point and reaches only floating-point tensors. The Parameter objects stay, and with them
        what an optimiser holds. Returns self.
        """
        for t in target:
            if isinstance(t, Tensor):
                device, dtype = t.device, t.dtype
            elif isinstance(t, (str, Device)):
                device = t
            else:
                dtype = t
        device = None if device is None else Device(device)
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise TypeError(f"Module.to only accepts floating-point dtypes, got {np.dtype(dtype)}")
        for tensor in [*self.parameters(), *self.buffers()]:
            if device is not None and device.type != tensor.device.type:
                tensor.array = moved(tensor.array, device)
                tensor.bump_version()
                tensor.grad = None if tensor.grad is None else Tensor(moved(tensor.grad.array, device))
            if dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype:
                tensor.array = tensor.array.astype(dtype)
                tensor.bump_version()
                tensor.grad = None if tensor.grad is None else Tensor(tensor.grad.array.astype(dtype))
        return self

    def float(self) -> Module:
        """to(float32)"""
        return self.to(np.float32)

    def double(self) -> Module:
        """to(float64)"""
        return self.to(np.float64)

    # ---- saving and loading ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """{dotted name: Tensor} of all parameters and persistent buffers, without history, in the same memory."""
        state = {}
        for path, module in self.named_modules(remove_duplicate=False):
            persistent = {k: b for k, b in module._buffers.items() if k not in module._non_persistent}
            for key, tensor in (module._parameters | persistent).items():
                if tensor is not None:
                    state[f"{path}.{key}" if path else key] = tensor.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values (Tensors, NumPy arrays or PyTorch's tensors) into the parameters and buffers of the same names.

        Returns (missing_keys, unexpected_keys), which are faults if `strict`. A shape that differs always is one.
        Raises RuntimeError that lists every fault, and then nothing has been loaded.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"expected state_dict to be a dict of names and tensors, got {type(state_dict).__name__}")
        own = self.state_dict()
        missing, unexpected = [k for k in own if k not in state_dict], [k for k in state_dict if k not in own]
        given = {k: on_host(state_dict[k]) for k in own if k in state_dict}
        faults = []
        if strict and unexpected:
            faults.append(f"Unexpected key(s) in state_dict: {', '.join(map(repr, unexpected))}")
        if strict and missing:
            faults.append(f"Missing key(s) in state_dict: {', '.join(map(repr, missing))}")
        for k, a in given.items():
            if a.dtype.kind not in "fiub":
                faults.append(f"{k}: got a {type(state_dict[k]).__name__}, which is no tensor of real numbers")
            elif a.shape != own[k].shape:
                faults.append(f"size mismatch for {k}: the shape in state_dict is {a.shape}, in this model {own[k].shape}")
        if faults:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}, nothing was loaded:\n    "
                               + "\n    ".join(faults))
        for k, a in given.items():
            own[k].array[...] = a
            own[k].bump_version()
        return IncompatibleKeys(missing, unexpected)

    # ---- printing ----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets of this layer when it is printed; subclasses give their settings."""
        return ""

    def __repr__(self) -> str:
        own = self.extra_repr().split("\n") if self.extra_repr() else []
        parts = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        return framed(type(self).__name__, own, parts)


def framed(name: str, settings: list[str], parts: list[str]) -> str:
    """Name(settings) in one line if there are no parts, else one line each, indented."""
    lines = [*settings, *parts]
    if not parts and len(lines) <= 1:
        return f"{name}({''.join(lines)})"
    return f"{name}(\n" + "".join(f"  {line}\n" for line in lines) + ")"
