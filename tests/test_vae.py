"""Variational autoencoders: likelihoods against the definition, bounds against what is known exactly, gradients against small steps."""

import math
import tracemalloc

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import data, optim
from scratchnn.checkpoint import CheckpointError, save_weights
from scratchnn.data.table import Categorical, Numeric, Table
from scratchnn.models.vae import (
    VAE,
    Bernoulli,
    Columns,
    DiscretisedLogistic,
    Gaussian,
    interpolate,
    likelihood_for,
    load_vae,
    save_vae,
    traverse,
)
from scratchnn.random import Generator

TABLE = Table((Numeric("age", 40.0, 10.0, True, True), Categorical("town", ("", "Bern", "Rom")), Numeric("pay", 3.0, 0.5, False, False)))
ROWS = np.array([[0.5, 0, 0, 1, 0, -1], [0, 1, 0, 0, 1, 0.3], [-1, 0, 1, 0, 0, 2]], np.float32)


def linear_gaussian(D=5, L=2, dtype=np.float64, seed=0):
    """(model, W, s): a VAE with p(x) = N(0, W W^T + diag(s^2)), and an encoder near the posterior, which is diagonal."""
    rng = np.random.default_rng(seed)
    model, s = VAE(Gaussian((D,)), L).to(dtype=dtype), rng.uniform(0.4, 0.8, D)
    W = s[:, None] * np.linalg.qr(rng.standard_normal((D, L)))[0] * rng.uniform(1, 3, L)
    model.decoder[0].weight.array[:], model.decoder[0].bias.array[:] = W, 0
    model.likelihood.log_scale.array[:] = np.log(s)
    precision = np.eye(L) + W.T / s ** 2 @ W
    model.encoder[0].weight.array[:] = np.concatenate([1.05 * np.linalg.solve(precision, W.T / s ** 2), np.zeros((L, D))])
    model.encoder[0].bias.array[:] = np.r_[np.zeros(L), np.log(1.3 / np.diag(precision))]
    return model, W, s


def normal_log_p(x, covariance):
    _, log_det = np.linalg.slogdet(2 * math.pi * covariance)
    return -0.5 * (log_det + np.einsum("nd,nd->n", x, np.linalg.solve(covariance, x.T).T))


# ---- likelihoods ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.2, 1.0, 1.4])
@pytest.mark.parametrize("log_scale", [-9.0, -5.0, -2.0, 1.0])
def test_probabilities_of_all_colours_add_up_to_one(mean, log_scale):
    likelihood = DiscretisedLogistic((1, 1, 1))
    colours = likelihood.encode(np.arange(256, dtype=np.float32).reshape(256, 1, 1, 1) / 255)
    output = np.tile(np.array([mean, log_scale]), (256, 1, 1))
    log_p = likelihood.log_prob(snn.tensor(output), snn.tensor(colours.astype(np.float64))).numpy()
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-6)


def test_discretised_logistic_against_the_definition():
    likelihood, rng = DiscretisedLogistic((3, 2, 2)), np.random.default_rng(0)
    x, output = rng.integers(0, 256, (4, 12)) / 255, rng.normal(0.5, 0.3, (4, 2, 24)) - np.repeat([0, 2.5], 12)
    mean, scale = output[..., :12], np.exp(output[..., 12:])

    def below(t):
        return 1 / (1 + np.exp(-(t - mean) / scale))

    x[:, 3], x[:, 7] = 0, 1
    seen = x[:, None]
    expected = np.log(np.where(seen == 1, 1, below(seen + 0.5 / 255)) - np.where(seen == 0, 0, below(seen - 0.5 / 255))).sum(2)
    np.testing.assert_allclose(likelihood.log_prob(snn.tensor(output), snn.tensor(x)).numpy(), expected, rtol=1e-6)


