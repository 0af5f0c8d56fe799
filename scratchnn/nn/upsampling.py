"""Upsample."""

from __future__ import annotations

from collections.abc import Sequence

from scratchnn.nn import functional as F
from scratchnn.nn.module import Module
from scratchnn.tensor import Tensor


class Upsample(Module):
    """Another size, given itself or as a scale_factor. Shape: (N, C, L) -> (N, C, l) or (N, C, H, W) -> (N, C, h, w).

    mode is "nearest", "linear" for (N, C, L) or "bilinear" for (N, C, H, W); the last two keep the values of the corners with
    align_corners. Positions come from the scale_factor as it was given unless recompute_scale_factor.
    """

    def __init__(self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
                 mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None):
        super().__init__()
        self.size, self.mode, self.align_corners, self.recompute_scale_factor = size, mode, align_corners, recompute_scale_factor
        several = isinstance(scale_factor, Sequence)
        self.scale_factor = tuple(map(float, scale_factor)) if several else None if scale_factor is None else float(scale_factor)

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)

    def extra_repr(self) -> str:
        given = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{given}, mode={self.mode!r}"
