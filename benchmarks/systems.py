"""Whole systems that are timed: a training step, or a stretch of drawing, for each side in its words.

Each maker takes (library, nn, optim) of one side and gives a function of nothing; SYSTEMS lists them with their FLOPs.
"""

import numpy as np


def mlp_step(m, nn, optim, batch=128):
    """A training step of 784-512-512-10 with Adam; the same words make it in both libraries."""
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return _classify(nn, optim, model, m.rand(batch, 784), m.randint(0, 10, (batch,)))


def cnn_step(m, nn, optim, batch=64):
    """A training step of the convolutional classifier 32-32-pool-64-64-pool-128-10 with Adam."""
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10))
    return _classify(nn, optim, model, m.rand(batch, 1, 28, 28), m.randint(0, 10, (batch,)))


def _classify(nn, optim, model, x, y):
    adam = optim.Adam(model.parameters(), 1e-3)

    def step():
        adam.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        adam.step()
    return step


def dcgan_step(m, nn, optim, batch=64, latents=64, channels=32):
    """Both updates of a DCGAN on 28x28 pictures, with batch norm."""
    C, F = channels, nn.functional
    generator = nn.Sequential(
        nn.ConvTranspose2d(latents, 4 * C, 7, 1, 0, bias=False), nn.BatchNorm2d(4 * C), nn.ReLU(),
        nn.ConvTranspose2d(4 * C, 2 * C, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * C), nn.ReLU(),
        nn.ConvTranspose2d(2 * C, 1, 4, 2, 1), nn.Tanh())
    discriminator = nn.Sequential(
        nn.Conv2d(1, C, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(C, 2 * C, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * C), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * C, 1, 7, 1, 0), nn.Flatten())
    adam_g, adam_d = (optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator))
    x, one, zero = m.rand(batch, 1, 28, 28) * 2 - 1, m.ones(batch, 1), m.zeros(batch, 1)
    loss = F.binary_cross_entropy_with_logits

    def step():
        fake = generator(m.randn(batch, latents, 1, 1))
        adam_d.zero_grad()
        (loss(discriminator(x), one) + loss(discriminator(fake.detach()), zero)).backward()
        adam_d.step()
        adam_g.zero_grad()
        loss(discriminator(fake), one).backward()
        adam_g.step()
    return step


def dream_step(m, nn, optim, size=256):
    """A step of gradient ascent on a picture, through a trunk of six convolutions whose weights stay."""
    layers = []
    for channels in ((3, 32), (32, 32), None, (32, 64), (64, 64), None, (64, 128), (128, 128)):
        layers += [nn.MaxPool2d(2)] if channels is None else [nn.Conv2d(*channels, 3, padding=1), nn.ReLU()]
    trunk = nn.Sequential(*layers)
    for p in trunk.parameters():
        p.requires_grad_(False)
    x = m.rand(1, 3, size, size).requires_grad_()
    gradient = m.grad if hasattr(m, "grad") else m.autograd.grad

    def step():
        g, = gradient(trunk(x).square().mean(), [x])
        with m.no_grad():
            x.add_(g / (g.abs().mean() + 1e-8), alpha=0.01)
    return step


def squeezenet(m, nn, optim):
    """The classes of one picture of 227 x 227: torch's net in its words, ours that of models/squeezenet.py."""
    if m.__name__ == "scratchnn":
        from scratchnn.models.squeezenet import SqueezeNet

        net, inference = SqueezeNet(), m.no_grad
    else:
        net, inference = _torch_squeezenet(m, nn), m.inference_mode
    net.eval()
    x = m.rand(1, 3, 227, 227)

    def step():
        with inference():
            return net(x)
    return step