def test_columns_against_the_definition():
    likelihood, output = Columns(TABLE), np.random.default_rng(0).standard_normal((3, 2, 6)).astype(np.float32)
    likelihood.log_scale.array[:] = 0.3, -0.5
    found = likelihood.log_prob(snn.tensor(output), snn.tensor(ROWS)).detach().numpy()
    for n, s in np.ndindex(3, 2):
        o, x, scale = output[n, s].astype(float), ROWS[n], np.exp([0.3, -0.5])
        normal = [-0.5 * ((x[i] - o[i]) / c) ** 2 - math.log(c) - 0.5 * math.log(2 * math.pi) for i, c in zip((0, 5), scale, strict=True)]
        missing = -math.log1p(math.exp(-o[1] if x[1] else o[1]))
        town = (x[2:5] * (o[2:5] - math.log(np.exp(o[2:5]).sum()))).sum()
        assert found[n, s] == pytest.approx((0 if x[1] else normal[0]) + normal[1] + missing + town, rel=1e-5)


def test_columns_are_drawn_as_often_as_they_should():
    likelihood = Columns(TABLE)
    output = np.tile(np.array([1, -1, 0, math.log(3), math.log(4), 2], np.float32), (20000, 1))
    drawn = likelihood.sample(output, Generator(0))
    np.testing.assert_allclose(drawn.mean(0), [1, 1 / (1 + math.e), 1 / 8, 3 / 8, 4 / 8, 2], atol=0.03)
    np.testing.assert_allclose(likelihood.mean(output)[0], [1, 1 / (1 + math.e), 1 / 8, 3 / 8, 4 / 8, 2], rtol=1e-5)
    cells = TABLE.inverse(drawn)
    assert list(cells) == ["age", "town", "pay"] and set(cells["town"]) == {"", "Bern", "Rom"}
    assert np.isnan(cells["age"]).mean() == pytest.approx(1 / (1 + math.e), abs=0.02)


def test_whole_numbers_stand_for_all_that_are_rounded_to_them():
    rows = snn.tensor(np.tile(ROWS, (2000, 1)))
    seen = Columns(TABLE).observe(rows, Generator(0)).numpy() - rows.numpy()
    assert not seen[:, 1:].any() and not seen[1::3].any()                         # not whole; missing
    np.testing.assert_allclose([f(10 * seen[::3, 0]) for f in (np.min, np.mean, np.max)], [-0.5, 0, 0.5], atol=0.02)


@pytest.mark.parametrize("likelihood", [Bernoulli((6,)), Gaussian((6,)), Columns(TABLE), DiscretisedLogistic((3, 2, 1))])
def test_the_decoder_begins_where_all_rows_fit_alike(likelihood):
    rows = np.random.default_rng(0).integers(0, 2, (50, 6)).astype(np.float32) if not isinstance(likelihood, Columns) else ROWS
    output = likelihood.marginal(rows)
    np.testing.assert_allclose(likelihood.mean(np.tile(output.astype(np.float32), (1, 1)))[0], rows.mean(0), atol=1e-3)


def test_gaussian_numbers_go_forth_and_back():
    x = np.random.default_rng(0).normal([3, -100], [0.1, 20], (50, 2)).astype(np.float32)
    likelihood = Gaussian((2,), x.mean(0), x.std(0))
    np.testing.assert_allclose(likelihood.encode(x).std(0), 1, rtol=1e-4)
    np.testing.assert_allclose(likelihood.decode(likelihood.encode(x)), x, rtol=1e-5)


