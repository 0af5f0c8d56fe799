"""scikit-learn's interface: a restricted Boltzmann machine of this library as an estimator, for its pipelines and searches.

    from scratchnn.sklearn import BernoulliRBM
    make_pipeline(BernoulliRBM(n_components=100, random_state=0), LogisticRegression()).fit(X, y)

This module alone imports scikit-learn; nothing else in the library imports this module.
"""

from __future__ import annotations

import time
import warnings
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state, gen_batches, gen_even_slices
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("scratchnn.sklearn needs scikit-learn 1.6 or later: pip install 'scikit-learn>=1.6'") from error

import kernels
from scratchnn import nn
from scratchnn.models.rbm import RBM
from scratchnn.models.rbm.units import is_binary
from scratchnn.random import Generator

ROWS = 1000                # rows of sparse data that are made dense at a time


class BernoulliRBM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Restricted Boltzmann machine with Bernoulli units, in place of sklearn.neural_network.BernoulliRBM and learning as that does:
    PCD-1, with persistent chains of hidden units that start at 0 (Tieleman 2008), over the batches in order.

    n_components   hidden units                 batch_size     examples in a step, and chains
    learning_rate  of the mean gradient         n_iter         passes over the data
    verbose        print a line after each      random_state   int, RandomState or None: an int makes everything repeatable

    X may be sparse. Its numbers are probabilities of being 1; fit, partial_fit and gibbs draw them anew each time, transform and
    score_samples take them as they are. Numbers beyond [0, 1] are clipped, with a UserWarning. Learning takes place in float32, whose
    rounding is far below the noise of the draws; transform and score_samples compute in the precision of X, float32 or float64.

    Fitted: components_ (n_components, n_features), intercept_hidden_, intercept_visible_, h_samples_ (batch_size, n_components), the
    chains; n_features_in_ and feature_names_in_. Different from scikit-learn's: X is drawn (there it is taken for its mean), a batch of
    another size than the chains weighs as much as they do (there sums are subtracted, not means), score_samples is exact.
    """

    def __init__(self, n_components=256, *, learning_rate=0.1, batch_size=10, n_iter=10, verbose=0, random_state=None):
        self.n_components, self.learning_rate, self.batch_size = n_components, learning_rate, batch_size
        self.n_iter, self.verbose, self.random_state = n_iter, verbose, random_state

    def fit(self, X, y=None):
        """Learn from X (n_samples, n_features), from new weights on. Returns the estimator."""
        X = self._validated(X, np.float32, reset=True)
        self._start(X.shape[1])
        rbm, binary, count = self.to_rbm(), _is_binary(X), -(-X.shape[0] // self.batch_size)
        batches = list(gen_even_slices(count * self.batch_size, count, n_samples=X.shape[0]))
        for iteration in range(1, self.n_iter + 1):
            begin = time.perf_counter()
            for rows in batches:
                v = self._drawn(X[rows], binary)
                self._step(rbm, v)
            if self.verbose:
                print(f"[{type(self).__name__}] Iteration {iteration}, pseudo-likelihood of the last batch = "
                      f"{_pseudo_log_likelihood(rbm, v).mean():.2f}, time = {time.perf_counter() - begin:.2f}s")
        return self

    def partial_fit(self, X, y=None):
        """One step of learning, with X (n_samples, n_features) as the batch. Returns the estimator."""
        first = not hasattr(self, "components_")
        X = self._validated(X, np.float32, reset=first)
        if first:
            self._start(X.shape[1])
        self._step(self.to_rbm(), self._drawn(X, _is_binary(X)))
        return self

    def transform(self, X):
        """p(h = 1 | v = X): (n_samples, n_features) -> (n_samples, n_components)."""
        return self._by_rows(RBM.hidden_probabilities, X)

    def gibbs(self, v):
        """Visible units after one step of Gibbs sampling from v: (n_samples, n_features) -> the same, booleans."""
        check_is_fitted(self)
        v = self._validated(v, np.float32)
        return self.to_rbm().gibbs(self._drawn(v, _is_binary(v)), 1, self.generator_) != 0

    def score_samples(self, X):
        """log-pseudo-likelihood, the sum over all features of log p(x_i | the others): (n_samples, n_features) -> (n_samples,).

        scikit-learn's draws one feature of each sample; this is that estimate's mean, and takes n_features times as long.
        """
        return self._by_rows(_pseudo_log_likelihood, X)

    def to_rbm(self) -> RBM:
        """The machine as the library's RBM, which shares the estimator's arrays: for longer chains, log Z and so on."""
        check_is_fitted(self)
        rbm = RBM(self.n_features_in_, len(self.components_), Generator(0))
        rbm.weight = nn.Parameter(self.components_.T)
        rbm.visible_bias, rbm.hidden_bias = nn.Parameter(self.intercept_visible_), nn.Parameter(self.intercept_hidden_)
        return rbm

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _start(self, features):
        """New weights and chains."""
        for name, low in (("n_components", 1), ("batch_size", 1), ("n_iter", 0)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < low:
                raise ValueError(f"BernoulliRBM: {name} must be a whole number from {low} on, got {value!r}")
        if not isinstance(self.learning_rate, Real) or not self.learning_rate > 0:
            raise ValueError(f"BernoulliRBM: learning_rate must be a positive number, got {self.learning_rate!r}")
        self.generator_ = Generator(int(check_random_state(self.random_state).randint(2 ** 31 - 1)))
        rbm = RBM(features, self.n_components, self.generator_)
        self.components_ = rbm.weight.array.T
        self.intercept_hidden_, self.intercept_visible_ = rbm.hidden_bias.array, rbm.visible_bias.array
        self.h_samples_ = np.zeros((self.batch_size, self.n_components), np.float32)
        self._n_features_out = self.n_components

    def _step(self, rbm, v):
        """PCD-1 with states v (B, V): the chains are hidden units, so that the next ones are drawn from the probabilities that the
        gradient needs. Data and chains go through the weights as one batch."""
        B, model = len(v), rbm.sample_visible(self.h_samples_, self.generator_)
        states = np.concatenate([v, model])
        h, p = rbm.sample_hidden(states, self.generator_, probabilities=True)
        self.h_samples_ = h[B:]
        share = np.full((1, len(states)), 1 / len(model), np.float32)
        share[:, :B] = -1 / B
        gradients = [kernels.rbm_statistics(model, p[B:], v, p[:B]), kernels.matmul(share, states)[0], kernels.matmul(share, p)[0]]
        kernels.sgd([rbm.weight.array, rbm.visible_bias.array, rbm.hidden_bias.array], gradients, None, self.learning_rate)

    def _validated(self, X, dtype=(np.float64, np.float32), reset=False):
        X = validate_data(self, X, accept_sparse="csr", dtype=dtype, reset=reset)
        values = X.data if issparse(X) else X
        low, high = values.min(initial=0), values.max(initial=0)
        if low < 0 or high > 1:
            warnings.warn(f"BernoulliRBM takes numbers from 0 to 1, got numbers from {low:.6g} to {high:.6g}: clipped. Scale them, for "
                          "example with sklearn.preprocessing.minmax_scale", stacklevel=3)
            X = X.copy()
            values = X.data if issparse(X) else X
            np.clip(values, 0, 1, out=values)
        return X

    def _drawn(self, X, binary):
        """Rows of the data as states: dense, and 1 with the probabilities that they hold."""
        X = _dense(X)
        return X if binary else kernels.bernoulli(*self.generator_.take(kernels.blocks(X.size)), X)

    def _by_rows(self, function, X):
        """function(rbm, v) of all rows, in the data's dtype."""
        check_is_fitted(self)
        X = self._validated(X)
        rbm = self.to_rbm().to(dtype=X.dtype)
        return np.concatenate([function(rbm, _dense(X[rows])) for rows in gen_batches(X.shape[0], ROWS)])


def _dense(X):
    return X.toarray() if issparse(X) else X


def _is_binary(X):
    return is_binary(X.data if issparse(X) else X)


def _pseudo_log_likelihood(rbm: RBM, v: np.ndarray) -> np.ndarray:
    """(N, V) -> (N,): the sum over all i of log sigmoid(F(v with 1 - v_i in place of v_i) - F(v)).

    Such a change moves the hidden inputs by a row of W, so no product is made anew: 2 N V H operations and N V H softplus.
    """
    W, a, inputs = rbm.weight.array, rbm.visible_bias.array, rbm.hidden_input(v)
    own, found = kernels.softplus(inputs, 1.0, 20.0).sum(1), np.empty(len(v), v.dtype)
    for n, change in enumerate(1 - 2 * v):
        moved = change[:, None] * W
        moved += inputs[n]
        difference = own[n] - change * a - kernels.softplus(moved, 1.0, 20.0).sum(1)         # (V,)
        found[n] = -np.logaddexp(0, -difference).sum(dtype=np.float64)
    return found
