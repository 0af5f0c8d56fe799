"""The backward pass: how gradients travel from a result to what it was computed from.

Every operation (scratchnn/op.py) that meets a Tensor with requires_grad leaves a node behind: where its inputs came from and what
its derivative needs. Nodes are numbered as they are made, so an operation always has a higher number than those that made
its inputs. Going through the nodes by falling number therefore meets each one after all of its users: that is the whole of
back-propagation, and it needs no recursion.
"""

from __future__ import annotations

import heapq

import numpy as np

from scratchnn.grad_mode import enable_grad, no_grad
from scratchnn.tensor import Tensor


def walk(roots, wanted, create_graph, retain_graph):
    """Carry gradients from `roots`, pairs (Tensor, gradient), to the leaves, or to the Tensors in `wanted` if it is not None.

    Returns {(id of the node or leaf, output index): gradient}. A node is forgotten as the walk passes unless `retain_graph`.
    """
    waiting, heap, arrived = {}, [], {}
    needed = None if wanted is None else _nodes_towards(wanted, [tensor for tensor, _ in roots])

    def arrive(target, index, g):
        key = (id(target), index)
        if isinstance(target, Tensor):
            arrived[key] = (target, g if key not in arrived else arrived[key][1] + g)
            return
        if id(target) not in waiting:
            waiting[id(target)] = [None] * target.outputs
            heapq.heappush(heap, (-target.id, target))
        slots = waiting[id(target)]
        slots[index] = g if slots[index] is None else slots[index] + g

    with enable_grad() if create_graph else no_grad():
        for tensor, g in roots:
            arrive(tensor if tensor.grad_fn is None else tensor.grad_fn, tensor.index, g)
        while heap:
            node = heapq.heappop(heap)[1]
            slots = waiting.pop(id(node))
            for index, hooks in (node.hooks or {}).items():
                slots[index] = _hooked(hooks, slots[index])
            for index, tensor in (node.retained or {}).items():
                g = slots[index]
                if g is not None:
                    tensor.grad = Tensor(g.array.copy()) if tensor.grad is None else Tensor(tensor.grad.array + g.array)
            if wanted is not None:
                arrived.update({(id(node), i): (node, g) for i, g in enumerate(slots) if (id(node), i) in wanted})
            edges = node.edges if needed is None else [e for e in node.edges if id(e[0]) in needed]
            for target, index, g in node.backward(slots[0] if node.outputs == 1 else tuple(slots), edges) if edges else ():
                arrive(target, index, g)
            if not retain_graph:
                node.saved = None
        return {key: (t, _hooked(t.hooks, g) if isinstance(t, Tensor) else g) for key, (t, g) in arrived.items()}


def _hooked(hooks, g):
    """The gradient after the user's hooks; each may return another one."""
    for hook in list(hooks.values()) if hooks and g is not None else ():
        changed = hook(g)
        if changed is not None and (not isinstance(changed, Tensor) or changed.shape != g.shape):
            raise RuntimeError(f"a hook must return None or a Tensor of the gradient's shape {g.shape}, not "
                               f"{changed.shape if isinstance(changed, Tensor) else type(changed).__name__}")
        g = g if changed is None else changed
    return g


def _nodes_towards(wanted, roots):
    """ids of the nodes and leaves from which, going backwards, one of `wanted` is reached: {(id, index)} -> {id}."""
    nodes, stack = {}, [t.grad_fn for t in roots if t.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node.id not in nodes:
            nodes[node.id] = node
            stack.extend(target for target, *_ in node.edges if not isinstance(target, Tensor))
    towards = {key for key, _ in wanted}
    for _, node in sorted(nodes.items()):
        if any(id(target) in towards for target, *_ in node.edges):
            towards.add(id(node))
    return towards


def first_gradients(outputs, gradients):
    """One gradient for each output: the given one, or 1 for an output of a single element."""
    roots = []
    for output, g in zip(outputs, gradients, strict=True):
        if not output.requires_grad:
            raise RuntimeError("the tensor to go back from has no history: none of what it was computed from requires a gradient")
        if g is None:
            if output.array.size != 1:
                raise RuntimeError(f"a gradient can be left out only for a tensor of one element, not of shape {output.shape}; "
                                   "reduce it (.sum(), .mean()) or pass gradient=")
            g = Tensor(np.ones_like(output.array))
        elif not isinstance(g, Tensor):
            raise TypeError(f"the gradient must be a Tensor, not {type(g).__name__}")
        elif g.shape != output.shape:
            raise RuntimeError(f"the gradient has shape {g.shape}, but the tensor {output.shape}; they must be equal")
        roots.append((output, g.to(output.dtype)))
    return roots


def grad(outputs, inputs, grad_outputs=None, retain_graph: bool | None = None, create_graph: bool = False,
         allow_unused: bool = False) -> tuple[Tensor | None, ...]:
    """Gradients of the sum of `outputs` with respect to `inputs`, returned and not stored in .grad.

    outputs, inputs   a Tensor or a sequence of them
    grad_outputs      the gradient that arrives at each output; 1 for outputs of one element
    create_graph      the gradients can be differentiated again
    allow_unused      an input that the outputs do not depend on gives None instead of a RuntimeError
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs or [None] * len(outputs))
    for x in inputs:
        if not x.requires_grad:
            raise RuntimeError(f"grad(): an input of shape {x.shape} does not require a gradient; call requires_grad_() on it first")
    keys = [(id(x if x.grad_fn is None else x.grad_fn), x.index) for x in inputs]
    arrived = walk(first_gradients(outputs, given), set(keys), create_graph, create_graph if retain_graph is None else retain_graph)
    if not allow_unused and any(key not in arrived for key in keys):
        unused = [i for i, key in enumerate(keys) if key not in arrived]
        raise RuntimeError(f"grad(): the outputs do not depend on the inputs numbered {unused}; allow_unused=True gives None for them")
    return tuple([arrived[key][1] if key in arrived else None for key in keys])
