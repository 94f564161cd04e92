# SPDX-License-Identifier: GPL-3.0-or-later
"""Guided networks: they begin as the networks they come from, and a mask matters only in haze."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.engine.onnx_file import export_model
from dehaze_core.errors import ModelError
from dehaze_core.models import importer, load_model, registry, save_model
from dehaze_core.models.architectures import ARCHITECTURES, build_network
from dehaze_core.models.dehazexl.lite import LiteConfig, parameter_count
from dehaze_core.models.onnx.parts import parts_of
from dehaze_core.models.sam_guided.gate import CLEAR, HAZY, gate, gated
from dehaze_core.models.sam_guided.guided import expanded
from dehaze_core.models.streaming import FILL, HazeMaps, PaintedImage, StreamedNetwork, TokenNetwork
from dehaze_core.models.student.student import StudentConfig
from tests.models.published import TINY as TINY_PUBLISHED

LITE = LiteConfig(widths=(8, 8, 16, 16), context_heads=2, context_head_dim=8)
STUDENT = StudentConfig(width=8, outer=2, inner=1)
PAIRS = {
    "dehazexl-lite": ("guided-lite", LITE.as_dict()),
    "dehazexl-small": ("guided-small", TINY_PUBLISHED.as_dict()),
    "dehazexl-base": ("guided-base", {**TINY_PUBLISHED.as_dict(), "overlap": True}),
    "distilled": ("guided-distilled", STUDENT.as_dict()),
}
# guided-base is guided-small made wider.
GUIDED = [name for name in ARCHITECTURES if name.startswith("guided-") and name != "guided-base"]
SMALL_SHAPES: dict[str, dict[str, Any]] = {
    **{guided: shape for guided, shape in PAIRS.values()},
    "guided-unet": {"widths": (4, 4, 8, 8, 8)},
    "guided-restormer": {"width": 8, "blocks": (1, 1, 1, 1)},
}


def trained(architecture: str, shape: dict[str, Any]) -> StreamedNetwork:
    """Return a network with weights of the size of trained ones, in every layer."""
    torch.manual_seed(6)
    network = build_network(architecture, shape).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def side_of(network: StreamedNetwork) -> int:
    """Return the side of a small picture that the network can be shown."""
    return max(network.unit_px, 64)


def scene(side: int, darkest: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Return random pixels, none darker than a value, a mask with gaps, and weights of tokens."""
    generator = torch.Generator().manual_seed(1)
    valid = (torch.rand(1, 1, side, side, generator=generator) > 0.1).float()
    rgb = darkest + (1 - darkest) * torch.rand(1, 3, side, side, generator=generator)
    return torch.where(valid > 0, rgb, FILL), valid, F.avg_pool2d(valid, 32)[:, 0]


