"""The contract of the graph: what is kept, what is freed, what is detected, how deep it goes."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest

import kernels
import scratchnn as snn
from scratchnn import debug, optim
from scratchnn.op import Op, op, registry
from scratchnn.testing import check_gradients


def leaf(*shape, seed=0, dtype=np.float32):
    return snn.tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


def test_gradients_accumulate_until_they_are_reset():
    x = leaf(3)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.array, [5, 5, 5])
    x.grad = None
    x.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [1, 1, 1])


def test_an_input_that_was_not_reached_has_no_gradient():
    x, unused = leaf(3), leaf(3)
    x.sum().backward()
    assert unused.grad is None
    assert snn.grad(x.sum(), [x, unused], allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match=r"do not depend on the inputs numbered \[1\]"):
        snn.grad(x.sum(), [x, unused])


def test_each_leaf_owns_its_gradient():
    a, b = leaf(3), leaf(3, seed=1)
    (a + b).sum().backward()
    a.grad.zero_()
    np.testing.assert_array_equal(b.grad.array, [1, 1, 1])
    given = snn.ones(3)
    c = leaf(3)
    (c + 0).backward(given)
    given.zero_()
    np.testing.assert_array_equal(c.grad.array, [1, 1, 1])


def test_depth_is_no_limit():
    x = leaf(2)
    y = x
    for _ in range(50_000):
        y = y + 1
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [1, 1])
    before = sys.getrecursionlimit()
    del y
    gc.collect()
    assert sys.getrecursionlimit() == before


def test_a_diamond_is_walked_once_per_node():
    x, calls = leaf(2), []
    y = x
    for _ in range(30):  # 2^30 paths
        y = y + y
    y.register_hook(lambda g: calls.append(1))
    y.sum().backward()
    assert calls == [1] and x.grad.array[0] == 2.0**30


def test_a_derivative_keeps_only_what_it_names():
    def kept(f, *inputs):
        return set(f(*inputs).grad_fn.saved)

    x, w = leaf(3, 4), leaf(5, 4)
    assert kept(snn.sigmoid, x) == {"y"}
    assert kept(snn.exp, x) == {"y"}
    assert kept(snn.neg, x) == set()
    assert kept(snn.sum, x) == {"x_shape", "dim", "keepdim"}
    assert kept(snn.linear, x, w) == {"weight", "x"}
    w.requires_grad_(False)
    assert kept(snn.linear, x, w) == {"weight"}  # a frozen weight does not keep the input
    w.requires_grad_(True)
    assert kept(snn.linear, x.detach(), w) == {"x"}


def test_memory_is_freed_as_the_walk_passes():
    x = leaf(1000)
    middle = x.exp()
    gone = weakref.ref(middle)
    y = (middle * 2).sigmoid()
    del middle
    gc.disable()
    try:
        y.sum().backward()
        assert gone() is None  # by reference counting: there are no cycles
    finally:
        gc.enable()
    assert y.grad_fn.saved is None


def test_a_graph_without_backward_is_freed_by_reference_counting():
    gc.disable()
    try:
        x = leaf(10)
        y = x.exp().sigmoid().softmax(0)
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_a_second_backward_needs_retain_graph():
    x = leaf(3)
    y = x.exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    z = x.exp().sum()
    z.backward(retain_graph=True)
    z.backward()
    np.testing.assert_allclose(x.grad.array, 3 * np.exp(x.array), 1e-6)


def test_only_needed_gradients_are_computed():
    x, w = leaf(4, 3), leaf(2, 3, seed=1)
    loss = snn.linear(x, w).square().sum()
    with debug.timer() as times:
        snn.grad(loss, x)
    assert times.calls["matmul"] == 1  # the weight's gradient would be another
    y = snn.linear(x.detach(), w).sum()
    with debug.timer() as times:
        y.backward()
    assert times.calls["matmul"] == 1


def test_hooks_see_and_change_gradients():
    x, seen = leaf(3), []
    y = x * 2
    handle = y.register_hook(lambda g: seen.append(g.array.copy()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    y.sum().backward()
    np.testing.assert_array_equal(seen[0], [1, 1, 1])
    np.testing.assert_array_equal(x.grad.array, [21, 21, 21])
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 1
    z = x * 3
    z.retain_grad()
    z.sum().backward()
    np.testing.assert_array_equal(z.grad.array, [1, 1, 1])


def test_a_leaf_hook_sees_the_total_once():
    x, seen = leaf(2), []
    x.register_hook(lambda g: seen.append(g.array.tolist()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [[5, 5]]


def test_no_grad_leaves_no_history():
    x = leaf(3)
    with snn.no_grad():
        y = x * 2
        with snn.enable_grad():
            z = x * 2
    assert not y.requires_grad and z.requires_grad and snn.is_grad_enabled()

    @snn.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad and (x * 2).requires_grad
    assert not x.detach().requires_grad and np.shares_memory(x.detach().array, x.array)


def test_changes_in_place_are_detected():
    x = leaf(3)
    y = x * 2
    z = (y * y).sum()
    with snn.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="changed in place 1 time"):
        z.backward()
    result = x.exp()
    total = result.sum()
    with snn.no_grad():
        result.mul_(2)  # exp keeps its result
    with pytest.raises(RuntimeError, match="its result"):
        total.backward()
    row = x * 1
    product = (row * row).sum()
    with snn.no_grad():
        row[0:2].zero_()  # through a view
    with pytest.raises(RuntimeError, match="changed in place"):
        product.backward()


def test_changes_in_place_that_harm_nobody_are_allowed():
    x = leaf(3)
    y = (x * 2).sum()  # keeps no values of x
    with snn.no_grad():
        x.add_(1)
    y.backward()
    np.testing.assert_array_equal(x.grad.array, [2, 2, 2])


def test_changes_in_place_of_what_is_recorded_are_refused():
    x = leaf(3)
    for change in (lambda: x.add_(1), lambda: (x * 2).mul_(2), lambda: x.__setitem__(0, 1.0), lambda: snn.zeros(3).add_(x)):
        with pytest.raises(RuntimeError, match="cannot be changed in place while its gradient is recorded"):
            change()
    free = snn.zeros(3)
    free += 1
    free[1] = 5
    assert free.tolist() == [1, 5, 1]
    with pytest.raises(RuntimeError, match="does not fit into a tensor of shape"):
        snn.zeros(3).add_(snn.ones(2, 3))


def test_second_and_third_derivatives():
    x = leaf(3, dtype=np.float64)
    first = snn.grad((x**3).sum(), x, create_graph=True)[0]
    second = snn.grad(first.sum(), x, create_graph=True)[0]
    third = snn.grad(second.sum(), x)[0]
    np.testing.assert_allclose(first.array, 3 * x.array**2)
    np.testing.assert_allclose(second.array, 6 * x.array)
    np.testing.assert_allclose(third.array, [6, 6, 6])


def test_backward_with_create_graph_gives_differentiable_gradients():
    x = leaf(3, dtype=np.float64)
    x.exp().sum().backward(create_graph=True)
    penalty = (x.grad * x.grad).sum()
    np.testing.assert_allclose(snn.grad(penalty, x)[0].array, 2 * np.exp(2 * x.array))


def test_arrays_numbers_and_tensors_mix():
    x = snn.tensor([1.0, 2.0])
    for y in (np.array([3.0, 4.0], np.float32) * x, x * np.array([3.0, 4.0], np.float32)):
        assert isinstance(y, snn.Tensor) and y.tolist() == [3, 8]
    assert (np.float64(2) * x).dtype == snn.float32 and (x + 1.5).dtype == snn.float32
    assert np.asarray(x).tolist() == [1, 2]
    assert np.from_dlpack(x).tolist() == [1, 2]


def test_tensor_makes_what_torch_makes():
    assert snn.tensor([1.0]).dtype == snn.float32 and snn.tensor([1]).dtype == snn.int64 and snn.tensor([True]).dtype == snn.bool
    assert snn.tensor(np.array([1.0])).dtype == snn.float64
    source = np.ones(2, np.float32)
    assert not np.shares_memory(snn.tensor(source).array, source) and np.shares_memory(snn.from_numpy(source).array, source)
    assert snn.arange(3).tolist() == [0, 1, 2] and snn.arange(0, 1, 0.5).tolist() == [0, 0.5]
    assert snn.full((2,), 3.0).tolist() == [3, 3] and snn.eye(2).tolist() == [[1, 0], [0, 1]]


ERRORS = [
    (lambda: snn.ones(3, 4) + snn.ones(5), ValueError, r"add: shapes \(3, 4\) and \(5,\) do not fit"),
    (lambda: snn.ones(3, 4) @ snn.ones(5, 2), ValueError, r"matmul: \(3, 4\) times \(5, 2\) does not fit"),
    (lambda: snn.linear(snn.ones(3, 4), snn.ones(2, 5)), ValueError, r"does not fit weight \(2, 5\)"),
    (lambda: snn.linear(snn.ones(3, 4, dtype=np.float64), snn.ones(2, 4)), TypeError, "one dtype"),
    (lambda: snn.linear(snn.ones(3, 4), snn.ones(2, 4), snn.ones(1)), ValueError, r"must have shape \(2,\)"),
    (lambda: snn.tensor([1, 2]).add_(0.5), RuntimeError, "does not fit into a tensor of int64"),
    (lambda: snn.ones(3).sum(1), IndexError, "dimension 1 does not exist"),
    (lambda: snn.ones(3).reshape(2, 2), ValueError, "do not fit shape"),
    (lambda: snn.exp([1.0]), TypeError, "must be a Tensor"),
    (lambda: snn.relu([1.0]), TypeError, "must be a Tensor"),
    (lambda: snn.softmax(snn.ones(3), axis=0), TypeError, "does not take the argument 'axis'"),
    (lambda: snn.tensor([1], requires_grad=True), RuntimeError, "only floating-point tensors"),
    (lambda: snn.ones(3).mean(0).backward(), RuntimeError, "has no history"),
    (lambda: leaf(3).exp().backward(), RuntimeError, "reduce it"),
    (lambda: leaf(3).exp().backward(snn.ones(2)), RuntimeError, "must be equal"),
    (lambda: leaf(3).numpy(), RuntimeError, "detach"),
    (lambda: bool(snn.ones(3)), RuntimeError, "neither true nor false"),
    (lambda: snn.ones(3).item(), RuntimeError, "one element"),
    (lambda: snn.ones(2).long().mean(), TypeError, "floating-point"),
    (lambda: snn.cat([snn.ones(2, 3), snn.ones(2, 4)]), ValueError, "do not fit along dimension 0"),
    (lambda: snn.embedding(snn.tensor([5]), snn.ones(3, 2)), IndexError, "5"),
    (lambda: snn.cross_entropy(snn.ones(2, 3), snn.tensor([0, 3])), IndexError, "3"),
    (lambda: snn.cross_entropy(snn.ones(2, 3), snn.tensor([0.0, 1.0])), ValueError, "class numbers"),
    (lambda: snn.ones(3).gather(0, snn.tensor([3])), IndexError, r"outside 0..2"),
    (lambda: snn.ones(3).to("cuda"), RuntimeError, "cuda"),
    (lambda: snn.device("tpu"), ValueError, "choose cpu"),
    (lambda: snn.set_num_threads(0), ValueError, "positive"),
    (lambda: snn.multinomial(snn.tensor([0.0, 0.0]), 1), ValueError, "not all zero"),
    (lambda: snn.dropout(snn.ones(3), 1.5), ValueError, "0..1"),
]


@pytest.mark.parametrize("call, error, message", ERRORS, ids=[str(i) for i in range(len(ERRORS))])
def test_errors_say_what_would_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_kept_gradient_is_not_changed_by_the_next_backward():
    x, kept = leaf(2), []
    x.register_hook(kept.append)
    for _ in range(2):
        (x * 2).sum().backward()
    np.testing.assert_array_equal(kept[0].array, [2, 2])
    np.testing.assert_array_equal(x.grad.array, [4, 4])


def test_create_graph_gradients_are_owned_and_writable():
    a, b = leaf(2), leaf(2)
    ((a + b) * 2).sum().backward(create_graph=True)
    a.grad.detach().zero_()
    np.testing.assert_array_equal(b.grad.array, [2, 2])
    x = leaf(3)
    x.sum().backward(create_graph=True)
    optim.SGD([x], 0.1).step()
    x.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [2, 2, 2])


def test_a_gradient_has_the_dtype_of_its_leaf_and_a_strided_one_grows():
    x = leaf(2, 3)
    (x * 2).backward(snn.ones(2, 3, dtype=np.float64))
    assert x.grad.dtype == snn.float32
    x.grad = snn.ones(3, 2).t()
    x.sum().backward()
    np.testing.assert_array_equal(x.grad.array, np.full((2, 3), 2))


def test_retain_grad_sees_the_gradient_after_hooks_once():
    x = leaf(2)
    y = x * 3
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    y.sum().backward()
    np.testing.assert_array_equal(y.grad.array, [2, 2])
    z = x * 3
    z.register_hook(lambda g: snn.ones(5))
    with pytest.raises(RuntimeError, match=r"gradient's shape \(2,\), not \(5,\)"):
        z.sum().backward()


def test_no_grad_as_a_decorator_is_safe_in_threads():
    inside, leave = threading.Event(), threading.Event()

    @snn.no_grad()
    def wait():
        inside.set()
        leave.wait(5)
        return snn.is_grad_enabled()

    found = []
    thread = threading.Thread(target=lambda: found.extend([wait(), snn.is_grad_enabled()]))
    thread.start()
    inside.wait(5)
    with snn.no_grad():
        leave.set()
        thread.join()
    assert found == [False, True] and snn.is_grad_enabled()


def test_debug_tools_nest():
    with debug.timer() as times, debug.find_nonfinite():
        snn.ones(3) * 2
    assert times.calls == {"mul": 1}


def test_memory_that_may_not_be_written_is_refused():
    p = snn.from_numpy(np.frombuffer(np.ones(4, np.float32).tobytes(), np.float32)).requires_grad_()
    p.grad = snn.ones(4)
    with pytest.raises(ValueError, match="read-only"):
        optim.SGD([p], 0.1).step()
    with pytest.raises(ValueError, match="must be a contiguous, writeable float32 array"):
        kernels.add(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32), out=np.ones((3, 2), np.float32).T)
    with pytest.raises(ValueError, match="one dtype"):
        kernels.matmul(np.ones((2, 3), np.float32), np.ones((3, 2)))


def test_find_nonfinite_names_the_first_operation_forward_and_backward():
    x = snn.tensor([1.0, 0.0], requires_grad=True)
    with pytest.raises(debug.NonFiniteError, match=r"log\(x \(2,\)\) made 1 infinite of 2 values"), debug.find_nonfinite():
        (x.log() * 2).sum()
    y = x.sqrt().sum()
    with pytest.raises(debug.NonFiniteError, match="div"), debug.find_nonfinite():
        y.backward()


def test_graph_pictures(tmp_path):
    x, w = leaf(3, 4), leaf(2, 4)
    loss = snn.linear(x, w).relu().sum()
    dot = debug.graph(loss, {"input": x, "weights": w})
    assert dot.startswith("digraph") and all(word in dot for word in ("linear", "relu", "sum", "input\\n3 x 4", "weights\\n2 x 4"))
    debug.draw_graph(loss, tmp_path / "graph.png", {"input": x})
    assert (tmp_path / "graph.png").stat().st_size > 1000


@pytest.fixture
def new_operation():
    """An operation made for a test leaves the registry as it was."""
    before = dict(registry)
    yield op
    registry.clear()
    registry.update(before)


def test_a_new_operation_takes_one_block(new_operation):
    @new_operation
    def softsign(x):
        """x / (1 + |x|)."""
        return x / (1 + np.abs(x))

    @softsign.vjp
    def _(g, x):
        return g / (1 + abs(x)).square()

    check_gradients(softsign, leaf(3, 4, dtype=np.float64))
    assert isinstance(softsign, Op) and registry["softsign"] is softsign


def test_a_wrong_derivative_is_found(new_operation):
    @new_operation
    def wrong(x):
        """x^2 with a wrong derivative."""
        return x * x

    @wrong.vjp
    def _(g, x):
        return g * x * 3

    with pytest.raises(AssertionError, match="gradient of wrong with respect to input 0"):
        check_gradients(wrong, leaf(3, dtype=np.float64))
    with pytest.raises(TypeError, match="names \\['z'\\]"):
        wrong.vjp("x")(lambda g, z: g)


def test_a_derivative_that_is_missing_is_named(new_operation):
    @new_operation
    def half(a, b):
        """a * b with one derivative."""
        return a * b

    @half.vjp("a")
    def _(g, b):
        return g * b

    half(leaf(2), snn.ones(2)).sum().backward()
    with pytest.raises(RuntimeError, match="no derivative with respect to 'b'"):
        half(snn.ones(2), leaf(2))


def test_same_seed_same_numbers():
    def draw():
        return [
            f().array.copy()
            for f in (
                lambda: snn.rand(5),
                lambda: snn.randn(3, 2),
                lambda: snn.randint(0, 9, (4,)),
                lambda: snn.randperm(7),
                lambda: snn.bernoulli(snn.full((5,), 0.5)),
                lambda: snn.dropout(snn.ones(9)),
                lambda: snn.multinomial(snn.tensor([1.0, 2.0, 3.0]), 4, True),
                lambda: snn.multinomial(snn.ones(5), 5),
            )
        ]

    snn.manual_seed(7)
    first = draw()
    state = snn.get_rng_state()
    later = draw()
    snn.manual_seed(7)
    for a, b in zip(first, draw(), strict=True):
        np.testing.assert_array_equal(a, b)
    snn.set_rng_state(state)
    for a, b in zip(later, draw(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], later[0])
    assert sorted(first[-1].tolist()) == [0, 1, 2, 3, 4]


def test_dropout_keeps_the_expected_share_and_masks_its_gradient_alike():
    x = snn.ones(20000)
    x.requires_grad_()
    y = snn.dropout(x, 0.3)
    y.sum().backward()
    assert abs((y.array == 0).mean() - 0.3) < 0.02
    np.testing.assert_array_equal(y.array, x.grad.array)
    assert snn.dropout(x, 0.3, training=False) is x