def test_each_kind_of_data_gets_its_likelihood():
    def of(x, **options):
        return data.DataSet("made", x, None, x, None, (), x.shape[1:], **options)
    rng = np.random.default_rng(0)
    assert isinstance(likelihood_for(of(rng.random((5, 1, 3, 3), np.float32))), Bernoulli)
    assert isinstance(likelihood_for(of(rng.random((5, 3, 3, 3), np.float32))), DiscretisedLogistic)
    assert isinstance(likelihood_for(of(rng.random((5, 1, 3, 3), np.float32)), "Gaussian"), Gaussian)
    assert isinstance(likelihood_for(of(np.eye(4, dtype=np.float32))), Bernoulli)
    assert isinstance(likelihood_for(of(rng.standard_normal((5, 3)).astype(np.float32))), Gaussian)
    assert isinstance(likelihood_for(of(ROWS, table=TABLE)), Columns)
    for x, options, message in ((np.full((5, 2), 3, np.float32), {}, "column 1 never changes"),
                                (ROWS[:1], {"table": TABLE}, "'age' never"), (2 * rng.random((5, 1, 3, 3), np.float32), {}, "0 to 1")):
        with pytest.raises(data.DataError, match=message):
            likelihood_for(of(x, **options))


# ---- bounds -----------------------------------------------------------------------------------------------------------

def test_importance_sampled_likelihood_of_a_linear_gaussian_model_is_exact():
    model, W, s = linear_gaussian(dtype=np.float32)
    covariance = W @ W.T + np.diag(s ** 2)
    x = np.random.default_rng(1).multivariate_normal(np.zeros(len(s)), covariance, 40).astype(np.float32)
    found = model.log_likelihood(x, samples=20000, generator=Generator(0))
    np.testing.assert_allclose(found, normal_log_p(x.astype(np.float64), covariance), atol=0.03)
    assert abs((found - normal_log_p(x.astype(np.float64), covariance)).mean()) < 0.01


def test_samples_are_taken_in_bounded_memory():
    model, x = VAE(Bernoulli((784,)), 5, (10,)), np.zeros((3, 784), np.float32)
    model.log_likelihood(x, samples=3)
    tracemalloc.start()
    try:
        model.log_likelihood(x, samples=40000)
        assert tracemalloc.get_traced_memory()[1] < 30e6                           # all logits at once: 376 MB
    finally:
        tracemalloc.stop()


def test_likelihood_does_not_depend_on_how_examples_are_cut():
    model, x = linear_gaussian(dtype=np.float32)[0], np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    several = model.log_likelihood(x, samples=700, generator=Generator(0))
    alone = [model.log_likelihood(x[i:i + 1], samples=7000, generator=Generator(i))[0] for i in range(7)]
    np.testing.assert_allclose(several, alone, atol=0.1)


def test_bounds_lie_below_and_approach_the_likelihood():
    model, W, s = linear_gaussian()
    covariance = W @ W.T + np.diag(s ** 2)
    x = np.random.default_rng(1).multivariate_normal(np.zeros(len(s)), covariance, 500)
    exact, tensor = normal_log_p(x, covariance).mean(), snn.tensor(x)
    snn.manual_seed(0)
    elbo, five, fifty = (np.mean([f().item() for _ in range(20)]) for f in
                         (lambda: model.elbo(tensor), lambda: model.iwae(tensor, None, 5), lambda: model.iwae(tensor, None, 50)))
    assert elbo < five < fifty < exact and exact - fifty < 0.02 < exact - elbo


def gradients(model, value):
    return np.concatenate([g.numpy().ravel() for g in snn.grad(value, list(model.parameters()))])


def small(seed=0, classes=0, likelihood=None):
    snn.manual_seed(seed)
    likelihood = likelihood or Bernoulli((6,))
    model = VAE(likelihood, 3, (4,), classes=classes).to(dtype=np.float64)
    x = snn.tensor(np.random.default_rng(seed).integers(0, 2, (5, 6)).astype(np.float64))
    return model, x, snn.randn(5, 4, 3, dtype=np.float64)


@pytest.mark.parametrize("bound", [lambda m, x, e: m.elbo(x, noise=e[:, :1]), lambda m, x, e: m.elbo(x, noise=e[:, :1], beta=0.3),
                                   lambda m, x, e: m.elbo(x, noise=e[:, :1], free_bits=0.05), lambda m, x, e: m.iwae(x, None, 4, noise=e),
                                   lambda m, x, e: m.iwae(x, None, 4, noise=e, beta=0.3)])
