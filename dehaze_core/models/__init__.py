# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks, their weights and their cards."""

from __future__ import annotations

from dehaze_core.models.cards import ModelCard
from dehaze_core.models.registry import Model, list_models, load_model, save_model

__all__ = ["Model", "ModelCard", "list_models", "load_model", "save_model"]
