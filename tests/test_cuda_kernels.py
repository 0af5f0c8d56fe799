"""The CUDA wing against the reference wing, on the cases of test_kernels.py: in the simulator, or, with SCRATCHNN_CUDA=device, on a GPU."""

import gc
import sys

import cuda_wing
import numpy as np
import pytest
from test_kernels import BINARY, FLOATS, LAYOUTS, TERNARY, arguments, assert_close, exports, file_of
from test_kernels import run as run_on_host

cuda = cuda_wing.wing()

from kernels import config, reference  # noqa: E402
from kernels.cuda import array, compiler, matmul, runtime  # noqa: E402
from kernels.cuda.matmul import ladder, tf32, tiles  # noqa: E402

MATMUL, CONV = sys.modules["kernels.cuda.matmul"], sys.modules["kernels.cuda.conv"]
NAMES = sorted(set(exports(cuda)) - {"pack"})
SIMULATED = pytest.mark.skipif(not compiler.SIMULATED, reason="about the simulator")


@pytest.fixture(autouse=True)
def _device(monkeypatch):
    cuda_wing.use(monkeypatch)


def compare(name, dtype, N, D, layout=lambda a: a):
    for args in arguments(name, dtype, N, D):
        assert_close(cuda_wing.run(cuda, name, args, layout), run_on_host(reference, name, args))


def test_the_same_names_in_the_same_files():
    names = exports(cuda)
    assert names.keys() <= exports(reference).keys()
    for name, function in names.items():
        assert function.__module__.split(".")[2] == file_of(name) and function.__doc__, name


@pytest.mark.parametrize("name", NAMES)
def test_kernel(name):
    if file_of(name) == "batch_norm":                                                    # its cases are large
        return compare(name, np.float32, 2, 5)
    if file_of(name) == "conv":                                                          # and many; the pairs differ in the epilogue
        cases = [a for i, a in enumerate(arguments(name, np.float32, 1, 5)) if len(a[0]) <= 2 and (len(a) == 7 or i % 4 in (0, 3))]
        for args in cases + arguments(name, np.float64, 1, 1)[4:6]:
            assert_close(cuda_wing.run(cuda, name, args), run_on_host(reference, name, args))
        return
    compare(name, np.float32, 1, 1)
    compare(name, np.float32, 9, 7)
    compare(name, np.float64, 2, 5)


@pytest.mark.parametrize("name", ["softmax", "log_softmax_backward", "layer_norm", "layer_norm_backward", "sum", "max"])
def test_long_rows_and_columns(name):
    """More numbers than a warp works on by itself, and more than fit into one block of a sum."""
    compare(name, np.float32, 2, 1100)
    if name == "sum":
        compare(name, np.float32, 70, 2)


def test_many_classes():
    x, target = np.random.default_rng(0).standard_normal((2, 1100), np.float32), np.array([3, 1099])
    expected = run_on_host(reference, "cross_entropy", (x, target, None, -1, 0.1))
    assert_close(cuda_wing.run(cuda, "cross_entropy", (x, target, None, -1, 0.1)), expected)


@pytest.mark.parametrize("name", ["neg", "matmul", "softmax", "sum", "adam", "scatter_add_rows"])
def test_layouts_are_copied_or_read_as_they_lie(name):
    layouts = {"transposed": lambda a: array.to_device(a.numpy().T).T, "flipped": lambda a: array.to_device(np.flip(a.numpy()))[
        (slice(None, None, -1),) * a.ndim], "every second": lambda a: array.to_device(np.repeat(a.numpy(), 2, axis=-1))[..., ::2]}
    assert len(layouts) + 1 == len(LAYOUTS)
    for layout in layouts.values():
        compare(name, np.float32, 3, 5, layout)


@pytest.mark.parametrize("shapes", [((4, 1, 3), (5, 1)), ((2, 3), (3,)), ((3, 1), (3, 4)), ((2, 3, 1, 1), (2, 3, 4, 5)), ((), (3,)),
                                    ((3, 1, 1), (2, 3, 4, 5)), ((1,), (2, 2)), ((2, 1, 3, 1), (1, 4, 1, 5)), ((0, 3), (1, 3))], ids=str)
