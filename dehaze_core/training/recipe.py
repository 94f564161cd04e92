# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes: everything that shapes a training run, as TOML files.

The fields of a file are those of `TrainRecipe`; its tables `batches`, `loss`, `distillation`,
`guide` and `network` are those of `BatchRecipe`, `LossWeights`, `Distillation`, `GuideRecipe` and
the configuration of the recipe's architecture. What a file leaves out has its default.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from dehaze_core.errors import SettingsError
from dehaze_core.haze.synthesis import LEVELS
from dehaze_core.models.architectures import find_architecture
from dehaze_core.models.config import NetworkConfig
from dehaze_core.models.dehazexl.lite import LiteConfig
from dehaze_core.models.streaming import TOKEN_PX
from dehaze_core.training.affinity import AffinityKind
from dehaze_core.training.budget import Budget
from dehaze_core.training.guide_recipe import GuideRecipe
from dehaze_core.training.shares import are_shares, is_share

RECIPES_FOLDER = Path(__file__).parent / "recipes"
_LITE = "dehazexl-lite"

GuideKind = Literal["outputs", "features", "model"]
"""Kinds of guidance, see `Distillation`."""


@dataclass(frozen=True, slots=True)
class BatchRecipe:
    """What batches are made of.

    Attributes:
        shapes: Sides of crops in px, how many of them make a batch, and how often they do.
        levels: How often each haze level is drawn.
    """

    shapes: tuple[tuple[int, int, float], ...] = ((256, 8, 0.45), (512, 2, 0.25), (1024, 1, 0.3))
    levels: Mapping[str, float] = field(
        default_factory=lambda: {
            "L0": 0.25,
            "L1": 0.19,
            "L2": 0.18,
            "L3": 0.17,
            "L4": 0.16,
            "beyond": 0.05,
        }
    )

    def __post_init__(self) -> None:
        """Check sides and levels."""
        if not (isinstance(self.shapes, tuple) and self.shapes):
            raise SettingsError(f"Batches have shapes {self.shapes}; expected some.")
        for shape in self.shapes:
            if not _is_batch_shape(shape):
                raise SettingsError(
                    f"A batch shape is {shape}, expected a side in multiples of {TOKEN_PX} px, "
                    "a count of at least 1 and a share above 0."
                )
        if not are_shares(self.levels, LEVELS):
            raise SettingsError(
                f"Batches have levels {self.levels}; expected shares of at least 0, not all 0, "
                f"of the levels {', '.join(LEVELS)}."
            )


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the parts of the loss.

    Attributes:
        image: L1 in display values.
        psnr: Logarithm of the mean square error of every image, so that each counts as it does
            in a mean PSNR.
        smooth: L1 after averaging over 16 x 16 px: colour and brightness.
        frequency: L1 of the spectrum, as in the published recipe of DehazeXL but of unit scale.
        thickness: L1 of the transmission.
        texture: L1 of the transmission's differences between neighbours, over one and four cells:
            haze is smooth, and roads, roofs or the network's own grid must not show in it.
        airlight: L1 of the airlight, weighted by how much of it is in the image.
        presence: Cross entropy of there being haze at all, token by token.
    """

    image: float = 1.0
    psnr: float = 0.05
    smooth: float = 1.0
    frequency: float = 0.0
    thickness: float = 0.5
    texture: float = 0.5
    airlight: float = 0.3
    presence: float = 0.05

    def __post_init__(self) -> None:
        """Check that the weights are numbers."""
        for each in fields(self):
            value = getattr(self, each.name)
            if not is_share(value):
                raise SettingsError(
                    f"The weight '{each.name}' of the loss is {value!r}, expected a number >= 0."
                )


@dataclass(frozen=True, slots=True)
class Distillation:
    """By what a network that paints is guided, beside the truth.

    Attributes:
        kind: `outputs` compares affinities of pictures with those of a super-resolution teacher,
            `features` those of features at three depths, and `model` pictures with those of
            another model; see `dehaze_core.training.distillation`.
        loss: How affinities are compared, see `dehaze_core.training.affinity`.
        weight: Weight of the guide in the loss.
        teacher: Name or file of the teacher.
        model: Name of the other model.
    """

    kind: GuideKind = "features"
    loss: AffinityKind = "l2"
    weight: float = 0.25
    teacher: str = "rfd-teacher-dsc"
    model: str = _LITE

    def __post_init__(self) -> None:
        """Check kinds, weight and names."""
        for name, known in (("kind", get_args(GuideKind)), ("loss", get_args(AffinityKind))):
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"The '{name}' of a distillation is {getattr(self, name)!r}, expected one of "
                    f"{', '.join(known)}."
                )
        if not is_share(self.weight):
            raise SettingsError(
                f"The weight of a distillation is {self.weight!r}, expected a number >= 0."
            )
        for name in ("teacher", "model"):
            if not isinstance(getattr(self, name), str):
                raise SettingsError(
                    f"The '{name}' of a distillation is {getattr(self, name)!r}, expected a name."
                )


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """Everything that shapes a training run.

    Attributes:
        minutes: Budget over all resumed parts, which the learning rate follows; None for one of
            steps.
        steps: The same in steps; None for a budget of minutes.
        architecture: Kind of network, one of `dehaze_core.models.architectures`.
        learning_rate: Peak rate of AdamW.
        warmup: Share of the budget in which the rate rises.
        weight_decay: Of AdamW.
        clip: Largest gradient norm.
        ema: Decay of the averaged weights per step.
        seed: Seed of the batches and the initial weights.
        workers: Processes that make batches; with 0 they are made between the steps.
        validate_every: Minutes between validations and checkpoints.
        patience: Validations without a lower loss after which training stops; None for never.
        checkpointing: Compute the stages again on the way back instead of keeping their features:
            less memory, about a third more time.
        batches: What batches are made of.
        clear_in_use: Share of clear scenes among those that users have; training sees fewer. The
            finished network is adjusted to it, if it tells clear scenes from hazy ones.
        config: Shape of the network.
        weights: Weights of the loss.
        distillation: What guides the network beside the truth; nothing if None.
        masks: Where the guides of a network with guides come from, the table `guide` of a file;
            None for networks without.
        start: Name of the model whose weights training begins with, if nobody names another;
            random ones if None.
    """

    minutes: float | None = None
    steps: int | None = None
    architecture: str = _LITE
    learning_rate: float = 1e-3
    warmup: float = 0.02
    weight_decay: float = 0.01
    clip: float = 0.5
    ema: float = 0.999
    seed: int = 20
    workers: int = 0
    validate_every: float = 5.0
    patience: int | None = None
    checkpointing: bool = False
    batches: BatchRecipe = field(default_factory=BatchRecipe)
    clear_in_use: float = 0.57
    config: NetworkConfig = field(default_factory=LiteConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    distillation: Distillation | None = None
    masks: GuideRecipe | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        """Check types and ranges."""
        for name, (kinds, is_right, wanted) in _RANGES.items():
            value = getattr(self, name)
            if type(value) not in kinds or not is_right(value):
                raise SettingsError(f"'{name}' of a recipe is {value!r}, expected {wanted}.")
        Budget(self.minutes, self.steps)  # one of both, in range

    @property
    def budget(self) -> Budget:
        """How long the training lasts."""
        return Budget(self.minutes, self.steps)

    def guided_by(self, kind: str | None, source: str | None) -> TrainRecipe:
        """Return the recipe with another guide.

        Args:
            kind: A kind of `Distillation`, or `none`; the recipe's own if None.
            source: Name or file of the teacher, or name of the model that guides; the recipe's own
                if None.

        Raises:
            SettingsError: The kind is unknown, or there is a source but no guide.
        """
        if kind == "none" or (kind is None and self.distillation is None):
            if source is not None:
                raise SettingsError(
                    f"'{source}' is to guide a training without guidance.",
                    hint="Choose a guide with --guide, or leave --teacher out.",
                )
            return replace(self, distillation=None)
        guide = self.distillation or Distillation()
        changes: dict[str, Any] = {"kind": kind or guide.kind}
        if source is not None:
            changes["model" if changes["kind"] == "model" else "teacher"] = source
        return replace(self, distillation=replace(guide, **changes))

    def with_mask_files(self) -> TrainRecipe:
        """Return the recipe with masks that were made before in place of those of clear crops.

        Raises:
            SettingsError: The recipe has no masks of clear pictures.
        """
        if self.masks is None or not self.masks.sources.get("clear"):
            raise SettingsError(
                f"A folder of masks is given, but this recipe for {self.architecture} trains "
                "without masks of clear pictures.",
                hint="Leave --masks out, or name a recipe whose [guide] has the source 'clear'.",
            )
        return replace(self, masks=replace(self.masks, segmenter="files"))

    def shaping(self) -> dict[str, Any]:
        """Return what must not change when a training is resumed, as plain data.

        A longer budget, another number of workers, or what is done to the finished network is no
        other training.
        """
        return {name: value for name, value in self.as_dict().items() if name not in _FREE}

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return asdict(self)


_FREE = (
    "minutes",
    "steps",
    "workers",
    "validate_every",
    "patience",
    "checkpointing",
    "clear_in_use",
    "start",
)
_NUMBER = (int, float)
_RANGES: dict[str, tuple[tuple[type, ...], Callable[[Any], bool], str]] = {
    "learning_rate": (_NUMBER, lambda v: 0 < v < math.inf, "> 0"),
    "warmup": (_NUMBER, lambda v: 0 <= v < 1, "0 or more and less than 1"),
    "weight_decay": (_NUMBER, lambda v: 0 <= v < math.inf, ">= 0"),
    "clip": (_NUMBER, lambda v: v > 0, "> 0"),
    "ema": (_NUMBER, lambda v: 0 <= v < 1, "0 or more and less than 1"),
    "seed": ((int,), lambda v: v >= 0, "a whole number >= 0"),
    "workers": ((int,), lambda v: v >= 0, "a whole number >= 0"),
    "validate_every": (_NUMBER, lambda v: v > 0, "> 0"),
    "patience": ((int, type(None)), lambda v: v is None or v > 0, "a whole number > 0"),
    "clear_in_use": (_NUMBER, lambda v: 0 < v < 1, "between 0 and 1"),
    "checkpointing": ((bool,), lambda v: True, "true or false"),
    "start": ((str, type(None)), lambda v: v != "", "the name of a model"),
}
"""Types of the plain fields of a recipe, their ranges, and the ranges in words."""


def load_recipe(name: str, **changes: Any) -> TrainRecipe:  # noqa: ANN401 - fields of TrainRecipe
    """Read a recipe.

    Args:
        name: Name of a recipe of ours, or path of a TOML file.
        changes: Values that replace those of the file, None for none; `minutes` take the place of
            `steps`, and the other way round.

    Raises:
        SettingsError: There is no such recipe, or it has unknown or wrong values.
        ModelError: Its architecture is unknown (MODEL_ARCHITECTURE).
    """
    paths = sorted(RECIPES_FOLDER.glob("*.toml"), key=lambda path: path.stem)
    ours = {path.stem: path for path in paths}
    path = ours.get(name, Path(name))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"There is no recipe '{name}'; known are {', '.join(ours)}, or give a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The recipe {path} is not TOML: {error}.") from error
    given = {name: value for name, value in changes.items() if value is not None}
    if {"minutes", "steps"} & set(given):
        data = {name: value for name, value in data.items() if name not in ("minutes", "steps")}
    data.update(given)
    parts = {
        "batches": _part(BatchRecipe, data.pop("batches", {}), path),
        "weights": _part(LossWeights, data.pop("loss", {}), path),
        "config": _config(data.get("architecture", _LITE), data.pop("network", {}), path),
    }
    if "distillation" in data:
        parts["distillation"] = _part(Distillation, data["distillation"], path)
    if "guide" in data:
        parts["masks"] = _part(GuideRecipe, data.pop("guide"), path)
    recipe: TrainRecipe = _part(TrainRecipe, {**data, **parts}, path)
    return recipe


def _config(architecture: object, data: object, path: Path) -> NetworkConfig:
    default = find_architecture(str(architecture)).default
    if isinstance(data, Mapping):
        data = {**default.as_dict(), **data}
    config: NetworkConfig = _part(type(default), data, path)
    return config


def _part(kind: Any, data: Any, path: Path) -> Any:  # noqa: ANN401 - a dataclass
    known = {f.name for f in fields(kind)}
    if not isinstance(data, Mapping):
        raise SettingsError(
            f"The recipe {path} has {data!r} for a table of {', '.join(sorted(known))}."
        )
    unknown = set(data) - known
    if unknown:
        raise SettingsError(
            f"The recipe {path} has {', '.join(sorted(unknown))}, "
            f"expected only {', '.join(sorted(known))}."
        )
    try:
        return kind(**{key: _as_tuple(value) for key, value in data.items()})
    except SettingsError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingsError(f"The recipe {path} cannot be used: {error}.") from error


def _is_batch_shape(shape: object) -> bool:
    match shape:
        case (int(side), int(count), int() | float() as share):
            return side > 0 and side % TOKEN_PX == 0 and count > 0 and 0 < share < math.inf
    return False


def _as_tuple(value: Any) -> Any:  # noqa: ANN401 - TOML values
    return tuple(_as_tuple(v) for v in value) if isinstance(value, list) else value