@pytest.mark.parametrize("likelihood", [None, Gaussian((6,)), Columns(TABLE), DiscretisedLogistic((3, 2, 1))])
def test_gradients_of_the_bounds(bound, likelihood):
    model, x, noise = small(likelihood=likelihood)
    x = snn.tensor(np.resize(ROWS, (5, 6)).astype(np.float64)) if isinstance(likelihood, Columns) else x
    found, v = gradients(model, bound(model, x, noise)), np.random.default_rng(1)
    directions, step, ends = [v.standard_normal(p.shape) for p in model.parameters()], 1e-5, []
    for sign in (1, -2):
        for p, d in zip(model.parameters(), directions, strict=True):
            p.array[:] += sign * step * d
        ends.append(bound(model, x, noise).item())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(found @ np.concatenate([d.ravel() for d in directions]), rel=1e-5)


def test_the_gradient_of_iwae_weights_those_of_its_samples():
    model, x, noise = small()
    log_w = model.log_weights(x, None, 4, noise)
    weighted = (snn.softmax(log_w, 1).detach() * log_w).sum() / len(x)            # what IWAE's gradient is
    np.testing.assert_allclose(gradients(model, model.iwae(x, None, 4, noise=noise)), gradients(model, weighted), rtol=1e-10, atol=1e-13)


def test_one_sample_of_iwae_has_the_gradient_of_the_elbo():
    """In expectation over the noise, which Gauss and Hermite's rule takes exactly where all is quadratic in it."""
    model, W, _ = linear_gaussian(L=1)
    x = snn.tensor(np.random.default_rng(1).standard_normal((4, len(W))))
    at, weight = np.polynomial.hermite_e.hermegauss(6)
    sums = [0, 0]
    for e, w in zip(at, weight / weight.sum(), strict=True):
        noise = snn.full((4, 1, 1), e, dtype=np.float64)
        for i, value in enumerate((model.elbo(x, noise=noise), model.iwae(x, None, 1, noise=noise))):
            sums[i] = sums[i] + w * np.r_[value.item(), gradients(model, value)]
    np.testing.assert_allclose(*sums, rtol=1e-9, atol=1e-9)


def test_beta_and_free_bits():
    model, x, noise = small()
    mean, logvar = model.posterior(x.numpy())
    kl = 0.5 * (mean ** 2 + np.exp(logvar) - 1 - logvar).mean(0)
    noise = noise[:, :1]
    plain = model.elbo(x, noise=noise).item()
    assert plain - model.elbo(x, noise=noise, beta=3).item() == pytest.approx(2 * kl.sum())
    floor = np.sort(kl)[1]                                                        # one of three latents lies below
    assert plain - model.elbo(x, noise=noise, free_bits=floor).item() == pytest.approx(floor - kl.min())


def test_conditional():
    model, x, noise = small(classes=3)
    y = snn.tensor(np.array([0, 1, 2, 0, 1]))
    assert model.iwae(x, y, 4, noise=noise).item() != model.iwae(x, 2 - y, 4, noise=noise).item()
    assert model.log_likelihood(x.numpy(), y.numpy(), 3000).shape == (5,)
    assert not np.allclose(*(model.decode(snn.zeros(1, 3, dtype=np.float64), snn.tensor([c])).detach().numpy() for c in (0, 1)))
    with pytest.raises(ValueError, match="labels are needed"):
        model.elbo(x)
    with pytest.raises(ValueError, match="labels are not taken"):
        small()[0].elbo(x, y)


def test_a_dead_latent_is_not_called_active():
    model, _, _ = linear_gaussian(L=2, dtype=np.float32)
    model.encoder[0].weight.array[1] *= 0.01
    np.testing.assert_array_equal(model.active_units(np.random.default_rng(0).standard_normal((500, 5)).astype(np.float32)), [True, False])