def test_broadcasting(shapes):
    a, b = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in shapes)
    for x, y in ((a, b), (b, a)):
        result = cuda_wing.run(cuda, "sub", (x, y))[0]
        np.testing.assert_array_equal(result, x - y)
    c = np.random.default_rng(0).random(np.broadcast_shapes(*shapes)) > 0.5
    np.testing.assert_array_equal(cuda_wing.run(cuda, "where", (c, a, b))[0], np.where(c, a, b))


def test_special_values():
    special = np.array([0.0, -0.0, 1, -1, 2.5, -3.5, 1e-30, 1e30, 100, -100, np.inf, -np.inf, np.nan], np.float32)
    for name in ("exp", "log", "sigmoid", "tanh", "sqrt", "floor", "relu", "sign"):
        assert name not in BINARY | TERNARY
        assert_close(cuda_wing.run(cuda, name, (special,)), run_on_host(reference, name, (special,)))
    for name in ("maximum", "minimum", "div"):
        assert_close(cuda_wing.run(cuda, name, (special[:, None], special)), run_on_host(reference, name, (special[:, None], special)))
    x = np.array([[1, np.nan, 3, np.nan], [4, 1, 4, 1]], np.float32)
    for name in ("max", "min", "argmax", "argmin"):
        args = (x, 1) if name.startswith("arg") else (x, (1,))
        assert_close(cuda_wing.run(cuda, name, args), run_on_host(reference, name, args))


def test_random_words_and_uniforms_are_those_of_the_other_wings():
    for seed, offset, n in ((0, 0, 9), (2 ** 63 + 5, 2 ** 64 - 2, 30)):
        np.testing.assert_array_equal(cuda.words(seed, offset, n).numpy(), reference.words(seed, offset, n))
        for dtype in FLOATS:
            np.testing.assert_array_equal(cuda.uniform(seed, offset, n, dtype).numpy(), reference.uniform(seed, offset, n, dtype))


# ---- matrix products ------------------------------------------------------------------------------------------------

def product(tile, monkeypatch, M, N, K, turned=(False, False), **options):
    rng = np.random.default_rng(0)
    a, b, bias = rng.standard_normal((M, K), np.float32), rng.standard_normal((K, N), np.float32), rng.standard_normal(N, np.float32)
    monkeypatch.setattr(MATMUL, "choose", lambda *sizes: tile)
    left, right = (array.to_device(x.T.copy()).T if t else array.to_device(x) for x, t in zip((a, b), turned, strict=True))
    out = array.to_device(np.ones((M, N), np.float32)) if "accumulate" in options else None
    found = matmul(left, right, array.to_device(bias), out=out, **options).numpy()
    expected = reference.matmul(a, b, bias, out=None if out is None else np.ones((M, N), np.float32), **options)
    assert_close([found], [expected])


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("sizes", [(36, 68, 20), (35, 67, 18)], ids=str)
def test_tiles_with_edges_in_all_forms(turned, sizes, monkeypatch):
    product(tiles.SMALL, monkeypatch, *sizes, turned, activation="relu")


@pytest.mark.parametrize("tile, sizes", [(tiles.MEDIUM, (68, 40, 36)), (tiles.LARGE, (132, 20, 20))], ids=str)
def test_large_tiles(tile, sizes, monkeypatch):
    product(tile, monkeypatch, *sizes, (tile is tiles.LARGE, False), activation="tanh", accumulate=True)


def rounded(x):
    """float32 numbers with 10 bits of fraction, as tensor cores read them."""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("tile, sizes, turned", [
    (tf32.SMALL, (68, 36, 20), (False, False)), (tf32.SMALL, (36, 68, 12), (True, True)), (tf32.LARGE, (132, 44, 16), (False, True)),
    (tf32.LARGE, (20, 132, 4), (True, False))], ids=str)
