"""Layers, losses, initialisers and what holds them together, under PyTorch's names."""

from scratchnn.nn import functional, init, utils
from scratchnn.nn.activation import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from scratchnn.nn.container import ModuleDict, ModuleList, ParameterList, Sequential
from scratchnn.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from scratchnn.nn.dropout import Dropout, LockedDropout
from scratchnn.nn.embedding import Embedding
from scratchnn.nn.flatten import Flatten, Unflatten
from scratchnn.nn.linear import Identity, Linear
from scratchnn.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    GaussianNLLLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from scratchnn.nn.module import Module, RemovableHandle
from scratchnn.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm1d, InstanceNorm2d, LayerNorm
from scratchnn.nn.padding import (
    ConstantPad1d,
    ConstantPad2d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReplicationPad1d,
    ReplicationPad2d,
    ZeroPad1d,
    ZeroPad2d,
)
from scratchnn.nn.parameter import Parameter
from scratchnn.nn.pooling import AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from scratchnn.nn.rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from scratchnn.nn.upsampling import Upsample

__all__ = [
    "ELU", "GELU", "GRU", "LSTM", "RNN", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "BCELoss",
    "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "ConstantPad1d", "ConstantPad2d", "Conv1d", "Conv2d", "ConvTranspose1d",
    "ConvTranspose2d", "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "GRUCell", "GaussianNLLLoss", "GroupNorm", "Hardtanh",
    "HuberLoss", "Identity", "InstanceNorm1d", "InstanceNorm2d", "KLDivLoss", "L1Loss", "LSTMCell", "LayerNorm", "LeakyReLU", "Linear",
    "LockedDropout", "LogSigmoid", "LogSoftmax", "MSELoss", "MaxPool1d", "MaxPool2d", "Module", "ModuleDict", "ModuleList", "NLLLoss",
    "Parameter", "ParameterList", "RNNCell", "ReLU", "ReflectionPad1d", "ReflectionPad2d", "RemovableHandle", "ReplicationPad1d",
    "ReplicationPad2d", "Sequential", "SiLU", "Sigmoid", "SmoothL1Loss", "Softmax", "Softplus", "Tanh", "Unflatten", "Upsample",
    "ZeroPad1d", "ZeroPad2d", "functional", "init", "utils",
]