# ---- networks, latents, files -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 12), (1, 28, 28)])
@pytest.mark.parametrize("classes", [0, 2])
def test_convolutions_of_any_size(shape, classes):
    kind = DiscretisedLogistic if shape[0] == 3 else Bernoulli
    model = VAE(kind(shape), 4, channels=(8, 16), classes=classes)
    x = model.likelihood.encode(np.random.default_rng(0).random((6, *shape), np.float32))
    model.begin_at(x)
    rows, y = model.likelihood.observe(snn.tensor(x)), snn.tensor(np.arange(6) % 2) if classes else None
    model.elbo(rows, y).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.reconstruct(rows.numpy(), y if y is None else y.numpy()).shape == (6, *shape)


def test_training_finds_the_density_of_points():
    snn.manual_seed(0)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2000, 1)) * [1.0, -0.8] + rng.standard_normal((2000, 2)) * 0.3).astype(np.float32)
    model = VAE(Gaussian((2,)), 1, (16,))
    optimizer = optim.Adam(model.parameters(), 0.01)
    for step in range(600):
        optimizer.zero_grad()
        (-model.elbo(snn.tensor(x[step % 10 * 200:][:200]))).backward()
        optimizer.step()
    exact = normal_log_p(x.astype(np.float64), np.cov(x.T)).mean()
    assert model.log_likelihood(x, samples=200).mean() == pytest.approx(exact, abs=0.05)


def test_interpolation_keeps_to_the_sphere():
    rng = np.random.default_rng(0)
    start, end = rng.standard_normal((2, 4, 50)).astype(np.float32)
    path = interpolate(start, end, 7)
    np.testing.assert_allclose(path[0], start, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(path[-1], end, rtol=1e-4, atol=1e-5)
    lengths = [np.linalg.norm(v, axis=1) for v in (start, path[3], end)]
    np.testing.assert_allclose(lengths[1], (lengths[0] + lengths[2]) / 2, rtol=1e-4)
    assert np.isfinite(interpolate(start, start, 3)).all() and np.isfinite(interpolate(0 * start, end, 3)).all()


def test_traversal_moves_one_latent_at_a_time():
    z = traverse(np.arange(4), [2, 0], [-1, 5])
    np.testing.assert_array_equal(z, [[[0, 1, -1, 3], [0, 1, 5, 3]], [[-1, 1, 2, 3], [5, 1, 2, 3]]])


@pytest.mark.parametrize("likelihood, options", [
    (Bernoulli((1, 4, 4)), {"channels": (2,), "classes": 3}), (Gaussian((2,), [1, 2], [3, 4]), {"hidden": (5,), "activation": "SiLU"}),
    (Columns(TABLE), {"hidden": (5,)}), (DiscretisedLogistic((3, 4, 4)), {"hidden": (5,)})])
def test_files(tmp_path, likelihood, options):
    model, x, y = VAE(likelihood, 2, **options), np.zeros((4, *likelihood.shape), np.float32), np.array([1, 2, 1, 1])
    save_vae(tmp_path / "w.safetensors", model, data.DataSet("made", x, y, x, y, ("a", "b", "c"), x.shape[1:], target="kind"))
    (again, classes, target), y = load_vae(tmp_path / "w.safetensors"), y[:2] if options.get("classes") else None
    assert classes == ({"a": 0, "b": 0.75, "c": 0.25} if options.get("classes") else {}) and target == "kind"
    z = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(again.generate(z, y, draw=True, generator=Generator(0)),
                                  model.generate(z, y, draw=True, generator=Generator(0)))


def test_other_files_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"a": np.zeros(3)})
    with pytest.raises(CheckpointError, match="without the description of a vae"):
        load_vae(tmp_path / "w.safetensors")
    model = VAE(Bernoulli((4,)), 2)
    save_weights(tmp_path / "w.safetensors", model.state_dict(),
                 {"vae": '{"kind": "Bernoulli", "likelihood": {"shape": [5]}, "options": {"latent": 2}}'})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_vae(tmp_path / "w.safetensors")
