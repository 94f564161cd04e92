# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark compares: models by name, and baselines by theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dehaze_core.baselines import dark_channel, haze_thickness_map, identity
from dehaze_core.baselines.aod_net import aod_net
from dehaze_core.baselines.slices import in_slices
from dehaze_core.engine.segments.picture_guide import model_restorer
from dehaze_core.errors import SettingsError
from dehaze_core.metrics.pairs import Restorer
from dehaze_core.models import load_model

IDENTITY = "identity"
AOD_NET = "aod-net"
SLICES = {"slices-512": 512, "slices-256": 256}
"""The first model on independent slices of this side in px: its global context is off."""

_CLASSICS: dict[str, tuple[str, Restorer]] = {
    IDENTITY: ("the hazy picture as it is", identity.restore),
    "dark-channel": (
        "dark channel prior with guided filter (He et al. 2009, 2010)",
        dark_channel.restore,
    ),
    "haze-thickness-map": (
        "subtraction of a haze thickness map (Makarau et al. 2014)",
        haze_thickness_map.restore,
    ),
}

BASELINES = (*_CLASSICS, AOD_NET, *SLICES)


@dataclass(frozen=True, slots=True)
class Method:
    """Something that dehazes pictures.

    Attributes:
        name: Name of a model or baseline; also that of its folder of pictures. That of a guided
            model names what guides it: `model+structure`.
        about: What it is, in a line.
        restore: Takes a hazy picture and returns the dehazed one.
        model: Name of the model; None for a baseline.
    """

    name: str
    about: str
    restore: Restorer
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Guiding:
    """What guides the guided models of a benchmark.

    Attributes:
        structures: Each model is run with every one of them, see `RunSettings`.
        segmenter: What finds segments.
    """

    structures: tuple[str, ...] = ("haze_mask",)
    segmenter: str = "mobile"


@dataclass(frozen=True, slots=True)
class Contest:
    """The methods of a benchmark, models first, and a line for each that was left out, why."""

    methods: tuple[Method, ...]
    left_out: tuple[str, ...]

    @property
    def first(self) -> Method:
        """The first model: the one that all others are compared with."""
        return self.methods[0]


def choose_methods(
    models: Sequence[str],
    baselines: Sequence[str],
    aod_weights: Path | None = None,
    guiding: Guiding | None = None,
) -> Contest:
    """Load the models and prepare the baselines.

    Args:
        models: Names of models, at least one.
        baselines: Names out of `BASELINES`.
        aod_weights: `.pth` with the weights of AOD-Net; without it AOD-Net is left out.
        guiding: What guides the guided models.

    Raises:
        SettingsError: There is no model, a baseline, structure or segmenter is unknown, or a name
            occurs twice (SETTINGS_OPTION).
        ModelError: A model cannot be loaded, or weights or packages of the segmenter are missing.
    """
    guiding = guiding or Guiding()
    _check_names(models, baselines, guiding)
    methods = [method for name in models for method in _methods_of(name, guiding)]
    left_out = []
    for name in baselines:
        if name == AOD_NET and aod_weights is None:
            left_out.append("aod-net: left out, no weights were given (--aod-weights FILE)")
            continue
        methods.append(_baseline(name, methods[0], aod_weights))
    return Contest(tuple(methods), tuple(left_out))


def _check_names(models: Sequence[str], baselines: Sequence[str], guiding: Guiding) -> None:
    if not models:
        raise SettingsError(
            "A benchmark compares with a model, and none was named.",
            hint="Name one with --models; 'dehaze models' lists them.",
            code="SETTINGS_OPTION",
        )
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise SettingsError(
            f"There is no baseline '{unknown[0]}'; known are {', '.join(BASELINES)}.",
            code="SETTINGS_OPTION",
        )
    names = [*models, *baselines, *guiding.structures]
    if not guiding.structures:
        raise SettingsError(
            "No structure was named, which guides the guided models.", code="SETTINGS_OPTION"
        )
    if len(set(names)) != len(names):
        raise SettingsError(
            f"A method is named twice in {', '.join(names)}.", code="SETTINGS_OPTION"
        )


def _methods_of(name: str, guiding: Guiding) -> list[Method]:
    """Return a model as a method; a guided one as a method for every structure."""
    model = load_model(name)
    card = model.card
    about = f"{card.architecture}, {card.parameters:,} parameters, sha256 {card.sha256[:12]}"
    if not model.network.guides:
        return [Method(name, about, model_restorer(name), name)]
    return [
        Method(
            f"{name}+{structure}",
            f"{about}, guided by {structure}"
            + ("" if structure == "haze_gray" else f" of {guiding.segmenter}"),
            model_restorer(name, structure, guiding.segmenter),
            name,
        )
        for structure in guiding.structures
    ]


def _baseline(name: str, first: Method, aod_weights: Path | None) -> Method:
    if name in SLICES:
        side = SLICES[name]
        about = f"{first.name} on independent slices of {side} px, without global context"
        return Method(name, about, in_slices(first.restore, side))
    if name == AOD_NET and aod_weights is not None:
        return Method(name, "AOD-Net (Li et al. 2017), 1,761 parameters", aod_net(aod_weights))
    return Method(name, *_CLASSICS[name])
