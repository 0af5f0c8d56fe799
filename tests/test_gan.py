"""Generative adversarial networks: what each network learns from, how examples look, the watch against made games."""

import copy
import json

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import data, nn, optim
from scratchnn.checkpoint import CheckpointError, save_weights
from scratchnn.data.table import Categorical, Numeric, Table
from scratchnn.metrics.digits import digit_probabilities
from scratchnn.metrics.judge import stacked_modes
from scratchnn.models.gan import (
    GAN,
    Columns,
    Pictures,
    Points,
    Watch,
    examples_for,
    load_gan,
    save_gan,
)
from scratchnn.models.gan.examples import KINDS, TEMPERATURE, choice
from scratchnn.models.gan.model import Discriminator, MinibatchDeviation, frozen
from scratchnn.random import Generator
from scratchnn.testing import check_gradients

TABLE = Table((Numeric("age", 40.0, 10.0, True, True), Categorical("town", ("", "Bern", "Rom")), Numeric("pay", 3.0, 0.5, False, False)))
ROWS = np.array([[0.5, 0, 0, 1, 0, -1], [0, 1, 0, 0, 1, 0.3], [-1, 0, 1, 0, 0, 2]], np.float32)
POINTS = Points((3,), [1, 2, 3], [4, 5, 6])


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- networks ---------------------------------------------------------------------------------------------------------