def test_tensor_cores_multiply_rounded_numbers(tile, sizes, turned, monkeypatch):
    (M, N, K), rng = sizes, np.random.default_rng(0)
    a, b, bias, out = (rng.standard_normal(s, np.float32) for s in ((M, K), (K, N), N, (M, N)))
    expected = reference.matmul(rounded(a), rounded(b), bias, out=out.copy(), accumulate=True, activation="relu")
    left, right = (array.to_device(x.T.copy()).T if t else array.to_device(x) for x, t in zip((a, b), turned, strict=True))
    monkeypatch.setattr(config, "TF32", True)
    monkeypatch.setattr(tf32, "choose", lambda *sizes: tile)
    found = matmul(left, right, array.to_device(bias), "relu", array.to_device(out), True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)         # they do not round sums to the nearest number
    assert np.abs(found - np.maximum(a @ b + bias + out, 0)).max() > 1e-4                 # it is not the exact product
    if tile is tf32.SMALL:
        a[3, 2] = np.nan
        assert np.isnan(matmul(array.to_device(a), right).numpy()[3]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_more_matrices_than_a_launch_has_room_for(dtype, monkeypatch):
    a, b = (np.random.default_rng(k).standard_normal(shape).astype(dtype) for k, shape in enumerate(((5, 3, 4), (5, 4, 2))))
    monkeypatch.setattr(MATMUL, "MOST", 2)
    np.testing.assert_allclose(matmul(array.to_device(a), array.to_device(b)).numpy(), a @ b, rtol=1e-5)


def test_all_rungs_give_the_same_bits(monkeypatch):
    a, b = (array.to_device(np.random.default_rng(k).standard_normal(s, np.float32)) for k, s in enumerate(((66, 19), (19, 40))))
    expected = matmul(a, b).numpy()
    for rung in (ladder.naive, ladder.shared_tiles, ladder.register_tiles):
        c = array.empty(expected.shape, np.float32)
        rung(a, b, c)
        np.testing.assert_array_equal(c.numpy(), expected)


def test_a_long_product_of_few_tiles_is_cut_into_parts_that_are_added_in_order(monkeypatch):
    assert tiles.split(3, 5, 530) == (2, 272) and tiles.split(64, 64, 511) == (1, 511) and tiles.split(2048, 1024, 4096) == (1, 4096)
    rng = np.random.default_rng(0)
    a, b, bias, out = (rng.standard_normal(s).astype(np.float32) for s in ((3, 70), (70, 5), 5, (3, 5)))
    left, right = array.to_device(a), array.to_device(b)
    parts = [matmul(left[:, cut], right[cut]).numpy() for cut in (slice(48), slice(48, None))]
    monkeypatch.setattr(tiles, "SHORTEST", 35)
    np.testing.assert_array_equal(matmul(left, right).numpy(), parts[0] + parts[1])
    found = matmul(left, right, array.to_device(bias), "tanh", array.to_device(out), accumulate=True).numpy()
    assert_close([found], [reference.matmul(a, b, bias, "tanh", out=out, accumulate=True)])


def test_draws_of_a_half_step_are_those_of_its_probabilities_and_the_streams_words():
    v, w, b = (array.to_device(np.random.default_rng(0).standard_normal(s).astype(np.float32)) for s in ((3, 5), (5, 36), 36))
    draws, p = cuda.rbm_sample(v, w, b, 9, 2 ** 64 - 5, 1, True)
    np.testing.assert_array_equal(draws.numpy(), reference.uniform(9, 2 ** 64 - 5, (3, 36), np.float32) < p.numpy())
    np.testing.assert_array_equal(p.numpy(), cuda.rbm_probabilities(v, w, b).numpy())


# ---- convolutions ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tile, shape, outputs, kernel, stride, padding, dilation, groups", [
    (tiles.SMALL, (3, 2, 5, 7), 3, (3, 3), (2, 2), (1, 1), (1, 1), 1),                    # odd sizes; every other pixel
    (tiles.SMALL, (2, 3, 6, 5), 2, (4, 4), (2, 2), (1, 1), (1, 1), 1),
    (tiles.SMALL, (1, 2, 7, 9), 34, (5, 5), (2, 2), (2, 2), (1, 1), 1),                   # more than a tile of channels
    (tiles.MEDIUM, (2, 4, 7, 6), 6, (3, 2), (1, 1), (2, 1), (2, 2), 2),                   # holes and groups
    (tiles.LARGE, (1, 4, 2, 8), 5, (1, 1), (1, 1), (0, 0), (1, 1), 1),                    # vectors of weights and pixels
    (tiles.SMALL, (2, 1, 1, 42), 2, (1, 4), (1, 1), (0, 2), (1, 1), 1),                   # a signal; pixels enough for two parts of a sum
], ids=str)
def test_convolutions_with_edges(tile, shape, outputs, kernel, stride, padding, dilation, groups, monkeypatch):
    monkeypatch.setattr(CONV, "choose", lambda *sizes: tile)
    monkeypatch.setattr(tiles, "SHORTEST", 40)
    rng, options = np.random.default_rng(0), (stride, padding, dilation, groups)
    x, w = rng.standard_normal(shape, np.float32), rng.standard_normal((outputs, shape[1] // groups, *kernel), np.float32)
    g = rng.standard_normal(reference.conv(x, w, None, *options).shape).astype(np.float32)
    bias, shift = rng.standard_normal(outputs).astype(np.float32), rng.standard_normal(shape[1]).astype(np.float32)
    for name, args in (("conv", (x, w, bias, *options, "relu")), ("conv_input_gradient", (g, w, shape[2:], shift, *options)),
                       ("conv_weight_gradient", (g, x, kernel, *options))):
        found, expected = cuda_wing.run(cuda, name, args)[0], getattr(reference, name)(*args)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


# ---- memory ---------------------------------------------------------------------------------------------------------

@SIMULATED
def test_out_of_memory_names_the_request_and_what_is_held_and_leaves_the_pool_usable():
    gc.collect()
    held = array.full((1000,), 1, np.float32)
    waiting = array.empty((500 << 18,), np.float32)
    del waiting
    assert runtime.pool.waiting >= 500 << 20
    assert array.empty((700 << 18,), np.float32).nbytes == 700 << 20                     # what waited has made room
    with pytest.raises(runtime.OutOfMemory, match=r"array of 2 GiB: scratchnn holds .* in \d+ arrays, .* of the GPU's 1 GiB are free"):
        array.empty((1 << 29,), np.float32)
    assert cuda.sum(held).item() == 1000


def test_freed_memory_is_used_again():
    first = array.empty((1000,), np.float32)
    address = first.address
    view = first[10:20]
    del first
    assert array.empty((1000,), np.float32).address != address                           # the view keeps it
    del view
    assert array.empty((990,), np.float32).address == address
    assert [runtime.Pool.size_class(n) for n in (0, 1, 513, 1 << 20, (1 << 20) + 1)] == [512, 512, 1024, 1 << 20, 9 << 17]


# ---- arrays ---------------------------------------------------------------------------------------------------------

def test_views_and_copies():
    x = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    d = array.to_device(x)
    for key in (0, (slice(None), 1), (Ellipsis, slice(None, None, -2)), (1, None, slice(1, 3), slice(None), -1), (slice(5, 9),)):
        np.testing.assert_array_equal(d[key].numpy(), x[key])
    np.testing.assert_array_equal(d.T.numpy(), x.T)
    np.testing.assert_array_equal(d.transpose(0, 2, 3, 1).reshape(8, -1).numpy(), x.transpose(0, 2, 3, 1).reshape(8, -1))
    np.testing.assert_array_equal(array.broadcast_to(d[:, :1], x.shape).numpy(), np.broadcast_to(x[:, :1], x.shape))
    np.testing.assert_array_equal((d[0].astype(np.int64).numpy(), (d[0].astype(bool)).numpy()), (x[0].astype(np.int64), x[0].astype(bool)))
    target = array.to_device(x)
    array.copy_into(target[:, ::2], d[:, 1:2])
    x[:, ::2] = x[:, 1:2]
    np.testing.assert_array_equal(target.numpy(), x)
    d, x = array.to_device(np.arange(6.0)), np.arange(6.0)
    d[1:], x[1:] = d[:-1], x[:-1].copy()                                                  # they overlap
    np.testing.assert_array_equal(d.numpy(), x)
    d[...] = d[::-1]
    np.testing.assert_array_equal(d.numpy(), x[::-1])
    with pytest.raises(IndexError, match="dimension 0 of size 6"):
        d[6]
    with pytest.raises(TypeError, match=r"no arrays of complex64; choose one of float32"):
        array.to_device(np.zeros(2, np.complex64))


@SIMULATED
def test_other_libraries_take_and_give_arrays_without_a_copy():
    d = array.to_device(np.arange(6, dtype=np.float32).reshape(2, 3))
    taken = np.from_dlpack(d.T)
    np.testing.assert_array_equal(taken, [[0, 3], [1, 4], [2, 5]])
    array.copy_into(d, array.full((), 7, np.float32))
    address = d.address
    del d
    assert (taken == 7).all() and array.empty((2, 3), np.float32).address != address
    given = array.from_cuda(array.to_device(np.arange(4)))
    np.testing.assert_array_equal(given.numpy(), np.arange(4))


# ---- errors ---------------------------------------------------------------------------------------------------------

def test_errors_name_what_is_wrong():
    x = array.to_device(np.zeros((3, 4), np.float32))
    for error, message, call in (
        (TypeError, r"add: all arrays must lie on the GPU.*\.to\('cuda'\)", lambda: cuda.add(x, np.zeros(4))),
        (ValueError, r"add: shapes \(3, 4\) and \(3,\) do not fit", lambda: cuda.add(x, x[:, 0])),
        (ValueError, r"matmul: \(3, 4\) times \(3, 4\) does not fit", lambda: matmul(x, x)),
        (ValueError, r"one dtype, got float32, float64", lambda: matmul(x, x.T.astype(np.float64))),
        (IndexError, r"target 4 .*0\.\.3", lambda: cuda.cross_entropy(x, array.to_device(np.array([0, 4, 1])))),
        (IndexError, r"index -1 .*0\.\.2", lambda: cuda.gather_rows(x, array.to_device(np.array([0, -1])))),
        (IndexError, r"index 3 at place 1 .*0\.\.2", lambda: cuda.scatter_add_rows(x, array.to_device(np.array([0, 3, 1])), 3)),
        (ValueError, "row 1 ", lambda: cuda.categorical(0, 0, array.to_device(np.array([[1.0, 0.0], [1.0, -1.0]])), 2)),
        (ValueError, r"array 0 of list 1 .*\(4,\).*\(3, 4\)", lambda: cuda.sgd([x], [x[0]], None, 0.1)),
        (TypeError, "float32 or all float64, got int64", lambda: cuda.softmax(x.astype(np.int64))),
    ):
        with pytest.raises(error, match=message):
            call()
            runtime.synchronize()                                # indices are looked at when the host waits anyway
    runtime.synchronize()                                        # and a fault is told once


@SIMULATED
def test_the_simulator_catches_what_a_gpu_would_not():
    words = compiler.cuda

    def outside(x):
        x[words.threadIdx.x] = 0

    def divergent(x):
        if words.threadIdx.x < 5:
            words.syncthreads()
        else:
            words.syncthreads()

    def unwritten(x):
        room = words.shared.array(4, np.float32)
        words.syncthreads()
        x[0] = room[1]

    x = array.full((4,), 1, np.float32)
    for function, error, message in ((outside, IndexError, "index 4 is outside an array of 4"), (divergent, RuntimeError, "barrier")):
        with pytest.raises(error, match=message):
            compiler.Kernel(function, name=f"test_{function.__name__}")[1, 8](x)
    compiler.Kernel(unwritten, name="test_unwritten")[1, 8](x)
    assert np.isnan(x.numpy()[0])
