"""VGG-16 and GoogLeNet: names and shapes of torchvision's weights, values, layers and gradients of PyTorch's modules of the same shape."""

import inspect
import math
from collections import OrderedDict

import numpy as np
import pytest

import scratchnn as snn
from kernels import config
from scratchnn import checkpoint, explain
from scratchnn.models.classifier import NETWORKS
from scratchnn.models.googlenet import GoogLeNet
from scratchnn.models.imagenet import MEAN, STD
from scratchnn.models.vgg import VGG16

CLASSES, HIDDEN = 5, 6                                           # of the networks here
VGG = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
# inputs, then the kernels of table 1 of the paper from left to right: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj
INCEPTIONS = {"3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64), "4a": (480, 192, 96, 208, 16, 48, 64),
              "4b": (512, 160, 112, 224, 24, 64, 64), "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
              "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128), "5b": (832, 384, 192, 384, 48, 128, 128)}


def vgg16_shapes(classes, hidden):
    """{name: shape} of torchvision's vgg16."""
    shapes, inputs, place = {}, 3, 0
    for outputs in VGG:
        if outputs != "M":
            shapes |= {f"features.{place}.weight": (outputs, inputs, 3, 3), f"features.{place}.bias": (outputs,)}
            inputs = outputs
        place += 1 if outputs == "M" else 2                      # a pooling, or a convolution and its ReLU
    for place, inputs, outputs in ((0, 512 * 7 * 7, hidden), (3, hidden, hidden), (6, hidden, classes)):
        shapes |= {f"classifier.{place}.weight": (outputs, inputs), f"classifier.{place}.bias": (outputs,)}
    return shapes


def googlenet_shapes(classes):
    """{name: shape} of torchvision's googlenet without auxiliary classifiers."""
    convolutions = {"conv1": (64, 3, 7), "conv2": (64, 64, 1), "conv3": (192, 64, 3)}        # outputs, inputs, pixels a side
    for name, (inputs, ones, reduce3, threes, reduce5, fives, pooled) in INCEPTIONS.items():
        for branch, shape in {"branch1": (ones, inputs, 1), "branch2.0": (reduce3, inputs, 1), "branch2.1": (threes, reduce3, 3),
                              "branch3.0": (reduce5, inputs, 1), "branch3.1": (fives, reduce5, 3),
                              "branch4.1": (pooled, inputs, 1)}.items():
            convolutions[f"inception{name}.{branch}"] = shape
    shapes = {"fc.weight": (classes, 1024), "fc.bias": (classes,)}
    for name, (outputs, inputs, side) in convolutions.items():
        shapes |= {f"{name}.conv.weight": (outputs, inputs, side, side), f"{name}.bn.num_batches_tracked": ()}
        shapes |= {f"{name}.bn.{what}": (outputs,) for what in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def torch_vgg16(torch):
    nn, layers, inputs = torch.nn, [], 3
    for outputs in VGG:
        layers += [nn.MaxPool2d(2, 2)] if outputs == "M" else [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        inputs = inputs if outputs == "M" else outputs
    classifier = [nn.Linear(512 * 7 * 7, HIDDEN), nn.ReLU(), nn.Dropout(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(),
                  nn.Linear(HIDDEN, CLASSES)]
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), avgpool=nn.AdaptiveAvgPool2d((7, 7)), flatten=nn.Flatten(),
                                     classifier=nn.Sequential(*classifier)))


def torch_googlenet(torch):
    nn = torch.nn

    def conv(inputs, outputs, side, **options):
        return nn.Sequential(OrderedDict(conv=nn.Conv2d(inputs, outputs, side, bias=False, **options),
                                         bn=nn.BatchNorm2d(outputs, eps=0.001), relu=nn.ReLU()))

    class Inception(nn.Module):
        def __init__(self, inputs, ones, reduce3, threes, reduce5, fives, pooled):
            super().__init__()
            self.branch1 = conv(inputs, ones, 1)
            self.branch2 = nn.Sequential(conv(inputs, reduce3, 1), conv(reduce3, threes, 3, padding=1))
            self.branch3 = nn.Sequential(conv(inputs, reduce5, 1), conv(reduce5, fives, 3, padding=1))
            self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv(inputs, pooled, 1))

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.children()], 1)

    layers = {"conv1": conv(3, 64, 7, stride=2, padding=3), "maxpool1": nn.MaxPool2d(3, 2, ceil_mode=True), "conv2": conv(64, 64, 1),
              "conv3": conv(64, 192, 3, padding=1)}
    for name, numbers in INCEPTIONS.items():
        if name[1] == "a":
            layers[f"maxpool{int(name[0]) - 1}"] = nn.MaxPool2d(2 if name == "5a" else 3, 2, ceil_mode=True)
        layers[f"inception{name}"] = Inception(*numbers)
    return nn.Sequential(OrderedDict(layers, avgpool=nn.AdaptiveAvgPool2d((1, 1)), flatten=nn.Flatten(), dropout=nn.Dropout(0.2),
                                     fc=nn.Linear(1024, CLASSES)))