def test_packs_are_judged_together():
    network = Discriminator((2,), (8,), packing=3)
    x = numbers(6, 2).astype(np.float32)
    before = network(snn.tensor(x)).array
    assert before.shape == (2,)
    for i in range(6):
        moved = x.copy()
        moved[i] += 1
        np.testing.assert_array_equal(network(snn.tensor(moved)).array != before, np.arange(2) == i // 3)
    with pytest.raises(ValueError, match="5 examples do not make packs of 3"):
        network(snn.tensor(x[:5]))


def test_packs_of_pictures_lie_in_channels():
    network = Discriminator((1, 8, 8), channels=(4,), packing=2)
    assert network.features[0].weight.shape == (4, 2, 4, 4) and network(snn.zeros(6, 1, 8, 8)).shape == (3,)


def test_minibatch_deviation():
    x = snn.tensor(numbers(6, 4)).requires_grad_()
    found = MinibatchDeviation()(x)
    np.testing.assert_allclose(found.array, np.c_[x.array, np.full(6, np.sqrt(x.array.var(0) + 1e-8).mean())])
    check_gradients(MinibatchDeviation(), x)
    alike = snn.ones(6, 4).requires_grad_()
    MinibatchDeviation()(alike).sum().backward()
    assert np.isfinite(alike.grad.array).all()
    network = Discriminator((4,), (8,), deviation=True)
    same, other = (snn.tensor([[1.0, 2, 3, 4], [last, 2, 3, 4]]) for last in (1.0, 9.0))
    assert network(same).array[0] != network(other).array[0]                    # the same example in another batch
    assert Discriminator((4,), deviation=True)(same).shape == (2,)


def test_weights_are_clipped():
    network = Discriminator((3,), (8,), conditions=2)
    x = snn.tensor(numbers(4, 3).astype(np.float32)).requires_grad_()
    loss = network(x, snn.tensor([0, 1, 0, 1])).sum()
    network.clip_weights(0.05)
    assert {abs(p.array).max() for p in (network.features[1].weight, network.condition.weight)} == {np.float32(0.05)}
    with pytest.raises(RuntimeError, match=r"changed"):                    # a gradient would be of other weights
        loss.backward()


def test_gradients_flow_through_a_frozen_module():
    layer, x = nn.Linear(2, 1), snn.ones(3, 2).requires_grad_()
    with frozen(layer):
        layer(x).sum().backward()
    np.testing.assert_allclose(x.grad.array, np.tile(layer.weight.array, (3, 1)))
    assert layer.weight.grad is None and layer.weight.requires_grad
    with pytest.raises(KeyError), frozen(layer):
        raise KeyError
    assert layer.weight.requires_grad


# ---- examples -----------------------------------------------------------------------------------------------------------

def test_a_choice_is_one_of_all_with_the_gradient_of_a_softmax():
    logits = snn.tensor(numbers(50, 4)).requires_grad_()
    drawn, g = choice(logits, Generator(3)), numbers(50, 4, seed=1)
    np.testing.assert_allclose(drawn.array, np.eye(4)[drawn.array.argmax(1)], atol=1e-12)
    drawn.backward(snn.tensor(g))
    u = snn.rand(logits.shape, dtype=np.float64, generator=Generator(3)).array
    again = snn.tensor(logits.array.copy()).requires_grad_()
    snn.softmax((again - snn.tensor(np.log(-np.log(u)))) / TEMPERATURE, 1).backward(snn.tensor(g))
    np.testing.assert_allclose(logits.grad.array, again.grad.array, rtol=1e-9, atol=1e-12)


def test_choices_are_as_frequent_as_they_are_probable():
    p, count = np.array([0.5, 0.3, 0.15, 0.05]), 20000
    drawn = choice(snn.tensor(np.tile(np.log(p) + 7, (count, 1)).astype(np.float32)), Generator(0)).array
    chi_square = ((drawn.sum(0) - count * p) ** 2 / (count * p)).sum()
    assert chi_square < 16.3                                                       # three degrees of freedom: 0.1 % lie above
    assert np.isfinite(choice(snn.tensor([[1e4, -1e4, 0.0]]), Generator(0)).array).all()


def test_columns_with_missing_numbers():
    look, count = Columns(TABLE), 20000
    output = snn.tensor(np.tile(np.array([1.5, np.log(1 / 3), 0, np.log(3), np.log(4), -2], np.float32), (count, 1))).requires_grad_()
    drawn = look.finish(output, Generator(0))
    rows = drawn.array
    np.testing.assert_allclose(rows.mean(0), [1.5 * 0.75, 0.25, 1 / 8, 3 / 8, 4 / 8, -2], atol=0.02)
    missing = rows[:, 1] > 0.5
    assert (rows[missing, 0] == 0).all() and np.allclose(rows[~missing, 0], 1.5)    # as the table encodes them
    np.testing.assert_allclose(TABLE.encode(list(TABLE.inverse(rows).values()))[:, [1, 2, 3, 4]], rows[:, [1, 2, 3, 4]], atol=1e-6)
    drawn[:, 0].sum().backward()
    np.testing.assert_allclose(output.grad.array[:, 0], ~missing, atol=1e-6)     # nothing is learnt of numbers that are not there
    assert list(look.cells(rows)) == ["age", "town", "pay"]


@pytest.mark.parametrize("look, x", [(Pictures((1, 4, 4)), np.random.default_rng(0).random((3, 1, 4, 4), np.float32)),
                                     (Columns(TABLE), ROWS), (POINTS, (100 * numbers(3, 3)).astype(np.float32))])
def test_examples_go_forth_and_back(look, x):
    np.testing.assert_allclose(look.decode(look.encode(x)), x, rtol=1e-5, atol=1e-6)
    made = look.finish(snn.tensor(numbers(3, look.size).astype(np.float32)), Generator(0))
    assert made.shape == x.shape
    again = KINDS[type(look).__name__](**json.loads(json.dumps(look.options())))
    np.testing.assert_array_equal(again.encode(x), look.encode(x))


def made_set(x, y=None, classes=(), **options):
    return data.DataSet("made", x, y, x, y, classes, x.shape[1:], **options)


def test_each_kind_of_data_gets_its_look():
    rng = np.random.default_rng(0)
    pictures = rng.random((5, 3, 4, 4), np.float32)
    assert isinstance(examples_for(made_set(pictures)), Pictures) and isinstance(examples_for(made_set(ROWS, table=TABLE)), Columns)
    assert np.abs(Pictures((3, 4, 4)).encode(pictures)).max() <= 1
    x = rng.normal([3, -100], [0.1, 20], (50, 2)).astype(np.float32)
    look = examples_for(made_set(x))
    np.testing.assert_allclose([look.encode(x).mean(0), look.encode(x).std(0)], [[0, 0], [1, 1]], atol=1e-4)
    assert list(look.cells(x)) == ["x1", "x2"]
    with pytest.raises(data.DataError, match=r"from 0 to 1, not from 2 to 2"):
        examples_for(made_set(np.full((5, 1, 2, 2), 2, np.float32)))


def test_a_column_of_points_that_never_changes():
    x = np.c_[numbers(100), np.full(100, 3.3)].astype(np.float32)
    look = examples_for(made_set(x))
    assert np.abs(look.encode(x)[:, 1]).max() < 1
    np.testing.assert_allclose(look.decode(numbers(100, 2).astype(np.float32))[:, 1], 3.3, rtol=1e-5)


# ---- the model ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"classes": 3}, {"classes": 3, "auxiliary": True}, {"loss": "feature-matching"},
                                     {"spectral": True}, {"penalty": "gradient"}, {"deviation": True}, {"packing": 2}])
