"""The reference wing: the obvious truth in NumPy and SciPy, without a JIT."""

from kernels.reference.augment import augment, augment_blocks
from kernels.reference.batch_norm import batch_norm, batch_norm_backward, group_norm, group_norm_backward
from kernels.reference.conv import conv, conv_input_gradient, conv_weight_gradient
from kernels.reference.elementwise import (
    abs,
    add,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    ceil,
    clamp,
    cos,
    div,
    elu,
    elu_backward,
    eq,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    gaussian_kl,
    gaussian_kl_backward,
    gaussian_sample,
    gaussian_sample_backward,
    ge,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    leaky_relu,
    leaky_relu_backward,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    relu,
    relu_backward,
    remainder,
    rsqrt,
    sigmoid,
    sigmoid_backward,
    sign,
    silu,
    silu_backward,
    sin,
    softplus,
    softplus_backward,
    sqrt,
    sub,
    tanh,
    tanh_backward,
    where,
)
from kernels.reference.embedding import gather_rows, scatter_add_rows
from kernels.reference.generate import generate_text, pack_text_model
from kernels.reference.loss import (
    binary_cross_entropy_with_logits_rows,
    binary_cross_entropy_with_logits_rows_backward,
    binary_cross_entropy_with_logits_total,
    cross_entropy,
    cross_entropy_backward,
)
from kernels.reference.lstm import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward
from kernels.reference.matmul import matmul, pack
from kernels.reference.norm import layer_norm, layer_norm_backward
from kernels.reference.optimizer import adagrad, adam, lerp, rmsprop, scale, sgd, squared_norms
from kernels.reference.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward, max_pool_values
from kernels.reference.random import bernoulli, blocks, categorical, dropout, normal, permutation, randint, uniform, words
from kernels.reference.rbm import rbm_blocks, rbm_inputs, rbm_probabilities, rbm_sample, rbm_statistics
from kernels.reference.reduce import (
    argmax,
    argmin,
    cumsum,
    gaussian_kl_total,
    logsumexp,
    max,
    mean,
    min,
    sum,
    var,
)
from kernels.reference.resize import lerp_grid, lerp_grid_backward, take_grid, take_grid_backward
from kernels.reference.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from kernels.reference.warp import gaussian_blur, warp
from kernels.reference.wavenet import generate_wavenet, pack_wavenet, wavenet, wavenet_backward
