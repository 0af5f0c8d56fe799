"""Modules and containers, without PyTorch: registration, conversion, saving, hooks, printing."""

import copy

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn

# ---- Module: registration and walking -----------------------------------------------------------------------------------


class Block(nn.Module):
    """A parameter, two kinds of buffer and a part."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(snn.ones(3))
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mean", snn.zeros(3))
        self.register_buffer("scratch", snn.zeros(3), persistent=False)
        self.note = "plain"

    def forward(self, x):
        return self.layer((x - self.mean) * self.scale)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.again = self.first
        self.last = nn.Linear(2, 1, bias=False)

    def forward(self, x):
        return self.last(self.first(x))


def test_names_are_dotted_and_each_object_comes_once():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["first.scale", "first.layer.weight", "first.layer.bias", "last.weight"]
    assert [n for n, _ in net.named_buffers()] == ["first.mean", "first.scratch"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "first.layer", "last"]
    assert [n for n, _ in net.named_children()] == ["first", "last"]
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == []
    assert len(list(net.named_parameters(remove_duplicate=False))) == 7
    assert list(net.children()) == [net.first, net.last] and list(net.modules())[2] is net.first.layer
    assert len(list(net.parameters())) == 4 and len(list(net.buffers())) == 2


def test_state_dict_has_every_name_and_shares_memory():
    net = Net()
    state = net.state_dict()
    assert list(state) == ["first.scale", "first.mean", "first.layer.weight", "first.layer.bias", "again.scale", "again.mean",
                           "again.layer.weight", "again.layer.bias", "last.weight"]
    assert state["last.weight"].array is net.last.weight.array and not state["last.weight"].requires_grad


def test_assignment_moves_between_the_registries():
    block = Block()
    block.note = nn.Parameter(snn.zeros(1))
    assert "note" not in block.__dict__ and [n for n, _ in block.named_parameters(recurse=False)] == ["scale", "note"]
    block.mean = nn.Parameter(snn.ones(3))
    assert [n for n, _ in block.named_buffers()] == ["scratch"] and "mean" in dict(block.named_parameters())
    block.scale = nn.Linear(1, 1)
    assert "scale" not in dict(block.named_parameters()) and block.scale is dict(block.named_children())["scale"]
    block.scratch = snn.ones(3)
    assert block.scratch.tolist() == [1, 1, 1] and "scratch" not in block.state_dict()


def test_reassigning_a_parameter_keeps_its_place():
    block = Block()
    block.layer.weight = nn.Parameter(snn.zeros(2, 3))
    assert [n for n, _ in block.named_parameters()] == ["scale", "layer.weight", "layer.bias"]


def test_none_takes_a_parameter_out_of_use():
    block = Block()
    block.layer.bias = None
    assert block.layer.bias is None and "layer.bias" not in block.state_dict()
    assert block(snn.ones(4, 3)).shape == (4, 2)


@pytest.mark.parametrize("name, value, words", [
    ("scale", 3.0, "cannot assign a float to 'scale', which is a Parameter"),
    ("scale", snn.ones(3), "cannot assign a Tensor to 'scale', which is a Parameter"),
    ("mean", 1, "cannot assign a int to 'mean', which is a Tensor"),
    ("layer", len, "which is a Module"),
])
def test_assigning_another_kind_is_an_error(name, value, words):
    with pytest.raises(TypeError, match=words):
        setattr(Block(), name, value)


def test_deleting_attributes():
    block = Block()
    del block.scale, block.layer, block.mean, block.note
    assert not list(block.parameters()) and not list(block.children()) and [n for n, _ in block.named_buffers()] == ["scratch"]
    for name in ("scale", "layer", "mean", "note"):
        with pytest.raises(AttributeError, match=name):
            getattr(block, name)
    with pytest.raises(AttributeError):
        del block.scale


def test_super_init_must_come_first():
    class Early(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"'layer' before Early.__init__\(\) called super"):
        Early()


def test_a_missing_attribute_or_forward_is_named():
    with pytest.raises(AttributeError, match="'Block' object has no attribute 'wieght'"):
        Block().wieght  # noqa: B018
    with pytest.raises(AttributeError, match="'ModuleList' object has no attribute 'forward'"):
        nn.ModuleList([nn.ReLU()])(snn.ones(1))


@pytest.mark.parametrize("name", ["", "a.b", "forward", 3])
def test_names_that_cannot_be_registered(name):
    block = Block()
    for register, value in ((block.register_buffer, snn.ones(1)), (block.register_parameter, nn.Parameter(snn.ones(1))),
                            (block.add_module, nn.ReLU())):
        with pytest.raises(KeyError):
            register(name, value)


def test_only_the_right_kind_can_be_registered():
    block = Block()
    with pytest.raises(TypeError, match=r"make it an nn.Parameter"):
        block.register_parameter("p", snn.ones(1))
    with pytest.raises(TypeError, match="make it a Tensor"):
        block.register_buffer("b", np.ones(1))
    with pytest.raises(TypeError, match="not a Module"):
        block.add_module("m", len)
    with pytest.raises(TypeError, match="not list"):
        nn.Parameter([1.0])


def test_registering_again_replaces_a_buffer():
    block = Block()
    block.register_buffer("scratch", snn.ones(2))
    assert block.state_dict()["scratch"].shape == (2,)


def test_get_submodule_and_dir():
    net = Net()
    assert net.get_submodule("first.layer") is net.first.layer and net.get_submodule("") is net
    with pytest.raises(AttributeError, match=r"no part 'second'.*\['first', 'again', 'last'\]"):
        net.get_submodule("second.layer")
    assert {"first", "forward", "training"} <= set(dir(net)) and {"scale", "mean", "layer"} <= set(dir(net.first))


def test_integer_parameters_are_refused_unless_frozen():
    with pytest.raises(RuntimeError, match="floating-point"):
        nn.Parameter(snn.tensor([1, 2]))
    assert not nn.Parameter(snn.tensor([1, 2]), requires_grad=False).requires_grad


# ---- Module: changing all parts ------------------------------------------------------------------------------------------

def test_train_and_eval_reach_all_parts():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    net.first.train()
    assert net.first.layer.training and not net.last.training
    with pytest.raises(ValueError, match="boolean"):
        net.train("yes")


def test_apply_goes_inside_out():
    seen = []
    net = Net()
    assert net.apply(seen.append) is net
    assert seen == [net.first.layer, net.first, net.last, net]


def test_requires_grad_and_zero_grad():
    net = Net()
    net(snn.ones(4, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(p.grad.abs().sum().item() == 0 for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net and not any(p.requires_grad for p in net.parameters())
    assert not net(snn.ones(4, 3)).requires_grad


def test_conversion_keeps_the_objects():
    block = Block()
    block.register_buffer("count", snn.tensor(3))
    block(snn.ones(1, 3)).sum().backward()
    before = list(block.parameters())
    assert block.double() is block
    assert all(a is b for a, b in zip(before, block.parameters(), strict=True))
    assert all(p.dtype == np.float64 and p.grad.dtype == np.float64 for p in block.parameters())
    assert block.mean.dtype == np.float64 and block.count.dtype == np.int64
    assert block.float().scale.dtype == np.float32
    assert block.to("cpu", snn.float64).scale.dtype == np.float64
    assert block.to(snn.ones(1)).scale.dtype == np.float32
    assert block.to(device="cpu", dtype=snn.float64).mean.dtype == np.float64


def test_conversions_that_cannot_be():
    with pytest.raises(TypeError, match="floating-point dtypes, got int64"):
        Block().to(snn.int64)
    with pytest.raises(RuntimeError, match="cuda"):
        Block().to("cuda")
    with pytest.raises(ValueError, match="tpu"):
        Block().to("tpu")


def test_deepcopy_is_independent_and_keeps_ties():
    net = Net()
    net.last.weight.grad = snn.ones(1, 2)
    other = copy.deepcopy(net)
    assert other.again is other.first and isinstance(other.last.weight, nn.Parameter)
    assert np.array_equal(other.last.weight.grad.array, [[1, 1]])
    other.first.scale.array[...] = 7
    other.first.register_buffer("mean", None)
    assert net.first.scale.tolist() == [1, 1, 1] and net.first.mean is not None
    assert np.array_equal(net.last.weight.array, other.last.weight.array)


# ---- Module: saving and loading ------------------------------------------------------------------------------------------

def test_loading_copies_into_the_same_arrays():
    source, target = Net(), Net()
    arrays = [p.array for p in target.parameters()]
    keys = target.load_state_dict(source.state_dict())
    assert keys.missing_keys == [] and keys.unexpected_keys == []
    for a, p, q in zip(arrays, target.parameters(), source.parameters(), strict=True):
        assert p.array is a and p.array is not q.array and np.array_equal(p.array, q.array)


def test_loading_takes_arrays_of_any_layout_and_dtype():
    layer = nn.Linear(3, 2)
    weight = np.arange(6.0).reshape(3, 2).T
    layer.load_state_dict({"weight": weight, "bias": np.array([1, 2])[::-1]})
    assert layer.weight.tolist() == [[0, 2, 4], [1, 3, 5]] and layer.bias.tolist() == [2, 1]
    assert layer.weight.dtype == np.float32


def test_a_strict_load_lists_every_fault_and_changes_nothing():
    net = Net()
    before = [p.array.copy() for p in net.parameters()]
    state = {k: np.full(v.shape, 9.0) for k, v in net.state_dict().items()}
    del state["again.mean"]
    state["first.layer.weight"] = np.zeros((2, 4))
    state["first.layer.bias"] = "words"
    state["stray"] = np.zeros(1)
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(state)
    text = str(error.value)
    for part in ("for Net", "nothing was loaded", "Missing key(s) in state_dict: 'again.mean'",
                 "Unexpected key(s) in state_dict: 'stray'", "first.layer.bias: got a str",
                 "size mismatch for first.layer.weight: the shape in state_dict is (2, 4), in this model (2, 3)"):
        assert part in text
    assert all(np.array_equal(a, p.array) for a, p in zip(before, net.parameters(), strict=True))


def test_a_lenient_load_reports_but_still_refuses_wrong_shapes():
    layer = nn.Linear(2, 1)
    keys = layer.load_state_dict({"bias": np.array([5.0]), "extra": 1}, strict=False)
    assert keys.missing_keys == ["weight"] and keys.unexpected_keys == ["extra"] and layer.bias.item() == 5
    with pytest.raises(RuntimeError, match="size mismatch for bias"):
        layer.load_state_dict({"bias": np.zeros(2)}, strict=False)
    with pytest.raises(TypeError, match="got list"):
        layer.load_state_dict([1, 2])


def test_loading_in_the_middle_of_a_graph_is_noticed():
    layer = nn.Linear(2, 1)
    y = layer(snn.ones(1, 2).requires_grad_()).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="in place"):
        y.backward()


# ---- Module: hooks and printing ------------------------------------------------------------------------------------------

def test_hooks_see_and_change_inputs_and_outputs():
    layer, seen = nn.Identity(), []
    first = layer.register_forward_pre_hook(lambda module, args: (seen.append(args), args[0] * 2)[1])
    second = layer.register_forward_hook(lambda module, args, out: (seen.append((args, out)), None)[1])
    third = layer.register_forward_hook(lambda module, args, out: out + 1)
    x = snn.ones(2)
    assert layer(x).tolist() == [3, 3]
    assert seen[0][0] is x and seen[1][0][0].tolist() == [2, 2] and seen[1][1].tolist() == [2, 2]
    first.remove()
    third.remove()
    third.remove()
    assert layer(x).tolist() == [1, 1] and len(seen) == 3
    second.remove()
    assert layer(x) is x and len(seen) == 3


def test_a_hook_ends_with_its_block_and_several_can_be_removed_in_any_order():
    layer, seen = nn.ReLU(), []
    with layer.register_forward_hook(lambda *a: seen.append("a")), layer.register_forward_hook(lambda *a: seen.append("b")) as b:
        layer(snn.ones(1))
        b.remove()
        layer(snn.ones(1))
    layer(snn.ones(1))
    assert seen == ["a", "b", "a"]


def test_printing_nests():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Dropout(0.1)), nn.Linear(3, 1, bias=False))
    assert repr(net) == """Sequential(
  (0): Linear(in_features=2, out_features=3, bias=True)
  (1): Sequential(
    (0): ReLU()
    (1): Dropout(p=0.1)
  )
  (2): Linear(in_features=3, out_features=1, bias=False)
)"""
    assert repr(nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()])) == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n)"
    assert repr(nn.Parameter(snn.ones(1))).startswith("Parameter containing:\ntensor([1.]")
    assert repr(nn.ParameterList([snn.ones(2)])) == "ParameterList(\n  (0): Parameter of shape (2,), float32\n)"


# ---- containers ----------------------------------------------------------------------------------------------------------

def test_sequential_runs_in_order_and_slices():
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    net = nn.Sequential(a, b, c)
    x = snn.randn(5, 2)
    assert np.array_equal(net(x).array, c(b(a(x))).array)
    assert len(net) == 3 and list(net) == [a, b, c] and net[-1] is c and list(net[1:]) == [b, c]
    assert list(net[1:].state_dict()) == ["2.weight", "2.bias"]
    assert np.array_equal(net[:2](x).array, b(a(x)).array)
    named = nn.Sequential({"enter": a, "leave": c})
    assert named.enter is a and list(named.state_dict()) == ["enter.weight", "enter.bias", "leave.weight", "leave.bias"]


@pytest.mark.parametrize("make", [lambda *m: nn.Sequential(*m), lambda *m: nn.ModuleList(m)], ids=["Sequential", "ModuleList"])
def test_lists_of_modules_change_like_lists(make):
    a, b, c, d = (nn.ReLU() for _ in range(4))
    net = make(a, b)
    assert net.append(c) is net and list(net) == [a, b, c]
    net.insert(1, d)
    assert list(net) == [a, d, b, c] and [n for n, _ in net.named_children()] == ["0", "1", "2", "3"]
    net[-1] = nn.Identity()
    assert isinstance(net[3], nn.Identity) and len(net) == 4
    del net[0]
    assert list(net)[:2] == [d, b] and [n for n, _ in net.named_children()] == ["0", "1", "2"]
    del net[1:]
    assert list(net) == [d] and net.pop() is d and len(net) == 0
    net += [a]
    assert list(net + nn.ModuleList([b, c])) == [a, b, c] and list(net.extend(net)) == [a, a]
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"index {index} is out of range for a {type(net).__name__} of 2"):
            net[index]
        with pytest.raises(IndexError):
            del net[index]
        with pytest.raises(IndexError):
            net[index] = a
    with pytest.raises(TypeError, match="not a Module"):
        net.append("layer")


def test_module_dict():
    a, b = nn.Linear(1, 1), nn.ReLU()
    parts = nn.ModuleDict({"a": a})
    parts["b"] = b
    assert parts["a"] is a and "b" in parts and len(parts) == 2 and list(parts) == ["a", "b"] == list(parts.keys())
    assert list(parts.values()) == [a, b] and list(parts.items()) == [("a", a), ("b", b)]
    assert list(parts.state_dict()) == ["a.weight", "a.bias"]
    parts.update([("c", b)])
    parts.update(nn.ModuleDict({"a": b}))
    assert parts["c"] is b and parts.pop("a") is b and list(parts) == ["b", "c"]
    del parts["c"]
    parts.clear()
    assert len(parts) == 0
    with pytest.raises(KeyError):
        parts["a"]


def test_parameter_list():
    p = nn.Parameter(snn.ones(2))
    values = nn.ParameterList([p, snn.zeros(3)])
    assert values[0] is p and isinstance(values[1], nn.Parameter) and values[-1] is values[1] and len(values) == 2
    values.append(snn.ones(1)).extend([p])
    values[1] = snn.ones(4)
    assert [v.shape for v in values] == [(2,), (4,), (1,), (2,)] and list(values.state_dict()) == ["0", "1", "2", "3"]
    assert len(list(values.parameters())) == 3 and values[1:3][0] is values[1]
    with pytest.raises(IndexError, match="ParameterList of 4"):
        values[4]
