# SPDX-License-Identifier: GPL-3.0-or-later
"""Small clear pictures and tiny networks for tests of distillation."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from dehaze_core.models.student.student import StudentConfig
from dehaze_core.models.student.teacher import Teacher, TeacherConfig
from dehaze_core.models.teachers import save_teacher, teacher_name
from tests.training.test_training import ground

STUDENT = StudentConfig(width=8, outer=3, inner=1)
TEACHER = TeacherConfig(features=6, shrunk=4, mappings=1)


def clear_folder(folder: Path) -> Path:
    """Write a picture for each of two sites and return the folder."""
    for site in ("a", "b"):
        (folder / site).mkdir(parents=True)
        Image.fromarray(ground(ord(site))).save(folder / site / "0.png")
    return folder


def saved_teacher(folder: Path, seed: int = 0) -> str:
    """Write a tiny teacher of random weights and return its file."""
    torch.manual_seed(seed)
    network = Teacher(TEACHER)
    torch.nn.init.normal_(network.spread.weight, std=0.1)
    save_teacher(network, folder, {}, {})
    return str(folder / f"{teacher_name(TEACHER)}.safetensors")
