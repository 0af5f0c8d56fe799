"""The VAE-GAN: which gradient reaches which network, attributes, files."""

import copy

import numpy as np
import pytest

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import data
from scratchnn.checkpoint import CheckpointError
from scratchnn.data.dataset import DataSet
from scratchnn.data.table import Categorical, Numeric, Table
from scratchnn.models.gan import Columns, Pictures, Points, save_gan
from scratchnn.models.vaegan import ABLATIONS, VAEGAN, attribute_vectors, attributes_of, load_vaegan, save_vaegan
from scratchnn.random import Generator

TABLE = Table((Numeric("age", 40.0, 10.0, True, True), Categorical("town", ("", "Bern", "Rom")), Numeric("pay", 3.0, 0.5, False, False)))
NETWORKS = ("encoder", "generator", "discriminator")


def made(kind="pictures", dtype=np.float64, **options):
    """(model, examples, noise behind z, noise of the prior)."""
    snn.manual_seed(0)
    shape, networks = {"pictures": ((1, 8, 8), {"channels": [4, 6], "hidden": [10]}), "rows": ((5,), {"hidden": [12, 8]})}[kind]
    look = Pictures(shape) if kind == "pictures" else Points(shape, np.zeros(5), np.ones(5))
    model = VAEGAN(look, 3, **networks, **options).to(dtype=dtype)
    return model, *(snn.randn(6, *size, dtype=dtype, generator=Generator(i)) for i, size in enumerate((shape, (3,), (3,))))


def gradients(model, *given):
    """Of each network, as one array, after `backward`."""
    model.backward(*given)
    return {name: np.concatenate([p.grad.numpy().ravel() for p in getattr(model, name).parameters()]) for name in NETWORKS}


def changed(before, after):
    return {name for name in NETWORKS if not np.allclose(before[name], after[name], rtol=1e-9, atol=1e-12)}


@pytest.mark.parametrize("kind", ["pictures", "rows"])
@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
def test_the_game_reaches_generator_and_discriminator_alone(kind, game):
    model, *given = made(kind, game=game, layer=2)
    before = gradients(model, *given)
    model.discriminator.output.weight.array[:] *= -1.5                               # behind the layer whose features are compared
    assert changed(before, gradients(model, *given)) == {"generator", "discriminator"}
    assert changed(gradients(model, *given), gradients(made(kind, game=game, layer=2, ablations=["gan-into-encoder"])[0], *given)) == {
        "encoder", "generator", "discriminator"}                                      # whose weights are those of before


def test_similarity_and_prior_reach_whom_they_should():
    model, *given = made()
    before = gradients(model, *given)
    model.gamma *= 2
    assert changed(before, gradients(model, *given)) == {"generator"}
    model.gamma /= 2
    model.beta *= 2
    assert changed(before, gradients(model, *given)) == {"encoder"}
    losses = model.backward(*given)
    parameters = list(model.encoder.parameters())
    with pytest.raises(RuntimeError, match="do not depend"):                          # reconstructions are cut off from the encoder
        snn.grad(losses.game, parameters[:1], retain_graph=True)


def test_the_encoder_learns_as_if_there_were_no_game():
    """Prior and similarity, derived in one go through one undivided graph."""
    model, x, noise, prior = made(layer=2)
    found = gradients(model, x, noise, prior)["encoder"]
    mean, logvar = model.encode(x)
    trunk = model.discriminator.features[:model.depth]
    decoded = model.make(mean + snn.exp(logvar / 2) * noise)
    loss = (F.gaussian_kl(mean, logvar) + 0.5 * (trunk(decoded) - trunk(x)).square().sum()) / len(x)
    expected = snn.grad(loss, list(model.encoder.parameters()))
    np.testing.assert_allclose(found, np.concatenate([g.numpy().ravel() for g in expected]), rtol=1e-9, atol=1e-12)


def test_ablations_change_what_they_name():
    model, *given = made(layer=2)
    before = gradients(model, *given)
    reached = {name: changed(before, gradients(made(layer=2, ablations=[name])[0], *given)) for name in ABLATIONS}
    assert reached == {"pixels": {"encoder", "generator"}, "no-reconstructions": {"generator", "discriminator"},
                       "gan-into-encoder": {"encoder"}, "joint": {"encoder", "discriminator"}}


@pytest.mark.parametrize("options", [{"layer": 0}, {"layer": 4}, {"game": "hinge"}, {"ablations": ["all"]}])
def test_options_that_cannot_be(options):
    with pytest.raises(ValueError, match="layer is 1 to 3, game one of"):
        made(**options)


def test_categories_of_tables_are_drawn_and_learnt():
    model = VAEGAN(Columns(TABLE), 2, [8])
    x = TABLE.encode([np.array([30, np.nan, 50]), ["Bern", "", "Rom"], np.array([3.0, 2.5, 4.0])])
    model.backward(snn.from_numpy(x))
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())
    rows = model.reconstruct(x, Generator(0))
    assert rows.shape == x.shape and (rows[:, 2:5].sum(1) == 1).all()
    np.testing.assert_array_equal(rows, model.reconstruct(x, Generator(0)))


# ---- attributes -------------------------------------------------------------------------------------------------------

def test_attribute_vectors_lead_from_those_without_to_those_with():
    z, has = np.random.default_rng(0).standard_normal((50, 3)), np.arange(50) % 3 == 0
    z[has] += [2, 0, -1]
    found = attribute_vectors(z, {"third": has, "all": has | ~has, "none": has & ~has})
    assert list(found) == ["third"]
    np.testing.assert_allclose(z[~has].mean(0) + found["third"], z[has].mean(0))


def test_attributes_of_labels_and_columns():
    x = TABLE.encode([np.array([30, np.nan, 50, 60]), ["Bern", "", "Rom", "Rom"], np.array([3.0, 2.5, 4.0, 1.0])])
    y = np.array([0, 1, 1, 0])
    found = attributes_of(DataSet("made", x, y, x, y, ("no", "yes"), x.shape[1:], TABLE), x, y)
    assert {name: has.tolist() for name, has in found.items()} == {
        "no": [True, False, False, True], "yes": [False, True, True, False], "age high": [False, False, False, True],
        "town=": [False, True, False, False], "town=Bern": [True, False, False, False], "town=Rom": [False, False, True, True],
        "pay high": [True, False, True, False]}
    assert list(attributes_of(data.load("moons"), data.load("moons").train_x, data.load("moons").train_y)) == list(
        data.load("moons").classes)


# ---- files --------------------------------------------------------------------------------------------------------------

def test_files_go_forth_and_back(tmp_path):
    model, x, *_ = made(dtype=np.float32, layer=1, ablations=["pixels"])
    save_vaegan(tmp_path / "w.safetensors", model)
    other = load_vaegan(tmp_path / "w.safetensors")
    assert other.options == model.options and other.ablations == {"pixels"}
    x = x.numpy()
    np.testing.assert_array_equal(other.reconstruct(x), model.reconstruct(x))
    save_gan(tmp_path / "gan.safetensors", copy.copy(model), DataSet("made", x, None, x, None, (), x.shape[1:]))
    with pytest.raises(CheckpointError, match="description of a vaegan"):
        load_vaegan(tmp_path / "gan.safetensors")
