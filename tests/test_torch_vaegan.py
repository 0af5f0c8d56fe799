"""The VAE-GAN against a re-statement of its paper's algorithm 1 in PyTorch: losses, and the gradient of each network."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn.models.gan import Pictures, Points
from scratchnn.models.vaegan import ABLATIONS, VAEGAN

torch = pytest.importorskip("torch")
nn = torch.nn


def layers(network):
    """The same layers with the same weights in PyTorch."""
    found = []
    for module in network:
        name = type(module).__name__
        if name == "Sequential":
            found += layers(module)
            continue
        options = {"Linear": lambda m: (m.in_features, m.out_features), "LeakyReLU": lambda m: (m.negative_slope,),
                   "Conv2d": lambda m: (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding),
                   "ConvTranspose2d": lambda m: (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding)}
        found.append(getattr(nn, name)(*options.get(name, lambda m: ())(module)).double())
        found[-1].load_state_dict({key: torch.from_numpy(value.numpy().copy()) for key, value in module.state_dict().items()})
    return found


def networks(model):
    """Encoder, generator and the discriminator's layers up to and from the one that counts."""
    features = layers(model.discriminator.features)
    trunk, rest = nn.Sequential(*features[:model.depth]), nn.Sequential(*features[model.depth:], *layers([model.discriminator.output]))
    if len(model.examples.shape) == 1:
        return nn.Sequential(*layers(model.encoder)), nn.Sequential(*layers(model.generator)), trunk, rest
    encoder = nn.Sequential(*layers([*model.encoder.features, *model.encoder.output]))
    decoder = nn.Sequential(*layers(model.generator.input), nn.Unflatten(1, model.generator.start), *layers(model.generator.pictures),
                            nn.Tanh(), nn.Flatten(1), nn.Unflatten(1, model.examples.shape))
    return encoder, decoder, trunk, rest


def restated(model, x, noise, prior_noise, minimax):
    """Losses and gradients (encoder, generator, discriminator) as the paper's section 3.3 says, each from a graph of its own."""
    encoder, generator, trunk, rest = networks(model)
    mean, logvar = encoder(x).chunk(2, 1)
    decoded, drawn = generator(mean + torch.exp(0.5 * logvar) * noise), generator(prior_noise)
    prior = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).sum() / len(x)
    known, seen, other = trunk(x), trunk(decoded), trunk(drawn)
    a, b = (x, decoded) if "pixels" in model.ablations else (known, seen)
    similarity = 0.5 * ((a - b) ** 2).sum() / len(x)
    shown = [other] if "no-reconstructions" in model.ablations else [other, seen]
    logits = [rest(kind).squeeze(1) for kind in shown]
    game = -torch.log(torch.sigmoid(rest(known))).mean() - sum(torch.log(1 - torch.sigmoid(logit)).mean() for logit in logits)
    if minimax:
        to_pass = sum(torch.log(1 - torch.sigmoid(logit)).mean() for logit in logits)
    else:
        to_pass = -sum(torch.log(torch.sigmoid(logit)).mean() for logit in logits)
    joint = "joint" in model.ablations
    for_encoder = model.gamma * similarity + to_pass if joint or "gan-into-encoder" in model.ablations else similarity
    for_discriminator = game + model.gamma * similarity if joint else game
    wanted = [list(encoder.parameters()), list(generator.parameters()), [*trunk.parameters(), *rest.parameters()]]
    sums = model.beta * prior + for_encoder, model.gamma * similarity + to_pass, for_discriminator
    found = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss, parameters in zip(sums, wanted, strict=True)]
    return (prior, similarity, game), found


@pytest.mark.parametrize("kind", ["conv", "rows"])
@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
@pytest.mark.parametrize("ablation", [None, *ABLATIONS])
def test_losses_and_gradients_of_each_network(kind, game, ablation):
    snn.manual_seed(0)
    shape = (5,) if kind == "rows" else (1, 9, 8)
    look = Points(shape, np.zeros(5), np.ones(5)) if kind == "rows" else Pictures(shape)
    model = VAEGAN(look, 3, [7], [4, 6] if kind == "conv" else [], layer=None if kind == "rows" else 1, game=game, gamma=0.3, beta=2.0,
                   ablations=[ablation] if ablation else []).to(dtype=np.float64)
    rng = np.random.default_rng(0)
    x, noise, prior = (rng.standard_normal((6, *size)) for size in (shape, (3,), (3,)))
    losses = model.backward(*(snn.from_numpy(a) for a in (x, noise, prior)))
    expected, gradients = restated(model, *(torch.from_numpy(a) for a in (x, noise, prior)), game == "minimax")
    for mine, other in zip(losses, expected, strict=False):
        np.testing.assert_allclose(mine.item(), other.item(), rtol=1e-8)
    for network, found in zip((model.encoder, model.generator, model.discriminator), gradients, strict=True):
        for (name, parameter), g in zip(network.named_parameters(), found, strict=True):
            np.testing.assert_allclose(parameter.grad.numpy(), g.numpy(), rtol=1e-6, atol=1e-9, err_msg=name)
