# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that unpickles a checkpoint, started by `importer` and gone right after.

`python -I -m dehaze_core.models.importer_child SOURCE TARGET` reads SOURCE with PyTorch's
`weights_only` unpickler and writes its tensors as safetensors to TARGET. A model to import comes
here only after `importer_pickle` has followed its pickle to the end; should a file still harm this
process, it harms one with little memory and time that nothing depends on.
"""

from __future__ import annotations

import os
import pickle  # nosec B403
import sys
from collections.abc import Sequence

import torch
from safetensors.torch import save_file
from torch import Tensor

from dehaze_core.errors import ModelError
from dehaze_core.models.importer_archive import state_dict_in

CPU_SECONDS = 120
FAILED = 1
_SPARE_BYTES = 256 << 20


def main(arguments: Sequence[str]) -> int:
    """Convert one file and return the exit status; the reason of a failure goes to stderr."""
    source, target = arguments
    limit_this_process(os.path.getsize(source))
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
        tensors = state_dict_in(content, Tensor)
        # Own memory for each: safetensors does not take tensors that share theirs.
        save_file({key: value.detach().clone() for key, value in tensors.items()}, target)
    except (pickle.UnpicklingError, ModelError, RuntimeError, ValueError, OSError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())[:500]}\n")
        return FAILED
    return 0


def limit_this_process(file_bytes: int) -> None:
    """Let this process use no more memory, time and disk than a checkpoint of this size needs."""
    torch.set_num_threads(1)
    if sys.platform != "linux":
        # Elsewhere limits of memory do not exist or are not kept; the parent's timeout remains.
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    # The file, its tensors, their clones, and what is written of them.
    memory = in_use + 4 * file_bytes + _SPARE_BYTES
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 2 * file_bytes + _SPARE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
