"""`--device cuda` in the examples: the losses of the first steps are those of the CPU, and a run goes on on the other device."""

import importlib.util
import json
import sys
from pathlib import Path

import cuda_wing
import numpy as np
import pytest

cuda_wing.wing()
from cuda_wing import only_here  # noqa: E402, F401

import scratchnn as snn  # noqa: E402
from scratchnn import optim  # noqa: E402
from scratchnn.checkpoint import load_weights  # noqa: E402
from scratchnn.metrics import partition  # noqa: E402
from scratchnn.models.gan import GAN  # noqa: E402
from scratchnn.models.gan.examples import Pictures, Points  # noqa: E402
from scratchnn.models.rbm import RBM, Gaussian, ParallelTempering, PersistentCD, Softmax  # noqa: E402
from scratchnn.models.vae import VAE, Bernoulli, Columns  # noqa: E402
from scratchnn.models.vaegan import VAEGAN  # noqa: E402
from scratchnn.optim.swa_utils import AveragedModel  # noqa: E402
from scratchnn.random import Generator  # noqa: E402
from scratchnn.run import Run  # noqa: E402

EXAMPLES = Path(__file__).parent.parent / "examples"
STEPS = 3             # on the GPU the first is as Python launches it, for the second a graph is captured, the third runs it again


def learn(device, model, loss, batch):
    """(the losses of a few steps, the average of the model's weights)."""
    model, losses = model.to(device), []
    batch = [b.to(device) for b in batch]
    optimizer = optim.Adam(model.parameters(), 0.01, eps=1e-4)
    average = AveragedModel(model)

    @snn.cuda.graphed
    def step(*batch):
        value = loss(model, *batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    for _ in range(STEPS):
        losses.append(step(*batch).item())
        average.update_parameters(model)
    return losses, average.module


def rows(count, size, seed=0):
    return snn.rand(count, size, generator=Generator(seed))


def vae(device):
    model = VAE(Bernoulli((1, 2, 3)), 2, [5])
    losses, model = learn(device, model, lambda model, x: -model.elbo(model.likelihood.observe(x)), [rows(6, 6)])
    x = model.likelihood.observe(rows(2, 6)).numpy()
    return [*losses, *model.log_likelihood(x, samples=3, generator=Generator(0)), *model.reconstruct(x).ravel(),
            *model.sample(2, draw=True, generator=Generator(1)).ravel()]


def table_vae(device):
    """Numbers, one of which may be missing, whole ones, and names; the importance-weighted bound, on condition of the class."""
    columns = [{"kind": "Numeric", "name": "a", "mean": 0.0, "std": 1.0, "missing": True, "whole": 1},
               {"kind": "Categorical", "name": "b", "categories": ["x", "y"]}]
    x = np.array([[0.3, 0, 0, 1], [0, 1, 1, 0], [-1.2, 0, 1, 0], [0.7, 0, 0, 1]], np.float32)
    losses, model = learn(device, VAE(Columns(columns), 2, [4], classes=2, activation="SiLU"),
                          lambda model, x, y: -model.iwae(model.likelihood.observe(x), y, 2), [snn.tensor(x), snn.tensor([0, 1, 1, 0])])
    return [*losses, *model.generate(rows(3, 2).numpy(), np.array([0, 1, 1]), draw=True, generator=Generator(0)).ravel()]


def gan(device):
    """Both losses with all penalties; conditional and packed discriminators share their operations with these."""
    def loss(model, real, y):
        told, _, _, made = model.discriminator_loss(real, y)
        return told + model.slope_penalty(real, made, y) + model.generator_loss(real, y)

    model = GAN(Points((2,), [0, 0], [1, 1]), 2, [5], classes=2, penalty="gradient", deviation=True, spectral=True)
    losses, model = learn(device, model, loss, [rows(4, 2), snn.tensor([0, 1, 1, 0])])
    return [*losses, *model.sample(3, np.array([0, 1, 0]), Generator(0)).ravel()]


def vae_gan(device):
    model, losses = VAEGAN(Pictures((1, 2, 2)), 2, [5]).to(device), []
    optimizer = optim.Adam(model.parameters(), 0.01, eps=1e-4)

    @snn.cuda.graphed
    def step(batch):
        losses = model.backward(batch)
        optimizer.step()
        return losses

    for _ in range(STEPS):
        losses += [value.item() for value in step(rows(4, 4).reshape(4, 1, 2, 2).to(device))[:3]]
    return [*losses, *model.reconstruct(rows(2, 4).numpy().reshape(2, 1, 2, 2)).ravel()]


def rbm(device, units=5, teacher=PersistentCD, **options):
    """The gradients of a few steps, whose chains and draws must agree, and log Z."""
    v = (rows(6, 5).numpy() > 0.5).astype(np.float32)
    if units != 5:                                                                # two numbers, and one of three names
        v = np.concatenate([v[:, :2], np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0, 2]]], 1)
    machine, found = RBM(units, 4).to(device), []
    cd, optimizer = teacher(machine, 2, 3, **options), optim.SGD(machine.parameters(), 0.1, 0.5)
    for _ in range(STEPS):
        cd.gradient(machine.place(v))
        optimizer.step()
        found += [float(np.abs(p.grad.cpu().numpy()).sum()) for p in machine.parameters()]
    base = machine.base_rate(v)
    log_z = partition.ais(machine, partition.linear_schedule(4), 3, base, Generator(0))
    low = partition.raise_bound(machine, v[:2], partition.linear_schedule(3), 1, base, Generator(0)) if units == 5 else log_z
    chains = cd.state_dict()["chains"].cpu().numpy()
    return [*found, log_z.value, low.value, machine.reconstruction_error(v), machine.free_energy_gap(v, v[:2]),
            *(chains.ravel() if teacher is PersistentCD else chains.sum((1, 2)))]


