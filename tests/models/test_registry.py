# SPDX-License-Identifier: GPL-3.0-or-later
"""Model cards and weights: what is refused, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dehaze_core.errors import ModelError
from dehaze_core.models import list_models, load_model, save_model
from dehaze_core.models.architectures import build_network
from dehaze_core.models.card_page import card_markdown
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig
from dehaze_core.models.dehazexl.published_config import BASE
from dehaze_core.models.registry import record_scores
from tests.models.published import TINY as TINY_PUBLISHED

TINY = LiteConfig(widths=(8, 8, 16, 16), context_heads=2, context_head_dim=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(DehazeXLLite(TINY), "tiny", tmp_path, {"note": "untrained"})
    return tmp_path


def test_saved_weights_load_in_half_precision(folder: Path) -> None:
    torch.manual_seed(0)
    original = DehazeXLLite(TINY).state_dict()

    model = load_model("tiny", folder)

    for key, value in model.network.state_dict().items():
        assert torch.equal(value, original[key].half().float())
    assert not model.network.training


@pytest.mark.parametrize("name", ["dehazexl-base", "dehazexl-small"])
def test_a_network_without_weights_says_how_to_get_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path))

    with pytest.raises(ModelError, match=f"network '{name}'") as caught:
        load_model(name)

    assert caught.value.code == "MODEL_WEIGHTS_MISSING"
    assert "dehaze models import" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"overlap": "yes"}, "'overlap' is yes, expected something like False"),
        ({"blending": True}, "'blending' is unknown, expected one of .*positions, overlap"),
        ({"context_heads": 16}, "'context_heads' is 16, expected .* at most 1 times as large"),
    ],
)
def test_a_shape_that_cannot_be_says_what_can(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_network("dehazexl-small", shape)
    assert caught.value.code == "MODEL_CARD"


def test_unknown_model_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(ModelError, match="known are tiny") as caught:
        load_model("small", folder)
    assert caught.value.code == "MODEL_UNKNOWN"


@pytest.mark.parametrize(
    "name",
    ["../tiny", "a/b", "a\\b", "", ".", "..", ".tiny", "tiny.", "Tiny", "tiny\n", "x" * 65, 3],
)
def test_names_that_are_no_plain_file_names_are_refused(folder: Path, name: Any) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(name, folder)
    assert caught.value.code == "MODEL_NAME"


def test_exchanged_weights_are_refused(folder: Path) -> None:
    path = folder / "tiny.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(ModelError) as caught:
        load_model("tiny", folder)
    assert caught.value.code == "MODEL_DIGEST"


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "tiny.safetensors").unlink()

    with pytest.raises(ModelError) as caught:
        load_model("tiny", folder)
    assert caught.value.code == "MODEL_WEIGHTS_MISSING"


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, b"\x08\0\0\0\0\0\0\0not json"])
def test_malformed_weights_are_refused(folder: Path, content: bytes) -> None:
    _replace_weights(folder, content)

    with pytest.raises(ModelError) as caught:
        load_model("tiny", folder)
    assert caught.value.code == "MODEL_FORMAT"


def test_weights_with_missing_or_extra_tensors_are_refused(folder: Path) -> None:
    save_file({"something": torch.zeros(3)}, folder / "tiny.safetensors")
    _replace_weights(folder, (folder / "tiny.safetensors").read_bytes())

    with pytest.raises(ModelError, match="something") as caught:
        load_model("tiny", folder)
    assert caught.value.code == "MODEL_SHAPE"


def test_card_for_another_model_is_refused(folder: Path) -> None:
    (folder / "tiny.json").rename(folder / "other.json")

    with pytest.raises(ModelError) as caught:
        list_models(folder)
    assert caught.value.code == "MODEL_CARD"


def test_shipped_models_load_and_fit_the_size_limit() -> None:
    cards = list_models()

    assert "dehazexl-lite" in [card.name for card in cards]
    for card in cards:
        network = load_model(card.name).network
        assert 2 * sum(p.numel() for p in network.parameters()) <= 16 * 2**20


def _replace_weights(folder: Path, content: bytes) -> None:
    import hashlib

    (folder / "tiny.safetensors").write_bytes(content)
    card = json.loads((folder / "tiny.json").read_text())
    card["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "tiny.json").write_text(json.dumps(card))


def test_measured_scores_are_added_to_the_card(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEHAZE_MODELS", str(folder))
    before = load_model("tiny").card

    record_scores("tiny", "pairs", {"PSNR": 20.0})
    record_scores("tiny", "others", {"PSNR": 18.0})
    record_scores("tiny", "pairs", {"PSNR": 21.0})

    after = load_model("tiny").card
    assert after.scores == {"pairs": {"PSNR": 21.0}, "others": {"PSNR": 18.0}}
    assert after.sha256 == before.sha256
    assert after.training == before.training


def test_a_card_is_a_page_that_holds_all_that_is_known(tmp_path: Path) -> None:
    torch.manual_seed(0)
    earlier = {"minutes": 3.0, "recipe": {"seed": 4}}
    training = {
        "minutes": 5.0,
        "licences": {"CC0 | public": 7},
        "sites": ["a", "b"],
        "recipe": {"seed": 5, "batches": {"levels": {"L0": 0.2}}},
        "start": {"sha256": "c" * 64, "training": earlier},
    }
    scores = {"held_out": {"L1": 25.123456}}
    card = save_model(DehazeXLLite(TINY), "tiny", tmp_path, training, scores, ("Sees no snow.",))

    page = card_markdown(card)

    for text in (
        "## tiny",
        card.sha256,
        f"{card.parameters:,}",
        "- 7 x CC0 | public",
        "Trained on: a, b.",
        "batches.levels.L0 = 0.2",
        "Went on from weights with sha256 cccccccccccc.",
        "seed = 4",
        "### Measured: held out",
        "| L1 | 25.12 |",
        "- Sees no snow.",
    ):
        assert text in page


def test_a_published_network_is_saved_and_loaded_as_what_it_is(tmp_path: Path) -> None:
    config = {**TINY_PUBLISHED.as_dict(), "overlap": True, "positions": "rescaled"}
    network = build_network("dehazexl-small", config)

    card = save_model(network, "tiny", tmp_path, {})
    loaded = load_model("tiny", tmp_path).network

    assert card.architecture == loaded.architecture == "dehazexl-small"
    assert loaded.config == network.config
    assert loaded.halo_px == 256
    assert not any("index" in name or "mask" in name for name in loaded.state_dict())


@pytest.mark.parametrize(("name", "value"), [("width", 128), ("depths", [2, 2, 7, 2])])
def test_a_card_cannot_ask_for_more_than_the_published_network(name: str, value: Any) -> None:
    with pytest.raises(ModelError, match=name) as caught:
        build_network("dehazexl-base", {**BASE.as_dict(), name: value})
    assert caught.value.code == "MODEL_CARD"
