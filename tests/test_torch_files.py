"""Files and data beside their peers: weights go to PyTorch and back, the embedded digits are scikit-learn's."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import checkpoint, data, nn
from scratchnn.models.classifier import MLP, predict


def test_weights_go_to_torch_and_back(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file
    model, path = MLP((1, 8, 8), 10, (32, 16)), tmp_path / "w.safetensors"
    peer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.2), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.5),
                               torch.nn.Linear(32, 16), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 10)).eval()
    checkpoint.save_weights(path, model.layers.state_dict())
    peer.load_state_dict(load_file(path))
    x = data.digits().test_x[:50]
    with torch.no_grad():
        np.testing.assert_allclose(predict(model, x), torch.softmax(peer(torch.from_numpy(x)), -1).numpy(), atol=1e-6)
        peer[2].weight.mul_(2)
    save_file(peer.state_dict(), path)
    model.layers.load_state_dict(checkpoint.load_weights(path))
    assert all(np.array_equal(model.layers.state_dict()[k].numpy(), v.numpy()) for k, v in peer.state_dict().items())


def test_statistics_and_parametrizations_go_to_torch_and_back(tmp_path):
    """Running statistics, the count of batches (int64) and the vectors of spectral norm have torch's names, and both go on from there."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file
    model, peer = (lib.Sequential(lib.utils.parametrizations.spectral_norm(lib.Linear(5, 6)), lib.BatchNorm1d(6), lib.GroupNorm(2, 6),
                                  lib.Unflatten(1, (2, 3)), lib.InstanceNorm1d(2, affine=True, track_running_stats=True))
                   for lib in (nn, torch.nn))
    x = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
    for _ in range(3):
        model(snn.tensor(x))
    checkpoint.save_weights(tmp_path / "w", model.state_dict())
    peer.load_state_dict(load_file(tmp_path / "w"))
    assert peer[1].num_batches_tracked == 3 and peer[1].num_batches_tracked.dtype == torch.int64
    np.testing.assert_allclose(model(snn.tensor(x)).detach().numpy(), peer(torch.tensor(x)).detach().numpy(), atol=2e-5)
    save_file(peer.state_dict(), tmp_path / "v")
    model.load_state_dict(checkpoint.load_weights(tmp_path / "v"))
    assert list(model.state_dict()) == list(peer.state_dict())
    assert all(np.array_equal(model.state_dict()[k].numpy(), v.numpy()) for k, v in peer.state_dict().items())
    np.testing.assert_allclose(model.eval()(snn.tensor(x)).detach().numpy(), peer.eval()(torch.tensor(x)).detach().numpy(), atol=2e-5)


def test_transposed_views_are_not_scrambled(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file
    base = np.arange(6, dtype=np.float32).reshape(2, 3)
    views = {"t": base.T, "reversed": base[::-1], "column": base[:, 1], "number": np.float32(3) * np.ones((), np.float32)}
    checkpoint.save_weights(tmp_path / "w", {k: snn.from_numpy(np.asarray(v)) for k, v in views.items()})
    loaded = load_file(tmp_path / "w")
    assert isinstance(loaded["t"], torch.Tensor) and all(np.array_equal(loaded[k].numpy(), v) for k, v in views.items())


def test_bfloat16_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    save_file({"w": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "w")
    with pytest.raises(checkpoint.CheckpointError, match=r"bfloat16.*convert it to float32"):
        checkpoint.load_weights(tmp_path / "w")


def test_digits_are_those_of_scikit_learn():
    peer = pytest.importorskip("sklearn.datasets").load_digits()
    digits = data.digits()
    x, y = np.concatenate([digits.train_x, digits.test_x]).reshape(-1, 64) * 16, np.concatenate([digits.train_y, digits.test_y])
    ours, theirs = (sorted(map(tuple, np.column_stack(pair).astype(int).tolist())) for pair in ((x, y), (peer.data, peer.target)))
    assert ours == theirs