@pytest.mark.parametrize("shape", [(3, 7, 12), (6,)])
def test_each_network_learns_from_its_own_loss(shape, options):
    snn.manual_seed(0)
    layers = {"channels": (4, 8)} if len(shape) == 3 else {"hidden": (8, 8)}
    model = GAN(Pictures(shape) if len(shape) == 3 else Columns(TABLE), 4, **layers, **options)
    real = snn.tensor(np.resize(ROWS, (4, 6)) if len(shape) == 1 else np.tanh(numbers(4, *shape)).astype(np.float32))
    y = snn.tensor([0, 1, 2, 0]) if model.classes else None
    loss, on_real, on_drawn, made = model.discriminator_loss(real, y)
    assert made.shape == real.shape and on_real.shape == on_drawn.shape == (4 // options.get("packing", 1),)
    if model.penalty != "none":
        loss = loss + model.slope_penalty(real, made, y)
    loss.backward()
    assert all(p.grad is not None for p in model.discriminator.parameters()) and not made.requires_grad
    assert all(p.grad is None for p in model.generator.parameters())
    before = [p.grad.array.copy() for p in model.discriminator.parameters()]
    model.generator_loss(real, y).backward()
    for p, g in zip(model.discriminator.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.grad.array, g)
        assert p.requires_grad
    grads = [p.grad.array for p in model.generator.parameters()]
    assert all(np.isfinite(g).all() for g in grads) and any(g.any() for g in grads)
    assert np.isfinite(model.sample(5, np.arange(5) % 3 if model.classes else None)).all()


def test_the_discriminator_of_a_penalty_has_no_batch_norm():
    def kinds(network):
        return {type(layer).__name__ for layer in network.modules()}
    for options in ({"penalty": "r1"}, {"penalty": "gradient"}, {"spectral": True}, {"batch_norm": False}):
        assert "BatchNorm2d" not in kinds(GAN(Pictures((1, 8, 8)), 4, channels=(4, 8), **options).discriminator)
    assert "BatchNorm2d" in kinds(GAN(Pictures((1, 8, 8)), 4, channels=(4, 8)).discriminator)


def test_conditional():
    snn.manual_seed(0)
    model, x = GAN(POINTS, 4, (8,), classes=3), snn.tensor(numbers(6, 3).astype(np.float32))
    y = snn.tensor(np.arange(6) % 3)
    network, features = model.discriminator, model.discriminator.embed(x)
    projected = network.output(features).array[:, 0] + (network.condition.weight.array[y.array] * features.array).sum(1)
    np.testing.assert_allclose(network(x, y).array, projected, rtol=1e-5, atol=1e-6)      # Miyato & Koyama 2018, equation 3
    z = snn.randn(1, 4).expand(3, 4)
    made = model.make(z, snn.tensor([0, 1, 2])).array
    assert not np.allclose(made[0], made[1]) and not np.allclose(made[1], made[2])
    with pytest.raises(ValueError, match="labels are needed"):
        model.draw(3)
    with pytest.raises(ValueError, match="labels are not taken"):
        GAN(POINTS, 4, (8,)).draw(3, snn.tensor([0, 1, 2]))


def test_auxiliary():
    snn.manual_seed(0)
    model, real, y = GAN(POINTS, 4, (8,), classes=3, auxiliary=True, batch_norm=False), snn.tensor(numbers(6, 3).astype(np.float32)), None
    y = snn.tensor(np.arange(6) % 3)
    loss, on_real, on_drawn, made = model.discriminator_loss(real, y)
    log_p = [snn.log_softmax(model.discriminator.class_logits(model.discriminator.embed(x)), 1).array for x in (real, made)]
    told = (np.log1p(np.exp(-on_real.array)) + np.log1p(np.exp(on_drawn.array))).mean()
    assert loss.item() == pytest.approx(told - sum(p[np.arange(6), y.array].mean() for p in log_p), rel=1e-5)
    assert model.discriminator.condition is None
    before = model.discriminator.class_logits(model.discriminator.embed(made))
    snn.manual_seed(1)
    plain = model.loss.generator(model.discriminator(model.draw(6, y)))
    snn.manual_seed(1)
    assert model.generator_loss(real, y).item() != plain.item() and before.shape == (6, 3)


@pytest.mark.parametrize("options, message", [
    ({"loss": "tight"}, r"loss is one of minimax.*'tight'"), ({"penalty": "r2"}, "'r2'"),
    ({"packing": 2, "classes": 3}, "packs have no class"), ({"auxiliary": True}, "needs classes")])
def test_what_does_not_fit_together(options, message):
    with pytest.raises(ValueError, match=message):
        GAN(POINTS, 4, (8,), **options)


def test_another_generator():
    model = GAN(POINTS, 4, (8,), batch_norm=False)
    average = copy.deepcopy(model.generator)
    average[0].weight.array[:] = 0
    average[2].weight.array[:] = 0
    other, z = model.with_generator(average), np.ones((2, 4), np.float32)
    assert other.discriminator is model.discriminator and model.generator is not average
    np.testing.assert_allclose(other.generate(z), [[1, 2, 3]] * 2)
    assert not np.allclose(model.generate(z), other.generate(z)) and other.state_dict()["generator.0.weight"].array.max() == 0


def test_examples_do_not_depend_on_how_they_are_cut():
    model, z = GAN(Pictures((1, 8, 8)), 4, channels=(4,)), numbers(1500, 4).astype(np.float32)
    whole = model.generate(z)
    np.testing.assert_array_equal(whole[1000:], model.generate(z[1000:]))          # batch norm by its averages
    assert whole.min() >= 0 and whole.max() <= 1 and model.training


def test_training_finds_a_density():
    snn.manual_seed(0)
    x = np.random.default_rng(0).normal(2, 0.5, (2000, 1)).astype(np.float32)
    model = GAN(Points((1,), [0.0], [1.0]), 1, (16,), batch_norm=False, penalty="r1")
    to_tell, to_make = (optim.Adam(network.parameters(), 5e-3, (0.5, 0.99)) for network in (model.discriminator, model.generator))
    for step in range(600):
        real = snn.tensor(x[step % 8 * 250:][:250])
        loss, _, _, made = model.discriminator_loss(real)
        to_tell.zero_grad()
        (loss + 0.1 * model.slope_penalty(real, made)).backward()
        to_tell.step()
        loss = model.generator_loss(real)
        to_make.zero_grad()
        loss.backward()
        to_make.step()
    drawn = model.sample(2000)
    assert drawn.mean() == pytest.approx(2, abs=0.15) and drawn.std() == pytest.approx(0.5, abs=0.2)


# ---- files --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("look, options", [
    (Pictures((1, 4, 4)), {"channels": (2, 3), "classes": 3}), (Pictures((3, 4, 4)), {"channels": (2,), "spectral": True, "hidden": (5,)}),
    (POINTS, {"hidden": (5,), "classes": 3, "auxiliary": True}), (Columns(TABLE), {"hidden": (5,), "packing": 2, "deviation": True})])
