# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a device and its number format are chosen."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import dtype as torch_dtype

from dehaze_core.engine.settings import DeviceChoice
from dehaze_core.errors import ResourceError

LEAST_DEVICE_BYTES = 1 << 30
"""Free memory below which `auto` does not choose a CUDA device: not even small blocks would fit."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where a run computes.

    Attributes:
        torch: The device.
        description: Its name for people.
        autocast: Type of the network's matrix products; None keeps float32.
    """

    torch: torch.device
    description: str
    autocast: torch_dtype | None

    def autocast_context(self) -> AbstractContextManager[object]:
        """Return a context in which matrix products use `autocast`."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.torch.type, dtype=self.autocast)


def choose_device(choice: DeviceChoice) -> Device:
    """Return the device for a user's choice.

    Raises:
        ResourceError: CUDA was asked for and there is none.
    """
    if choice != "cpu" and torch.cuda.is_available() and (choice == "cuda" or _has_room()):
        # Not bfloat16: its pixels are up to 11 DN off those of float32, those of float16 up to 2.
        name = torch.cuda.get_device_name()
        return Device(torch.device("cuda"), f"CUDA ({name})", torch.float16)
    if choice == "cuda":
        raise ResourceError(
            "A CUDA device was asked for, but PyTorch finds none.",
            hint="Choose device 'auto' or 'cpu', or install PyTorch for CUDA.",
            code="DEVICE_MISSING",
        )
    # bfloat16 would be faster on some CPUs, but tiles would no longer equal the whole to 1e-5.
    return Device(
        torch.device("cpu"), f"CPU ({_cpu_name()}, {torch.get_num_threads()} threads)", None
    )


def for_training(device: Device) -> Device:
    """Return the device with a number format in which small gradients do not vanish."""
    return device if device.autocast is None else replace(device, autocast=torch.bfloat16)


def use_threads(threads: int | None) -> int:
    """Set and return the number of CPU threads of the network."""
    count = threads or _available_cores()
    torch.set_num_threads(count)
    return count


def _has_room() -> bool:
    free, _ = torch.cuda.mem_get_info()
    return bool(free >= LEAST_DEVICE_BYTES)


def _available_cores() -> int:
    # A container may own fewer cores than the machine has; only Linux tells.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    return platform.processor() or platform.machine()
