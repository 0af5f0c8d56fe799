"""Layers, losses and whole networks, without PyTorch: behaviour, errors, gradients, the same bits on any number of threads."""

import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn, optim


def test_linear_starts_within_its_bounds_and_repeats_with_the_seed():
    snn.manual_seed(3)
    a = nn.Linear(100, 50)
    snn.manual_seed(3)
    b = nn.Linear(100, 50)
    c = nn.Linear(100, 50)
    assert np.array_equal(a.weight.array, b.weight.array) and np.array_equal(a.bias.array, b.bias.array)
    assert not np.array_equal(b.weight.array, c.weight.array)
    assert 0.09 < np.abs(a.weight.array).max() <= 0.1 and 0.05 < np.abs(a.bias.array).max() <= 0.1
    assert nn.Linear(2, 3, dtype=snn.float64).weight.dtype == np.float64


def test_linear_takes_any_leading_shape_and_names_wrong_ones():
    layer = nn.Linear(3, 2)
    for shape in [(3,), (1, 3), (4, 5, 3), (0, 3)]:
        assert layer(snn.ones(*shape)).shape == (*shape[:-1], 2)
    with pytest.raises((RuntimeError, ValueError), match=r"\(5, 4\)"):
        layer(snn.ones(5, 4))
    assert nn.Linear(0, 2)(snn.ones(5, 0)).shape == (5, 2)


def test_identity_passes_on():
    x = snn.ones(2)
    assert nn.Identity(54, unused=1)(x) is x


@pytest.mark.parametrize("padding_idx", [1, -3])
def test_embedding_padding_is_zero_and_gets_no_gradient(padding_idx):
    table = nn.Embedding(4, 3, padding_idx=padding_idx)
    assert table.padding_idx == 1 and table.weight[1].tolist() == [0, 0, 0] and table.weight[0].abs().sum().item() > 0
    out = table(snn.tensor([[1, 2], [2, 1]]))
    assert out.shape == (2, 2, 3)
    out.sum().backward()
    assert table.weight.grad.tolist() == [[0] * 3, [0] * 3, [2] * 3, [0] * 3]


def test_embedding_refuses_numbers_outside_of_its_table():
    with pytest.raises(IndexError, match="4"):
        nn.Embedding(4, 3)(snn.tensor([0, 4]))
    for padding_idx in (4, -5):
        with pytest.raises(ValueError, match="padding_idx must be within num_embeddings"):
            nn.Embedding(4, 3, padding_idx=padding_idx)


def test_embedding_from_pretrained():
    values = snn.arange(6).float().reshape(2, 3)
    table = nn.Embedding.from_pretrained(values)
    assert table.weight.array is values.array and not table.weight.requires_grad and repr(table) == "Embedding(2, 3)"
    assert nn.Embedding.from_pretrained(values, freeze=False, padding_idx=-1).weight.requires_grad
    with pytest.raises(ValueError, match="2-dimensional"):
        nn.Embedding.from_pretrained(snn.ones(3))


def test_dropout_in_training_and_in_evaluation():
    snn.manual_seed(0)
    layer, x = nn.Dropout(0.25), snn.ones(200, 500).requires_grad_()
    y = layer(x)
    assert sorted(set(y.array.ravel().tolist())) == [0, pytest.approx(4 / 3)]
    assert abs((y.array == 0).mean() - 0.25) < 0.005                                # 3.6 standard deviations of 1e5 draws
    y.sum().backward()
    assert np.array_equal(x.grad.array, y.array)
    assert not np.array_equal(layer(x).array, y.array)
    assert np.array_equal(layer.eval()(x).array, x.array)
    snn.manual_seed(0)
    assert np.array_equal(layer.train()(x).array, y.array)


def test_dropout_at_its_ends():
    x = snn.ones(10)
    assert nn.Dropout(0.0)(x).tolist() == [1] * 10 and nn.Dropout(1.0)(x).tolist() == [0] * 10
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            nn.Dropout(p)


def test_layer_norm_has_mean_zero_and_variance_one():
    x = snn.randn(6, 4, 5) * 3 + 7
    y = nn.LayerNorm((4, 5))(x).detach().numpy()
    assert np.allclose(y.mean((1, 2)), 0, atol=1e-5) and np.allclose(y.var((1, 2)), 1, atol=1e-4)
    assert list(nn.LayerNorm(5).state_dict()) == ["weight", "bias"]
    assert list(nn.LayerNorm(5, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(5, elementwise_affine=False).state_dict()) == []
    with pytest.raises(ValueError, match=r"\(6, 4, 5\)"):
        nn.LayerNorm(4)(x)


def test_batch_norm_in_training_and_in_evaluation():
    layer, batches = nn.BatchNorm1d(3, momentum=None), snn.randn(4, 50, 3) * 3 + 7
    y = layer(batches[0]).detach().numpy()
    assert np.allclose(y.mean(0), 0, atol=1e-5) and np.allclose(y.var(0), 1, atol=1e-4)
    for x in batches[1:]:
        layer(x)
    assert layer.num_batches_tracked.item() == 4 and layer.num_batches_tracked.dtype == np.int64
    assert np.allclose(layer.running_mean.array, batches.array.mean((0, 1)), atol=1e-5)             # momentum None: over all batches
    assert np.allclose(layer.running_var.array, batches.array.var(1, ddof=1).mean(0), atol=1e-5)
    before = layer.running_mean.tolist()
    y = layer.eval()(batches[0, :1]).detach().numpy()
    assert np.allclose(y, (batches.array[0, :1] - layer.running_mean.array) / np.sqrt(layer.running_var.array + 1e-5), atol=1e-5)
    assert layer.running_mean.tolist() == before
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0] * 3 and layer.running_var.tolist() == [1] * 3 and layer.num_batches_tracked.item() == 0


