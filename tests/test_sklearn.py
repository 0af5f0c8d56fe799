"""The estimator with scikit-learn's interface: scikit-learn's own checks, and its own machine as the truth."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import scratchnn as snn
from scratchnn.models.rbm import RBM, ContrastiveDivergence

pytest.importorskip("sklearn")
from sklearn.neural_network import BernoulliRBM as Theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

from scratchnn.sklearn import BernoulliRBM


@parametrize_with_checks([BernoulliRBM(n_components=8, n_iter=2)])
@pytest.mark.filterwarnings("ignore:BernoulliRBM takes numbers from 0 to 1:UserWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def X(rng):
    return (rng.random((40, 12)) < 0.4).astype(np.float64)


def test_gradient_is_scikit_learns_given_its_draws(X, monkeypatch):
    theirs, drawn = Theirs(n_components=7, batch_size=40, learning_rate=0.3, random_state=0), []
    theirs.partial_fit(X)                                                     # chains that are not all zeros
    ours = BernoulliRBM(n_components=7, batch_size=40, learning_rate=0.3, random_state=0).fit(X)
    ours.components_ = np.asfortranarray(theirs.components_, np.float32)
    ours.intercept_hidden_, ours.intercept_visible_ = (getattr(theirs, f"intercept_{k}_").astype(np.float32) for k in ("hidden", "visible"))
    rbm, before = ours.to_rbm().to(dtype=np.float64), theirs.components_.copy()
    for p, exact in zip(rbm.parameters(), (before.T, theirs.intercept_visible_, theirs.intercept_hidden_), strict=True):
        p.array[:] = exact

    sample = Theirs._sample_visibles
    monkeypatch.setattr(Theirs, "_sample_visibles", lambda self, h, rng: drawn.append(sample(self, h, rng)) or drawn[-1])
    biases = theirs.intercept_visible_.copy(), theirs.intercept_hidden_.copy()
    theirs.partial_fit(X)
    model = drawn[0].astype(np.float64)
    ContrastiveDivergence(rbm)._set(X, rbm.hidden_probabilities(X), model, rbm.hidden_probabilities(model))
    for p, new, old in ((rbm.weight, theirs.components_.T, before.T), (rbm.visible_bias, theirs.intercept_visible_, biases[0]),
                        (rbm.hidden_bias, theirs.intercept_hidden_, biases[1])):
        np.testing.assert_allclose(-0.3 * p.grad.array, new - old, rtol=1e-9, atol=1e-13)

    monkeypatch.setattr(RBM, "sample_visible", lambda self, h, generator: model.astype(np.float32))
    ours.partial_fit(X)
    for name in ("components_", "intercept_visible_", "intercept_hidden_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-7, err_msg=name)


def test_transform_and_free_energies_are_scikit_learns(X):
    ours, theirs = BernoulliRBM(n_components=7, random_state=0).fit(X), Theirs(n_components=7).fit(X)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(theirs, name, getattr(ours, name).astype(np.float64))
    v = X * 0.8 + 0.1
    np.testing.assert_allclose(ours.transform(v), theirs.transform(v), rtol=1e-12)
    flips = np.where(np.eye(12, dtype=bool), 1 - v[:, None], v[:, None])                          # (N, V, V)
    energies = theirs._free_energy(flips.reshape(-1, 12)).reshape(-1, 12) - theirs._free_energy(v)[:, None]
    np.testing.assert_allclose(ours.score_samples(v), -np.logaddexp(0, -energies).sum(1), rtol=1e-10)


@pytest.mark.parametrize("values", [0.5, 1.0])                                # probabilities, and binary states
def test_the_same_random_state_gives_the_same_machine(X, values):
    def run(data):
        model = BernoulliRBM(n_components=7, n_iter=3, random_state=3).fit(data)
        return [model.components_, model.h_samples_, model.gibbs(X), model.gibbs(X), model.partial_fit(data).intercept_visible_]

    X = X * values
    for data in (X, X.astype(np.float32), csr_matrix(X)):
        assert all(np.array_equal(a, b) for a, b in zip(run(X), run(data), strict=True))
    assert not np.array_equal(run(X)[2], run(X)[3])
    assert not np.array_equal(run(X)[0], BernoulliRBM(n_components=7, n_iter=3, random_state=4).fit(X).components_)


def test_one_and_two_threads_learn_the_same(rng):
    X, threads = (rng.random((200, 300)) < 0.4).astype(np.float32), snn.get_num_threads()
    machines = []
    for count in (1, threads):
        snn.set_num_threads(count)
        machines.append(BernoulliRBM(n_components=150, batch_size=100, n_iter=2, random_state=0).fit(X).components_)
    snn.set_num_threads(threads)
    assert np.array_equal(*machines)


def test_probabilities_are_drawn_anew(rng):
    half = np.full((2000, 3), 0.5)
    model = BernoulliRBM(n_components=2, random_state=0).fit(half)
    drawn = model._drawn(half.astype(np.float32), False)
    assert set(np.unique(drawn)) == {0, 1} and abs(drawn.mean() - 0.5) < 0.03
    assert not np.array_equal(drawn, model._drawn(half.astype(np.float32), False))


def test_it_learns_what_belongs_together(rng):
    x = rng.integers(0, 2, (500, 3)).repeat(3, 1).astype(float)               # three features that each stand there three times
    model = BernoulliRBM(n_components=12, learning_rate=0.1, n_iter=60, random_state=0).fit(x)
    broken = x.copy()
    broken[:, 4] = 1 - broken[:, 4]
    assert model.score_samples(x).mean() > -0.7 and model.score_samples(broken).mean() < -3


def test_pickling_keeps_everything(X):
    model = BernoulliRBM(n_components=7, n_iter=3, random_state=3).fit(X)
    again = pickle.loads(pickle.dumps(model))
    for m in (model, again):
        m.partial_fit(X)
    assert np.array_equal(model.components_, again.components_) and np.array_equal(model.gibbs(X), again.gibbs(X))


def test_errors(X):
    with pytest.warns(UserWarning, match="numbers from 0 to 1, got numbers from 0 to 2: clipped"):
        BernoulliRBM(n_components=2, n_iter=1).fit(2 * X)
    for options, message in (({"n_components": 0}, "n_components must be a whole number from 1 on, got 0"),
                             ({"batch_size": 1.5}, "batch_size must be a whole number from 1 on, got 1.5"),
                             ({"learning_rate": 0}, "learning_rate must be a positive number, got 0")):
        with pytest.raises(ValueError, match=message):
            BernoulliRBM(**options).fit(X)


def test_verbose_says_how_it_goes(X, capsys):
    BernoulliRBM(n_components=2, n_iter=2, verbose=1).fit(X)
    assert capsys.readouterr().out.count("pseudo-likelihood of the last batch = -") == 2


def test_scikit_learn_is_imported_only_when_used():
    code = ("import sys, scratchnn, scratchnn.models.rbm\nassert 'sklearn' not in sys.modules\nsys.modules['sklearn'] = None\n"
            "try: import scratchnn.sklearn\nexcept ImportError as error: assert 'pip install' in str(error)\nelse: sys.exit(1)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