def drawn(torch, weights):
    """Random values of a size that lets everything pass, batch norm's statistics and biases too."""
    numbers = torch.Generator().manual_seed(0)
    for name, value in weights.items():
        if value.ndim > 1:
            value.normal_(0, math.sqrt(2 / value[0].numel()), generator=numbers)
        elif name.endswith((".bn.weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=numbers)
        elif value.ndim == 1:
            value.normal_(0, 0.1, generator=numbers)
    return weights


def normalised(torch, name, x):
    """What torchvision makes of a picture in 0..1: the transforms of the weights, and GoogLeNet's own behind them."""
    mean, std = (torch.tensor(values).to(x.dtype)[:, None, None] for values in (MEAN, STD))
    x = (x - mean) / std
    return x * (std / 0.5) + (mean - 0.5) / 0.5 if name == "googlenet" else x


def close(ours, theirs):
    ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


def seen_at(net, layers):
    """What forward hooks on these layers see from now on, by name."""
    seen = {}
    for name in layers:
        net.get_submodule(name).register_forward_hook(lambda module, args, output, name=name: seen.update({name: output}))
    return seen


def test_names_and_shapes_are_those_of_the_published_weights():
    for net, shapes in ((VGG16(CLASSES, hidden=HIDDEN), vgg16_shapes(CLASSES, HIDDEN)), (GoogLeNet(CLASSES), googlenet_shapes(CLASSES))):
        assert {name: value.shape for name, value in net.state_dict().items()} == shapes
        assert set(shapes) == {f"{layer}.{name}" if layer else name for layer, module in net.named_modules()
                               for name in module.state_dict() if "." not in name}
    defaults = [inspect.signature(net).parameters for net in (VGG16, GoogLeNet)]
    assert all(options["num_classes"].default == 1000 for options in defaults)
    trained = {name: shape for name, shape in googlenet_shapes(1000).items() if "running" not in name and "tracked" not in name}
    assert sum(map(math.prod, trained.values())) == 6_624_904                                # as torchvision says
    assert sum(map(math.prod, vgg16_shapes(1000, defaults[0]["hidden"].default).values())) == 138_357_544


@pytest.mark.parametrize(("name", "size", "layers"), [
    ("vgg16", (64, 34), ["features.0", "features.17", "features.30", "classifier.3"]),
    ("googlenet", (64, 50), ["conv1", "conv2.bn", "maxpool2", "inception3b", "inception4c.branch3", "inception5b"]),
    ("googlenet", (32, 15), ["inception5a.branch4"])])
def test_values_and_gradients_are_torchs(name, size, layers, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    options = {"num_classes": CLASSES} | ({"hidden": HIDDEN} if name == "vgg16" else {})
    peer = {"vgg16": torch_vgg16, "googlenet": torch_googlenet}[name](torch).eval()
    weights = drawn(torch, peer.state_dict())
    extra = {"aux1.conv.conv.weight": torch.zeros(128, 512, 1, 1), "aux2.fc2.bias": torch.zeros(CLASSES)} if name == "googlenet" else {}
    save_file(weights | extra, tmp_path / "w.safetensors")
    net = NETWORKS[name].pretrained(tmp_path / "w.safetensors", **options).eval().double()
    assert set(net.state_dict()) == set(weights)

    numbers = np.random.default_rng(0).random((2, 3, *size))
    x, y = snn.tensor(numbers, requires_grad=True), torch.tensor(numbers, requires_grad=True)
    plain = net(x).detach().numpy()
    our, their = seen_at(net, layers), seen_at(peer.double(), layers)
    ours, theirs = net(x), peer(normalised(torch, name, y))
    for layer in layers:
        close(our[layer], their[layer])
    close(ours, theirs)
    assert np.array_equal(ours.detach().numpy(), plain)                        # being looked at changes nothing
    ours.square().sum().backward()
    theirs.square().sum().backward()
    close(x.grad, y.grad)


def test_grad_cam_looks_at_the_blocks():
    x = np.random.default_rng(0).random((1, 3, 64, 48), np.float32)
    for net in (VGG16(CLASSES, hidden=HIDDEN), GoogLeNet(CLASSES)):
        seen = seen_at(net, [name for name, module in net.named_modules() if module in net.blocks()])
        heat = explain.grad_cam(net, net.blocks(), x, np.array([3]))
        assert heat.shape == (1, 64, 48) and np.isfinite(heat).all()
        assert [a.shape[2:] for a in seen.values()] == ([(8, 6), (4, 3)] if isinstance(net, VGG16) else [(4, 3), (2, 2)])


def test_files_that_hold_something_else(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "DATA", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vgg16.vgg16\.safetensors is not there.*torchvision\.models\.vgg16\(weights='DEFAULT'\)"):
        VGG16.pretrained()
    with pytest.raises(FileNotFoundError, match=r"googlenet.googlenet\.safetensors is not there"):
        GoogLeNet.pretrained()
    path = tmp_path / "googlenet" / "googlenet.safetensors"
    checkpoint.save_weights(path, GoogLeNet(CLASSES).state_dict())
    with pytest.raises(checkpoint.CheckpointError, match=r"(?s)torchvision's googlenet: .*size mismatch for fc\.weight"):
        GoogLeNet.pretrained()
    with pytest.raises(checkpoint.CheckpointError, match=r"(?s)not the weights of VGG16, torchvision's vgg16: .*Unexpected .*Missing"):
        VGG16.pretrained(path, hidden=HIDDEN)


@pytest.mark.parametrize("kind", [VGG16, GoogLeNet])
def test_pictures_that_do_not_fit(kind):
    net = kind(CLASSES, **({"hidden": HIDDEN} if kind is VGG16 else {})).eval()
    with snn.no_grad():
        assert net(snn.rand(1, 3, kind.least, kind.least)).shape == (1, CLASSES)
    for shape in ((1, 3, kind.least - 1, 64), (3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(ValueError, match=rf"{kind.__name__} takes pictures \(N, 3, H, W\) of at least {kind.least} pixels a side"):
            net(snn.zeros(*shape))
