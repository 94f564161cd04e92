# SPDX-License-Identifier: GPL-3.0-or-later
"""The network on its device, making do with less when memory runs short.

Blocks carry a halo that makes them exact, so a block may be computed in pieces, and on another
device, without a seam. Number formats are the other thing that can fail: what overflows in the
device's fast format is computed again in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from dehaze_core.engine.device import Device, choose_device
from dehaze_core.errors import ResourceError
from dehaze_core.grid import Block, BlockGrid
from dehaze_core.models.streaming import StreamedNetwork

SMALLEST_PX = 128
"""Smallest side of a piece; below, the halo would take nearly all of the work."""

_SHORTAGES = ("DefaultCPUAllocator", "_STATUS_ALLOC_FAILED", "CUDA error: out of memory")

Result = TypeVar("Result")


class Compute:
    """Runs the network, stepping down whenever memory runs out.

    Attributes:
        network: The model, on `device`.
        device: Where it runs now.
        side: Largest side of what is computed at once, px; None while whole blocks fit.

    Args:
        network: The model; it is moved to the device.
        device: Where to start.
        warn: Told once about every step down.
    """

    def __init__(
        self, network: StreamedNetwork, device: Device, warn: Callable[[str], None]
    ) -> None:
        self.network = network
        self.device = device
        self.side: int | None = None
        self._warn = warn
        self._overflow_told = False
        self._until_it_fits(lambda: self.network.to(self.device.torch), None)

    def by_pieces(
        self, grid: BlockGrid, block: Block, work: Callable[[Block], Result]
    ) -> list[Result]:
        """Run `work` on a block, or on pieces of it where the whole does not fit into memory.

        Args:
            grid: The grid of the block.
            block: The block.
            work: Works on a piece; called again for the same pixels after a step down.

        Returns:
            What `work` returned for every piece.

        Raises:
            ResourceError: Memory does not suffice for the smallest piece on the CPU (MEMORY).
        """

        def every_piece() -> list[Result]:
            return [work(piece) for piece in grid.pieces(block, self.side)]

        return self._until_it_fits(every_piece, max(block.core.height, block.core.width))

    def as_a_whole(self, work: Callable[[], Result]) -> Result:
        """Run `work`, which cannot be cut into pieces; on the CPU if the device is too small.

        Raises:
            ResourceError: Memory does not suffice on the CPU (MEMORY).
        """
        return self._until_it_fits(work, None)

    def finite(self, work: Callable[[], Result], is_finite: Callable[[Result], bool]) -> Result:
        """Run the network in the device's number format, in float32 if that one overflows."""
        with self.device.autocast_context():
            result = work()
        if self.device.autocast is None or is_finite(result):
            return result
        if not self._overflow_told:
            self._overflow_told = True
            self._warn(f"{self.device.autocast} overflows in places; these are done in float32.")
        return work()

    def _until_it_fits(self, work: Callable[[], Result], side: int | None) -> Result:
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                if not _is_shortage(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Not in the handler: the error holds on to all tensors of the failed attempt.
            self._step_down(side and min(side, self.side or side), reason)

    def _step_down(self, side: int | None, reason: str) -> None:
        what = "what cannot be cut" if side is None else f"{side} px at once"
        smallest = max(SMALLEST_PX, self.network.unit_px)
        if side is not None and side // 2 >= smallest:
            self.side = side // 2
            text = f"pieces of {self.side} px"
        elif self.device.torch.type != "cpu":
            self.side = None
            self.network = self.network.cpu()
            torch.cuda.empty_cache()
            # The same number format: what is done fits what is to come.
            self.device = replace(choose_device("cpu"), autocast=self.device.autocast)
            text = "the CPU"
        else:
            raise ResourceError(
                f"Memory ran out while computing {what}: {reason}",
                hint="Close other programs, or run on a machine with more memory.",
                code="MEMORY",
            )
        self._warn(f"Memory ran out while computing {what}; going on with {text}.")


def _is_shortage(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # Some allocations fail with a plain RuntimeError.
    return any(sign in str(error) for sign in _SHORTAGES)