def test_files(tmp_path, look, options):
    model, x, y = GAN(look, 2, **options), np.zeros((4, *look.shape), np.float32), np.array([1, 2, 1, 1])
    save_gan(tmp_path / "w.safetensors", model, made_set(x, y, ("a", "b", "c"), target="kind"))
    again, classes, target = load_gan(tmp_path / "w.safetensors")
    assert classes == ({"a": 0, "b": 0.75, "c": 0.25} if options.get("classes") else {}) and target == "kind"
    y = y if options.get("classes") else None
    for drawn in zip(*(m.generate(np.ones((4, 2), np.float32), y, Generator(0)) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(*drawn)
    label = None if y is None or model.auxiliary else snn.tensor(y)
    np.testing.assert_array_equal(*(m.eval().discriminator(snn.tensor(x), label).array for m in (model, again)))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError):
        load_gan(path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"w\.safetensors: truncated, corrupt"):
        load_gan(path)
    model = GAN(Points((4,), [0] * 4, [1] * 4), 2)
    examples, options = {"shape": [4], "mean": [0] * 4, "std": [1] * 4}, {"latent": 2}
    for about, message in ((None, "without the description of a gan"), ("{", "do not fit"), ("[]", "do not fit"),
                           ({"kind": "Sounds", "examples": examples, "options": options}, r"w\.safetensors"),
                           ({"kind": "Points", "examples": {**examples, "shape": [5]}, "options": options}, "do not fit"),
                           ({"kind": "Points", "examples": examples, "options": {"latent": 2, "loss": "none"}}, "loss is one of"),
                           ({"kind": "Points", "examples": examples, "options": {"latent": 2, "depth": 3}}, "depth")):
        metadata = None if about is None else {"gan": about if isinstance(about, str) else json.dumps(about)}
        save_weights(path, model.state_dict(), metadata)
        with pytest.raises(CheckpointError, match=message):
            load_gan(path)


# ---- watching -----------------------------------------------------------------------------------------------------------

def told(watch, real, drawn):
    watch.update(snn.tensor(np.asarray(real, np.float32)), snn.tensor(np.asarray(drawn, np.float32)))


def test_averages_of_a_game():
    watch = Watch()
    told(watch, [1, 3, -1, 1], [-2, 2])
    assert watch.averages == {"on_real": 1, "on_drawn": 0, "told_real": 0.75, "told_drawn": 0.5}
    told(watch, [-1, -1], [4, 4])
    assert watch.averages == pytest.approx({"on_real": 0.96, "on_drawn": 0.08, "told_real": 0.735, "told_drawn": 0.49})


def test_a_critic_has_no_zero():
    watch = Watch(critic=True)
    told(watch, [101, 103, 99, 110], [98, 97, 99, 109])
    assert watch.averages["told_real"] == 0.5 and watch.averages["told_drawn"] == 0.75     # the middle is 102
    for step in range(9):
        told(watch, [100, 100], [-100, -100])
        watch.judge(step, numbers(50, 2), numbers(50, 2))
    assert watch.report() == ""


def test_collapse_is_said_with_its_step_and_taken_back():
    watch, real, spread = Watch(), 3 * numbers(200, 1, 4, 4), []
    told(watch, [1, -1], [1, -1])
    for step, width in ((10, 1), (20, 0.05), (30, 1), (40, 0.05), (50, 0.01), (60, 0.05), (70, 0.05), (80, 1), (90, 0.05)):
        spread.append(watch.judge(step, real, width * real + 7)["spread"])
        assert ("collapse" in watch.troubles) == (step in (60, 70)), step
        assert ("all drawn examples are alike since step 40;" in watch.report()) == (step in (60, 70))
    np.testing.assert_allclose(spread[:3], [1, 0.05, 1])


def test_divergence_is_said_with_its_step_and_taken_back():
    watch, x = Watch(), numbers(50, 2)
    for step in range(10, 60, 10):
        told(watch, [5, 6], [-5, -6])
        watch.judge(step, x, x)
        assert ("since step 10," in watch.report()) == (step >= 30)
    for _ in range(20):
        told(watch, [5, 6], [5, -6])
    watch.judge(60, x, x)
    assert watch.report() == "" and watch.troubles == {}


def test_one_sided_is_not_divergence():
    watch, x = Watch(), numbers(50, 2)
    for step in range(5):
        told(watch, [5, 6], [5, -6])                                              # all real ones are told, half of the drawn ones
        watch.judge(step, x, x)
    assert watch.report() == ""


def test_a_watch_goes_on_where_it_was():
    watches, x = [Watch(), Watch()], numbers(50, 2)
    for step in (10, 20):
        told(watches[0], [5, 6], [-5, -6])
        watches[0].judge(step, x, 0 * x)
    watches[1].load_state_dict(json.loads(json.dumps(watches[0].state_dict())))
    assert watches[0].judge(30, x, 0 * x) == watches[1].judge(30, x, 0 * x)
    assert watches[0].report() == watches[1].report() and "since step 10;" in watches[1].report() and "step 10," in watches[1].report()


# ---- stacked digits -----------------------------------------------------------------------------------------------------

def test_modes_of_stacked_digits():
    glyphs = data.glyphs(10, 400)
    p = digit_probabilities(glyphs.test_x)
    one = np.stack([glyphs.test_x[(p.argmax(1) == d).nonzero()[0][0], 0] for d in range(10)])         # by the classifier's word
    every = np.array(list(np.ndindex(10, 10, 10)))
    assert stacked_modes(one[every]) == pytest.approx({"modes": 1000, "reverse_kl": 0}, abs=1e-6)
    assert stacked_modes(one[every[:100]]) == pytest.approx({"modes": 100, "reverse_kl": np.log(10)})
    unequal = np.concatenate([every[:1].repeat(3, 0), every[1:2]])
    found = stacked_modes(one[unequal])
    assert found == pytest.approx({"modes": 2, "reverse_kl": 0.75 * np.log(750) + 0.25 * np.log(250)})