def _torch_squeezenet(m, nn):
    class Fire(nn.Module):
        def __init__(self, inputs, squeeze, outputs):
            super().__init__()
            self.squeeze, self.expand1x1 = nn.Conv2d(inputs, squeeze, 1), nn.Conv2d(squeeze, outputs, 1)
            self.expand3x3, self.relu = nn.Conv2d(squeeze, outputs, 3, padding=1), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.relu(self.squeeze(x))
            return m.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)

    class Normalise(nn.Module):
        def forward(self, x):
            return (x - mean) / std

    mean, std = (m.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    layers, inputs = [Normalise(), nn.Conv2d(3, 96, 7, 2), nn.ReLU(inplace=True)], 96
    for i, (squeeze, outputs) in enumerate(FIRES):
        layers += ([nn.MaxPool2d(3, 2, ceil_mode=True)] if i in (0, 3, 7) else []) + [Fire(inputs, squeeze, outputs)]
        inputs = 2 * outputs
    return nn.Sequential(*layers, nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def vae_step(m, nn, optim, batch=100, latents=20):
    """A training step of a variational autoencoder 784-500-20-500-784 with Adam: the same words for both libraries, but where ours has
    one for several of torch's."""
    F = nn.functional
    encoder = nn.Sequential(nn.Linear(784, 500), nn.Tanh(), nn.Linear(500, 2 * latents))
    decoder = nn.Sequential(nn.Linear(latents, 500), nn.Tanh(), nn.Linear(500, 784))
    adam = optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    x = (m.rand(batch, 784) > 0.5).float()

    def step():
        adam.zero_grad()
        mean, logvar = encoder(x).chunk(2, 1)
        fused = hasattr(F, "gaussian_sample")
        z = F.gaussian_sample(mean, logvar) if fused else mean + m.randn_like(mean) * (0.5 * logvar).exp()
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        divergence = F.gaussian_kl(mean, logvar) if fused else -0.5 * (1 + logvar - mean * mean - logvar.exp()).sum()
        ((reconstruction + divergence) / batch).backward()
        adam.step()
    return step


def _rbm(m):
    """A restricted Boltzmann machine 784-500 and a batch of binary data; torch's in its words, ours in those of models/rbm."""
    v = (m.rand(100, 784) > 0.5).float()
    if m.__name__ == "scratchnn":
        from scratchnn.models.rbm import RBM

        return v.array, RBM(784, 500).to(v.device)
    return v, (m.randn(784, 500) * 0.01, m.zeros(784), m.zeros(500))


def rbm_cd1_step(m, nn, optim, lr=0.05):
    """A step of contrastive divergence."""
    v0, machine = _rbm(m)
    if m.__name__ == "scratchnn":
        from scratchnn.models.rbm import ContrastiveDivergence

        cd, sgd = ContrastiveDivergence(machine), optim.SGD(machine.parameters(), lr)
        return lambda: (cd.gradient(v0), sgd.step())
    w, a, b = machine

    def step():
        with m.no_grad():
            p0 = m.sigmoid(v0 @ w + b)
            v = m.bernoulli(m.sigmoid(m.bernoulli(p0) @ w.T + a))
            p1 = m.sigmoid(v @ w + b)
            w.add_(v0.T @ p0 - v.T @ p1, alpha=lr / len(v0))
            a.add_((v0 - v).mean(0), alpha=lr)
            b.add_((p0 - p1).mean(0), alpha=lr)
    return step


def rbm_gibbs_100(m, nn, optim):
    """A hundred steps of block Gibbs sampling."""
    v0, machine = _rbm(m)
    if m.__name__ == "scratchnn":
        return lambda: machine.gibbs(v0, 100)
    w, a, b = machine

    def step():
        v = v0
        with m.no_grad():
            for _ in range(100):
                v = m.bernoulli(m.sigmoid(m.bernoulli(m.sigmoid(v @ w + b)) @ w.T + a))
        return v
    return step


def lstm_sample_200(m, nn, optim):
    """200 characters of 65 from an LSTM of 512 units at temperature 0.8: torch's modules in its words, ours in one kernel."""
    if m.__name__ == "scratchnn":
        import kernels
        from kernels.shapes import TextModel

        shapes = (65, 64), (2048, 64), (2048, 512), (2048,), (2048,), (65, 512), (65,)
        embedding, *layer, weight, bias = (((m.rand(*shape) * 2 - 1) / 512 ** 0.5).numpy() for shape in shapes)
        model = TextModel("lstm", embedding, [layer], weight, bias)
        return lambda: kernels.generate_text(model, np.zeros((1, 1), np.int64), None, 200, 0.8)
    embed, rnn, out = nn.Embedding(65, 64), nn.LSTM(64, 512, batch_first=True), nn.Linear(512, 65)

    def step():
        with m.inference_mode():
            state, x = None, m.zeros(1, 1, dtype=m.long)
            for _ in range(200):
                y, state = rnn(embed(x), state)
                x = m.multinomial(nn.functional.softmax(out(y)[0] / 0.8, -1), 1)
    return step


def lstm_step(m, nn, optim, steps=64, batch=64, vocabulary=65, inputs=64, units=512, layers=1, sgd=False):
    """A training step of a language model with an LSTM: of characters with Adam."""
    embedding, lstm, out = nn.Embedding(vocabulary, inputs), nn.LSTM(inputs, units, layers), nn.Linear(units, vocabulary)
    parameters = [*embedding.parameters(), *lstm.parameters(), *out.parameters()]
    optimizer = optim.SGD(parameters, 1.0) if sgd else optim.Adam(parameters, 2e-3)
    x, y = (m.randint(0, vocabulary, (steps, batch)) for _ in range(2))

    def step():
        optimizer.zero_grad()
        logits = out(lstm(embedding(x))[0])
        nn.functional.cross_entropy(logits.reshape(-1, vocabulary), y.reshape(-1)).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    return step


def lstm2_step(m, nn, optim):
    """The same of words: the small model of Zaremba et al. 2014, two layers of 200 units over 35 steps, with SGD."""
    return lstm_step(m, nn, optim, 35, 32, 10_000, 200, 200, 2, True)


DILATIONS = tuple(2 ** i for i in range(9)) * 2          # WaveNet's, of 32 residual and 128 skip channels, 256 ids


def wavenet_step(m, nn, optim, batch=4, positions=4096):
    """A training step of a WaveNet with Adam: ours is one operation for all layers and one product for all their skip connections, torch's
    convolutions in its words."""
    loss, parameters, *_ = (_wavenet if m.__name__ == "scratchnn" else _torch_wavenet)(m, nn)
    adam, (x, y) = optim.Adam(parameters, 1e-3), (m.randint(0, 256, (batch, positions)) for _ in range(2))

    def step():
        adam.zero_grad()
        loss(x, y).backward()
        adam.step()
    return step


def _wavenet(m, nn, R=32, S=128, Q=256):
    """(loss(x, y) of ids (N, T), the parameters)"""
    from scratchnn.ops import wavenet

    L, F = len(DILATIONS), nn.functional
    shapes = (L, 2 * R, R, 2), (L, 2 * R), (L - 1, R, R), (L - 1, R)
    stack = [nn.Parameter((m.rand(*shape) * 2 - 1) / (2 * R) ** 0.5) for shape in shapes]
    embed, skip, out1, out2 = nn.Embedding(Q, R), nn.Linear(L * R, S), nn.Linear(S, S), nn.Linear(S, Q)
    parameters = [p for layer in (embed, skip, out1, out2) for p in layer.parameters()] + stack

    def loss(x, y):
        logits = out2(F.relu(out1(F.relu(skip(wavenet(embed(x), *stack, DILATIONS))))))
        return F.cross_entropy(logits.reshape(-1, Q), y.reshape(-1))
    return loss, parameters


def _torch_wavenet(m, nn, R=32, S=128, Q=256):
    """(loss(x, y) of ids (N, T), the parameters, the layers)"""
    F, L = nn.functional, len(DILATIONS)
    embed, out1, out2 = nn.Embedding(Q, R), nn.Conv1d(S, S, 1), nn.Conv1d(S, Q, 1)
    gates = [nn.Conv1d(R, 2 * R, 2, dilation=d) for d in DILATIONS]
    residual, skip = ([nn.Conv1d(R, outputs, 1) for _ in range(L)] for outputs in (R, S))

    def loss(x, y):
        h, total = embed(x).mT, 0
        for d, gate, back, on in zip(DILATIONS, gates, residual, skip, strict=True):
            a, b = gate(F.pad(h, (d, 0))).chunk(2, 1)
            z = m.tanh(a) * m.sigmoid(b)
            h, total = h + back(z), total + on(z)
        return F.cross_entropy(out2(F.relu(out1(F.relu(total)))), y)
    layers = embed, gates, residual, skip, out1, out2
    return loss, [p for layer in [embed, *gates, *residual, *skip, out1, out2] for p in layer.parameters()], layers


def wavenet_generate_100(m, nn, optim, R=32, S=128, Q=256):
    """100 samples from a WaveNet that keeps each layer's earlier inputs: torch's operations in its words, ours in one kernel."""
    if m.__name__ != "scratchnn":
        return _torch_generate(m, *_torch_wavenet(m, nn)[2])
    import kernels
    from kernels.shapes import WaveNetModel

    L = len(DILATIONS)
    shapes = (Q, R), (L, 2 * R, R, 2), (L, 2 * R), (L - 1, R, R), (L - 1, R), (S, L * R), (S,), (S, S), (S,), (Q, S), (Q,)
    table, *arrays = (((m.rand(*shape) * 2 - 1) / R ** 0.5).numpy() for shape in shapes)
    model = kernels.pack_wavenet(WaveNetModel(table, None, *arrays[:4], DILATIONS, *arrays[4:]))
    return lambda: kernels.generate_wavenet(model, np.full((1, 1), 128), None, 100)


def _torch_generate(m, embed, gates, residual, skip, out1, out2):
    relu, R = m.nn.functional.relu, embed.weight.shape[1]
    with m.no_grad():
        layers = [(d, *(gate.weight[:, :, tap].contiguous() for tap in range(2)), gate.bias, back.weight[:, :, 0], back.bias,
                   on.weight[:, :, 0], on.bias) for d, gate, back, on in zip(DILATIONS, gates, residual, skip, strict=True)]

    def step():
        with m.inference_mode():
            rings, x = [m.zeros(d, R) for d in DILATIONS], m.tensor([128])
            for t in range(100):
                h, total = embed(x)[0], 0
                for ring, (d, first, second, bias, back, back_bias, on, on_bias) in zip(rings, layers, strict=True):
                    past = ring[t % d].clone()
                    ring[t % d] = h
                    a, b = (first @ past + second @ h + bias).chunk(2)
                    z = m.tanh(a) * m.sigmoid(b)
                    h, total = h + back @ z + back_bias, total + on @ z + on_bias
                logits = out2.weight[:, :, 0] @ relu(out1.weight[:, :, 0] @ relu(total) + out1.bias) + out2.bias
                x = m.multinomial(m.softmax(logits, 0), 1)
    return step


def wavenet_flops(positions, R=32, S=128, Q=256):
    """Forward: what one position takes, times so many."""
    return 2 * positions * (len(DILATIONS) * (5 * R * R + R * S) + S * S + S * Q)


def _conv_flops(*layers):
    """Forward pass and both gradients, the first layer's input gradient left out; layers (N, C, O, taps, positions)."""
    work = [2 * N * C * outputs * taps * positions for N, C, outputs, taps, positions in layers]
    return 3 * sum(work) - work[0]


def _squeezenet_flops():
    work, inputs = 3 * 49 * 96 * 111 ** 2 + 512 * 1000 * 13 ** 2, 96
    for i, (squeeze, outputs) in enumerate(FIRES):
        side = 55 if i < 3 else 27 if i < 7 else 13
        work += side ** 2 * squeeze * (inputs + 10 * outputs)
        inputs = 2 * outputs
    return 2 * work


def _dcgan_flops():
    """Generator: forward pass and both gradients, the first layer's input gradient left out; discriminator: three times all of these, and
    once the first layer's input gradient, on the way to the generator."""
    g = [2 * 64 * n for n in (64 * 128 * 49, 49 * 128 * 64 * 16, 196 * 64 * 16)]
    d = [2 * 64 * n for n in (196 * 32 * 16, 49 * 32 * 64 * 16, 49 * 64)]
    return 3 * sum(g) - g[0] + 3 * (3 * sum(d) - d[0]) + d[0]


FIRES = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]      # SqueezeNet's: squeeze, each expand

SYSTEMS = [
    ("mlp_step", mlp_step, _conv_flops((128, 784, 512, 1, 1), (128, 512, 512, 1, 1), (128, 512, 10, 1, 1))),
    ("cnn_step", cnn_step, _conv_flops((64, 1, 32, 9, 784), (64, 32, 32, 9, 784), (64, 32, 64, 9, 196), (64, 64, 64, 9, 196),
                                       (64, 3136, 128, 1, 1), (64, 128, 10, 1, 1))),
    ("vae_step", vae_step, _conv_flops((100, 784, 500, 1, 1), (100, 500, 40, 1, 1), (100, 20, 500, 1, 1), (100, 500, 784, 1, 1))),
    ("dcgan_step", dcgan_step, _dcgan_flops()),
    ("rbm_cd1_step", rbm_cd1_step, 5 * 2 * 100 * 784 * 500), ("rbm_gibbs_100", rbm_gibbs_100, 200 * 2 * 100 * 784 * 500),
    ("lstm_sample_200", lstm_sample_200, 200 * 2 * (4 * 512 * (64 + 512) + 65 * 512)),
    ("dream_step", dream_step, 2 * 2 * 9 * (3 * 32 * 65536 + 32 * 32 * 65536 + 32 * 64 * 16384 + 64 * 64 * 16384 + 64 * 128 * 4096
                                            + 128 * 128 * 4096)),
    ("squeezenet", squeezenet, _squeezenet_flops()),
    ("lstm_step", lstm_step, 6 * 64 * 64 * (64 * 2048 + 512 * 2048 + 512 * 65)),
    ("lstm2_step", lstm2_step, 6 * 35 * 32 * (4 * 200 * 800 + 200 * 10_000)),
    ("wavenet_step", wavenet_step, 3 * wavenet_flops(4 * 4096)), ("wavenet_generate_100", wavenet_generate_100, wavenet_flops(100))]
