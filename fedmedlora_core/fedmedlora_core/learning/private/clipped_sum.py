"""The sum of one step: rows bounded by C, added up exactly, with noise on the same grid (R4.13.1).

A clip that is computed in floats bounds a row by C and a little more, and a float sum of many rows depends on
their order; what one row can change is then more than C (Casacuberta et al. 2022). So each clipped row is
rounded to a grid of C / 2^22, where sums of whole numbers in float64 are exact, and rows are scaled so that
their rounded norm is at most C, with the rounding of every step counted in:

    C (1 - slack) + sqrt(values) / 2 grid steps  <=  C,    slack = sqrt(values) 2^-23 + 2^-20

A row whose gradient is not finite counts as zero: its contribution is bounded like every other one, and the
training goes on. The noise is C * multiplier in standard deviation, about 2^22 grid steps, so the grid
changes nothing that could be measured; what it is for stands in `draws`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from fedmedlora_core.learning.private.draws import Draws

__all__ = ["GRID", "ClippedSum"]

GRID = 1 << 22
"""Steps of the grid in C."""
_ROUNDING = 2.0**-20
"""Bounds what float32 adds to a norm: the factor's and the products' rounding, and the float64 norm's own."""


class ClippedSum:
    """The bounded sum of the rows of one step.

    Args:
        parameters: What trains.
        clip: C.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], clip: float) -> None:
        """Begin with nothing."""
        self._parameters = parameters
        self._clip = clip
        self._largest = 1.0 - math.sqrt(sum(p.numel() for p in parameters)) / (2 * GRID) - _ROUNDING
        self.sums = [torch.zeros_like(p, dtype=torch.float64, requires_grad=False) for p in parameters]

    def add(self, gradients: Sequence[torch.Tensor]) -> None:
        """Clip each row over all parameters together, and add it.

        Args:
            gradients: From `RowGradients.of`; they are overwritten.
        """
        norms_b = row_norms(gradients)
        factor_b = torch.clamp(self._clip * self._largest / norms_b.clamp(min=1e-30), max=self._largest)
        # Steps of the grid; a norm that is infinite or no number gives a row of zeros.
        factor_b = torch.where(torch.isfinite(norms_b), factor_b * (GRID / self._clip), 0.0)
        for total, rows in zip(self.sums, gradients, strict=True):
            steps = rows.float().mul_(factor_b.float().view(-1, *[1] * (rows.dim() - 1)))
            total.add_(steps.round_().nan_to_num_(0.0, 0.0, 0.0).sum(0, dtype=torch.float64))

    def noised(self, draws: Draws, multiplier: float, divisor: int) -> list[torch.Tensor]:
        """The sum with its noise, divided: the gradient of one step, in the parameters' types.

        Args:
            draws: This step's.
            multiplier: Standard deviation of the noise over C.
            divisor: The study's constant; never the number of rows.
        """
        sizes = [p.numel() for p in self._parameters]
        noise = draws.gaussians(sum(sizes)).mul_(multiplier * GRID).round_()
        scale = self._clip / GRID / divisor
        parts = torch.split(noise, sizes)
        return [
            ((total + part.view(total.shape).to(total.device)) * scale).to(parameter.dtype)
            for total, part, parameter in zip(self.sums, parts, self._parameters, strict=True)
        ]


def row_norms(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """L2 norm of each row over all parameters, in float64."""
    norms = [torch.linalg.vector_norm(rows.flatten(1), dim=1, dtype=torch.float64) for rows in gradients]
    found: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return found
