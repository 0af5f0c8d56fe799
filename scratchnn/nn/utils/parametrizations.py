"""Weights that are computed from others whenever they are asked for: spectral normalisation, dropout of weights."""

from __future__ import annotations

from scratchnn import ops
from scratchnn.grad_mode import no_grad
from scratchnn.nn.container import ModuleDict, ModuleList
from scratchnn.nn.dropout import Dropout
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import Parameter
from scratchnn.tensor import Tensor


class ParametrizationList(ModuleList):
    """The parameter `original` and the modules that make of it, one after another, the tensor that its owner uses."""

    def __init__(self, original: Parameter, parametrization: Module):
        super().__init__([parametrization])
        self.original = original

    def forward(self) -> Tensor:
        value = self.original
        for module in self:
            value = module(value)
        return value


def _parametrize(module, name, parametrization):
    """Let module.<name> be `parametrization` of what it was, which becomes module.parametrizations.<name>.original.

    The module gets a class of its own, in which <name> is a property, as in torch.nn.utils.parametrize.
    """
    parameter = module._parameters.pop(name)
    if "parametrizations" not in module._modules:
        module.parametrizations = ModuleDict()
    module.parametrizations[name] = ParametrizationList(parameter, parametrization)

    def get(self):
        return self.parametrizations[name]()

    def set_attribute(self, key, value):
        if key == name:
            raise AttributeError(f"{name} is computed from parametrizations.{name}.original, which has to be changed instead")
        kind.__setattr__(self, key, value)

    kind = type(module)
    module.__class__ = type("Parametrized" + kind.__name__.removeprefix("Parametrized"), (kind,),
                            {name: property(get), "__setattr__": set_attribute})


class _SpectralNorm(Module):
    """weight / sigma, where sigma is the largest singular value of weight as a matrix (size of `dim`, product of the others)."""

    def __init__(self, weight, n_power_iterations, dim, eps):
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-weight.ndim}, {weight.ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim % weight.ndim, eps
        if weight.ndim > 1:
            matrix = self._matrix(weight.detach())
            for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
                self.register_buffer(name, ops.normalize(ops.randn(size, dtype=weight.dtype), dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _matrix(self, weight):
        others = [d for d in range(weight.ndim) if d != self.dim]
        return weight.permute(self.dim, *others).flatten(1)

    @no_grad()
    def _iterate(self, matrix, times):
        """Move u and v towards the first singular vectors."""
        for _ in range(times):
            self._u.copy_(ops.normalize(matrix @ self._v, dim=0, eps=self.eps))
            self._v.copy_(ops.normalize(matrix.mT @ self._u, dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return ops.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()                # a gradient may still need them when they have moved on
        return weight / (u @ (matrix @ v))


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Divide a layer's weight by its largest singular value sigma, so that the layer stretches no input (Miyato et al. 2018, "Spectral
    normalization for generative adversarial networks", algorithm 1). Returns the module.

    The weight is seen as a matrix (size of `dim`, product of the others); `dim` is 0, or 1 for transposed convolutions, unless given.
    sigma = u^T W v with vectors u and v that, in training, n_power_iterations steps of the power method bring nearer to the singular
    ones every time that the weight is asked for; gradients reach W through sigma too, with u and v as constants. Norms are taken as
    at least eps. A vector is divided by its norm.

    In the state_dict <name> becomes parametrizations.<name>.original, parametrizations.<name>.0._u and ._v, as in PyTorch.
    Raises ValueError if the module has no such parameter or n_power_iterations is below 1, IndexError for a `dim` that is not there.
    """
    weight = module._parameters.get(name)
    if weight is None:
        raise ValueError(f"Module '{module}' has no parameter with name '{name}', only {list(module._parameters)}")
    if dim is None:
        dim = int(any(kind.__name__.startswith("ConvTranspose") for kind in type(module).__mro__))
    _parametrize(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module


def weight_drop(module: Module, names: str | list[str] = "weight_hh_l0", p: float = 0.5) -> Module:
    """Apply dropout to weights themselves, anew for every sequence: DropConnect on the recurrent weights of an LSTM (Merity et al. 2018,
    "Regularizing and optimizing LSTM language models", section 2). Returns the module.

    In evaluation the weights are what they are. In the state_dict each becomes parametrizations.<name>.original.
    Raises ValueError if the module has no such parameter. torch has no such function.
    """
    for name in [names] if isinstance(names, str) else names:
        if module._parameters.get(name) is None:
            raise ValueError(f"weight_drop: {type(module).__name__} has no parameter {name!r}, only {list(module._parameters)}")
        _parametrize(module, name, Dropout(p))
    return module
