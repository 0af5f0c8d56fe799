"""Matrix products of any type: a thread for each element, operands in any layout. For float64 in checks, and for whole numbers."""

from functools import cache

from kernels.cuda.compiler import cuda, device, kernel, scalar, typed


@device
def linear(x):
    return x


FUNCTIONS = {None: linear, "relu": scalar.relu, "sigmoid": scalar.sigmoid, "tanh": scalar.tanh}


@cache
def plain_kernel(activation):
    """The kernel with an activation."""
    finish = FUNCTIONS[activation]

    @kernel(name=f"matmul_plain_{activation or 'linear'}")
    def matmul_plain(a, b, c, bias, M, N, K, a_row, a_k, b_k, b_column, step_a, step_b, count, biased, add):
        """C = act(A B + bias), or with `add` act(C + A B + bias), for each matrix of a batch."""
        at = cuda.grid(1)
        number, row, column = at // (M * N), at // N % M, at % N
        if number < count:
            at_a, at_b = number * step_a + row * a_row, number * step_b + column * b_column
            total = c[at] if add else typed(c, 0)
            for k in range(K):
                total += a[at_a + k * a_k] * b[at_b + k * b_k]
            c[at] = finish(total + bias[column] if biased else total)
    return matmul_plain