def test_group_and_instance_norm_have_mean_zero_and_variance_one():
    x = snn.randn(4, 6, 5, 5) * 3 + 7
    for layer, groups in ((nn.GroupNorm(2, 6), 2), (nn.InstanceNorm2d(6), 6)):
        y = layer(x).detach().numpy().reshape(4, groups, -1)
        assert np.allclose(y.mean(2), 0, atol=1e-5) and np.allclose(y.var(2), 1, atol=1e-4)


def test_spectral_norm_bounds_the_weight():
    snn.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(20, 30), n_power_iterations=200)
    assert np.linalg.norm(layer.weight.array, 2) == pytest.approx(1, abs=1e-5)
    before = layer.eval().parametrizations.weight[0]._u
    layer(snn.ones(1, 20)).sum().backward()
    assert layer.parametrizations.weight[0]._u is before and layer.parametrizations.weight.original.grad is not None


def test_flatten_and_unflatten_are_inverse():
    x = snn.arange(24).reshape(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4) and nn.Flatten(0)(x).shape == (24,)
    for sizes in [(3, 4), (-1, 4), (3, -1), [3, 4]]:
        assert nn.Unflatten(1, sizes)(nn.Flatten()(x)).tolist() == x.tolist()
    assert nn.Unflatten(-1, (2, 2))(x).shape == (2, 3, 2, 2)
    with pytest.raises(RuntimeError, match=r"\(5, 2\) do not multiply up to 12"):
        nn.Unflatten(1, (5, 2))(nn.Flatten()(x))
    for sizes in [(-1, 5), (-1, -1), (-3, -4), (0, -1)]:
        with pytest.raises(RuntimeError, match="do not multiply up"):
            nn.Unflatten(1, sizes)(nn.Flatten()(x))
    with pytest.raises(IndexError, match="dim 3"):
        nn.Unflatten(3, (1, 1))(x)


@pytest.mark.parametrize("make, name", [
    (lambda: nn.ReLU(inplace=True), "inplace"),
    (lambda: nn.Embedding(2, 2, max_norm=1.0), "max_norm"),
    (lambda: nn.Dropout(0.5, inplace=True), "inplace"),
    (lambda: nn.Linear(2, 2, device="cpu"), "device"),
    (lambda: nn.CrossEntropyLoss(size_average=True), "size_average"),
    (lambda: optim.Adam([snn.ones(1)], fused=True), "fused"),
])
def test_options_that_are_not_there_are_named(make, name):
    with pytest.raises(TypeError, match=name):
        make()


@pytest.mark.parametrize("make", [nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MSELoss, nn.L1Loss,
                                  nn.SmoothL1Loss, nn.HuberLoss, nn.GaussianNLLLoss])
def test_losses_refuse_an_unknown_reduction(make):
    with pytest.raises(ValueError, match=f"{make.__name__}: reduction must be one of none, mean, sum, got 'avg'"):
        make(reduction="avg")
    with pytest.raises(ValueError, match="'batchmean'"):
        make(reduction="batchmean")


def test_loss_weights_are_buffers():
    loss = nn.CrossEntropyLoss(snn.tensor([1.0, 2.0]))
    assert list(loss.state_dict()) == ["weight"] and list(nn.CrossEntropyLoss().state_dict()) == []
    assert list(loss.parameters()) == [] and loss.double().weight.dtype == np.float64


def test_hardtanh_needs_an_interval():
    with pytest.raises(ValueError, match="min_val must be smaller"):
        nn.Hardtanh(1.0, -1.0)


def test_gradients_of_a_network_equal_central_differences():
    snn.manual_seed(1)
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3),
                        nn.LogSoftmax(1)).double()
    tokens, target = snn.randint(0, 7, (5, 3)), snn.randint(0, 3, (5,))
    loss = nn.NLLLoss()
    loss(net(tokens), target).backward()
    for p in net.parameters():
        direction = np.random.default_rng(0).standard_normal(p.shape)
        values = []
        for step in (1e-5, -2e-5):
            p.array += step * direction
            p.bump_version()
            values.append(loss(net(tokens), target).item())
        p.array += 1e-5 * direction
        p.bump_version()
        assert (values[0] - values[1]) / 2e-5 == pytest.approx((p.grad.array * direction).sum(), rel=1e-6, abs=1e-9)


def _trained_bits(threads):
    before = snn.get_num_threads()
    snn.set_num_threads(threads)
    try:
        snn.manual_seed(11)
        net = nn.Sequential(nn.Linear(300, 200), nn.LayerNorm(200), nn.BatchNorm1d(200), nn.GELU(), nn.Dropout(0.3), nn.Linear(200, 10))
        x, target = snn.randn(256, 300), snn.randint(0, 10, (256,))
        optimizer = optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(4):
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(net(x), target).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            nn.utils.max_norm_(net[0].weight, 0.6)
        return [p.array.tobytes() for p in net.parameters()]
    finally:
        snn.set_num_threads(before)


def test_training_gives_the_same_bits_on_one_and_two_threads():
    one = _trained_bits(1)
    assert one == _trained_bits(2) == _trained_bits(1)