def mixed_rbm(device):
    return rbm(device, [Gaussian(2), Softmax(3)], centering=True, sparsity_target=0.2)


def tempered_rbm(device):
    return rbm(device, teacher=ParallelTempering, betas=(1, 0.5, 0))


@pytest.mark.parametrize("system", [vae, table_vae, gan, vae_gan, rbm, mixed_rbm, tempered_rbm], ids=lambda f: f.__name__)
def test_the_first_losses_and_draws_are_those_of_the_cpu(system):
    found = []
    for device in ("cpu", "cuda"):
        snn.manual_seed(0)
        found.append(system(device))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-5)


# ---- the examples -----------------------------------------------------------------------------------------------------

def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch, module, *options):
    monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, options)])
    module.main()


@pytest.mark.parametrize("first, then", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_on_the_other_device(first, then, tmp_path, monkeypatch):
    """Optimiser, averages, early stopping and the position in the data move with it; the result is that of a run on one device."""
    table, module = tmp_path / "t.csv", example("classify")
    table.write_text("a,b,kind\n" + "".join(f"{i % 5},{i % 3},{'xy'[i % 2]}\n" for i in range(20)))
    options = ("--data", f"csv:{table}?target=kind", "--hidden", 6, "--epochs", 2, "--batch-size", 5, "--ema", 0.9, "--patience", 3)
    run(monkeypatch, module, *options, "--out", tmp_path / "whole")

    end = Run._end_step
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Run, "_end_step", lambda self: (self.step == 2 and self._ask_to_stop(2, None), end(self)))
        run(patch, module, *options, "--device", first, "--out", tmp_path / "parts")
    run(monkeypatch, module, *options, "--device", then, "--out", tmp_path / "parts", "--resume")
    logs = [[json.loads(line) for line in (tmp_path / part / "log.jsonl").read_text().splitlines()] for part in ("whole", "parts")]
    for a, b in zip(*logs, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx({k: v for k, v in b.items() if k != "seconds"}, rel=1e-4)
    whole, parts = (load_weights(tmp_path / part / "weights.safetensors") for part in ("whole", "parts"))
    for name, weight in whole.items():
        np.testing.assert_allclose(parts[name].numpy(), weight.numpy(), rtol=1e-3, atol=1e-5)