def segments(side: int, seed: int = 2) -> Tensor:
    """Return a mask of square segments, (1, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(1, 256, (1, 1, side // 16, side // 16), generator=generator) / 255
    return F.interpolate(codes, scale_factor=16, mode="nearest")


def with_guide(rgb: Tensor, guide: Tensor) -> Tensor:
    return torch.cat((rgb, guide), dim=1)


def values(answer: Any) -> Tensor:
    """Return all that a network says, as one row of numbers."""
    if isinstance(answer, PaintedImage):
        return answer.clear.flatten()
    maps, haze = answer
    assert isinstance(maps, HazeMaps)
    found = (maps.thickness, maps.airlight, maps.presence, maps.edge_slope, haze.airlight)
    return torch.cat([each.flatten() for each in found])


@pytest.mark.parametrize("plain", PAIRS)
@torch.no_grad()
def test_an_expanded_network_answers_as_before_whatever_the_mask(plain: str) -> None:
    guided, shape = PAIRS[plain]
    network = trained(plain, shape)
    side = side_of(network)
    rgb, valid, weight = scene(side)
    expected = values(network(rgb, valid, weight))

    twin = expanded(network)

    assert (twin.architecture, twin.config, twin.guides) == (guided, network.config, 1)
    for guide in (torch.zeros_like(valid), torch.ones_like(valid), segments(side)):
        assert torch.equal(values(twin(with_guide(rgb, guide), valid, weight)), expected)


@pytest.mark.parametrize("plain", PAIRS)
def test_only_the_first_convolution_grows_by_one_channel(plain: str) -> None:
    network = trained(plain, PAIRS[plain][1])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    after = expanded(network).state_dict()

    assert list(after) == list(before)
    grown = [name for name in after if after[name].shape != before[name].shape]
    assert len(grown) == 1
    old, new = before[grown[0]], after[grown[0]]
    assert new.shape == (old.shape[0], old.shape[1] + 1, *old.shape[2:])
    assert torch.equal(new[:, :-1], old)
    assert not new[:, -1].any()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_shipped_weights_become_those_of_a_guided_network() -> None:
    model = load_model("dehazexl-lite")

    twin = expanded(model.network)

    assert parameter_count(twin) == model.card.parameters + 16 * model.network.config.widths[0]
    assert all(parameter.requires_grad for parameter in twin.parameters())
    assert not twin.training


@pytest.mark.parametrize("name", ["dehazexl-swin-s", "guided-lite"])
def test_what_has_no_guided_twin_is_refused(name: str) -> None:
    network = build_network("guided-lite", LITE.as_dict())
    network.architecture = name

    with pytest.raises(ModelError, match=name) as caught:
        expanded(network)
    assert caught.value.code == "MODEL_ARCHITECTURE"


@pytest.mark.parametrize("name", GUIDED)
@torch.no_grad()
def test_a_mask_matters_in_haze_and_not_at_all_above_clear_ground(name: str) -> None:
    network = trained(name, SMALL_SHAPES[name])
    side = side_of(network)
    one, other = segments(side, 2), segments(side, 3)

    def differs(darkest: float) -> bool:
        rgb, valid, weight = scene(side, darkest)
        for row in range(0, side, 32):
            rgb[..., row : row + 32 : 31, ::31] = darkest  # some pixel of every token
        valid[..., ::31] = 1
        answers = [values(network(with_guide(rgb, mask), valid, weight)) for mask in (one, other)]
        assert answers[0].isfinite().all()
        return not torch.equal(*answers)

    assert differs(HAZY)
    assert not differs(CLEAR)


@pytest.mark.parametrize("name", GUIDED)
@torch.no_grad()
def test_a_mask_says_nothing_of_pixels_without_data(name: str) -> None:
    network = trained(name, SMALL_SHAPES[name])
    rgb, valid, weight = scene(side_of(network))
    guide = segments(side_of(network))
    changed = torch.where(valid > 0, guide, 0.7)

    answers = [values(network(with_guide(rgb, mask), valid, weight)) for mask in (guide, changed)]

    assert torch.equal(*answers)


@pytest.mark.parametrize("name", GUIDED)
def test_every_layer_of_a_guided_network_learns(name: str) -> None:
    network = trained(name, SMALL_SHAPES[name]).train()
    rgb, valid, weight = scene(side_of(network))
    guide = segments(side_of(network))

    values(network(with_guide(rgb, guide), valid, weight)).square().mean().backward()

    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)


@pytest.mark.parametrize("plain", PAIRS)
def test_a_slice_of_zeros_learns_from_the_first_step_on(plain: str) -> None:
    twin = expanded(trained(plain, PAIRS[plain][1]))
    rgb, valid, weight = scene(side_of(twin))
    guide = segments(side_of(twin))

    values(twin(with_guide(rgb, guide), valid, weight)).square().mean().backward()

    slices = [p.grad[:, -1] for p in twin.parameters() if p.ndim == 4 and not p[:, -1].any()]
    assert len(slices) == 1
    assert slices[0].abs().max() > 0


@torch.no_grad()
def test_blocks_of_a_guided_network_equal_the_whole() -> None:
    network = trained("guided-lite", {})
    assert isinstance(network, TokenNetwork)
    rgb, valid, weight = scene(640)
    seen, halo = with_guide(rgb, segments(640)), network.halo_px
    tokens = network.encode(seen, valid)
    hidden = network.context(tokens, weight, 4096)
    haze = network.scene_haze(*network.scene_sums(hidden, weight))
    conditions = network.conditions(tokens, hidden)
    core, outer = slice(288, 352), slice(288 - halo, 352 + halo)
    cut, cells = (
        (..., outer, outer),
        (slice(None), *2 * [slice(outer.start // 32, outer.stop // 32)]),
    )

    whole = network.estimate(seen, valid, conditions, haze)
    part = network.estimate(seen[cut], valid[cut], conditions[cells], haze)
    encoded = network.encode(seen[cut], valid[cut])

    inside, middle = slice(halo, halo + 64), slice(halo // 32, halo // 32 + 2)
    for found, expected in zip(part.per_pixel(seen[cut]), whole.per_pixel(seen), strict=True):
        assert (found[..., inside, inside] - expected[..., core, core]).abs().max() <= 1e-5
    assert (encoded[:, middle, middle] - tokens[:, 9:11, 9:11]).abs().max() <= 1e-4


@torch.no_grad()
def test_haze_follows_the_brightness_of_bands_and_not_of_masks() -> None:
    network = trained("dehazexl-lite", LITE.as_dict())
    rgb, valid, weight = scene(64)
    maps, _ = network(rgb, valid, weight)

    for one, other in zip(
        maps.per_pixel(rgb), maps.per_pixel(with_guide(rgb, segments(64))), strict=True
    ):
        assert torch.equal(one, other)


def test_gaps_are_filled_with_bands_and_not_with_masks() -> None:
    painted = torch.rand(1, 3, 32, 32)
    painted[0, 1, 4, 5] = torch.nan
    rgb = torch.rand(1, 4, 32, 32)

    clear = PaintedImage(painted).without_gaps(rgb).clear

    assert torch.equal(clear[0, :, 4, 5], rgb[0, :3, 4, 5])
    assert torch.equal(clear[..., 6:, :], painted[..., 6:, :])


@pytest.mark.parametrize(
    ("darkest", "expected"),
    [(0.0, 0.0), (CLEAR, 0.0), (0.165, 0.5), (0.1225, 0.15625), (HAZY, 1.0), (0.9, 1.0)],
)
def test_the_gate_is_a_smooth_step(darkest: float, expected: float) -> None:
    pixels = torch.full((1, 3, 32, 64), 0.95)
    pixels[0, 1, 31, 0] = darkest

    weight = gate(pixels, torch.ones(1, 1, 32, 64))

    assert weight.shape == (1, 1, 1, 2)
    assert float(weight[0, 0, 0, 0]) == pytest.approx(expected, abs=1e-6)
    assert float(weight[0, 0, 0, 1]) == 1.0


def test_pixels_without_data_are_not_dark() -> None:
    pixels, valid = torch.full((1, 3, 32, 32), 0.6), torch.ones(1, 1, 32, 32)
    pixels[..., 3, 4], valid[..., 3, 4] = 0.0, 0.0

    assert float(gate(pixels, valid)) == 1.0
    assert float(gate(pixels, torch.ones_like(valid))) == 0.0


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 3), col=st.integers(0, 2), seed=st.integers(0, 99))
def test_cells_of_the_gate_do_not_see_each_other(row: int, col: int, seed: int) -> None:
    seen = torch.rand(1, 4, 128, 96, generator=torch.Generator().manual_seed(seed))
    valid = torch.ones(1, 1, 128, 96)
    cell = (..., slice(32 * row, 32 * row + 32), slice(32 * col, 32 * col + 32))

    assert torch.equal(gated(seen, valid, 3)[cell], gated(seen[cell], valid[cell], 3))


@pytest.mark.parametrize("name", GUIDED)
def test_a_guided_network_is_not_written_as_onnx(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    save_model(build_network(name, SMALL_SHAPES[name]), "mine", tmp_path, {})

    for refused in (
        lambda: parts_of(load_model("mine").network),
        lambda: export_model("mine", tmp_path / "mine.onnx"),
    ):
        with pytest.raises(ModelError, match="guided by a mask") as caught:
            refused()
        assert caught.value.code == "BACKEND_MODEL"
    assert not (tmp_path / "mine.onnx").exists()


@pytest.mark.parametrize("name", GUIDED)
def test_weights_of_a_guided_network_are_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path / "models"))
    network = trained(name, SMALL_SHAPES[name])
    save_file(network.state_dict(), tmp_path / "weights.safetensors")

    card = importer.import_model(
        tmp_path / "weights.safetensors", "mine", architecture=name, config=SMALL_SHAPES[name]
    )

    loaded = load_model("mine").network
    assert (card.architecture, loaded.guides) == (name, 1)
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[key])


@pytest.mark.parametrize("name", GUIDED)
def test_a_guided_network_without_weights_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))
    monkeypatch.setattr(registry, "WEIGHTS_FOLDER", tmp_path)

    with pytest.raises(ModelError, match=f"network '{name}'") as caught:
        load_model(name)
    assert caught.value.code == "MODEL_WEIGHTS_MISSING"


def test_weights_without_a_guide_are_no_weights_of_a_guided_network(tmp_path: Path) -> None:
    card = save_model(trained("distilled", STUDENT.as_dict()), "plain", tmp_path, {})
    path = tmp_path / "plain.json"
    path.write_text(path.read_text().replace('"distilled"', '"guided-distilled"'))

    with pytest.raises(ModelError, match=r"pre\.weight F16 8x3x3x3 instead of 8x4x3x3") as caught:
        load_model("plain", tmp_path)
    assert caught.value.code == "MODEL_SHAPE"
    assert card.parameters == parameter_count(build_network("distilled", STUDENT.as_dict()))
