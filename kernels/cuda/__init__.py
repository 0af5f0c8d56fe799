"""The CUDA wing: kernels on DeviceArrays (kernels/cuda/array.py), under the names of the other wings.

Importing it needs the packages of `scratchnn[cuda]`; kernels/cuda/compiler.py says which are missing.
"""

from kernels.cuda.augment import augment, augment_blocks
from kernels.cuda.batch_norm import batch_norm, batch_norm_backward, group_norm, group_norm_backward
from kernels.cuda.conv import conv, conv_input_gradient, conv_weight_gradient
from kernels.cuda.elementwise import (
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
from kernels.cuda.embedding import gather_rows, scatter_add_rows
from kernels.cuda.loss import (
    binary_cross_entropy_with_logits_rows,
    binary_cross_entropy_with_logits_rows_backward,
    binary_cross_entropy_with_logits_total,
    cross_entropy,
    cross_entropy_backward,
)
from kernels.cuda.matmul import matmul, pack
from kernels.cuda.norm import layer_norm, layer_norm_backward
from kernels.cuda.optimizer import adagrad, adam, lerp, rmsprop, scale, sgd, squared_norms
from kernels.cuda.pool import avg_pool, avg_pool_backward, max_pool, max_pool_backward, max_pool_values
from kernels.cuda.random import bernoulli, blocks, categorical, dropout, normal, permutation, randint, uniform, words
from kernels.cuda.rbm import rbm_blocks, rbm_inputs, rbm_probabilities, rbm_sample, rbm_statistics
from kernels.cuda.reduce import (
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
from kernels.cuda.resize import lerp_grid, lerp_grid_backward, take_grid, take_grid_backward
from kernels.cuda.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from kernels.cuda.warp import gaussian_blur, warp
