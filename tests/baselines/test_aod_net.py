# SPDX-License-Identifier: GPL-3.0-or-later
"""AOD-Net has the published shape and formula, and reads weights without running them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dehaze_core.baselines.aod_net import MOST_BYTES, AODNet, aod_net
from dehaze_core.errors import ModelError


def constant_k(k: float) -> AODNet:
    """A network whose K is the same everywhere."""
    network = AODNet()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.e_conv5.bias.fill_(k)
    return network


def saved(network: AODNet, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def test_network_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in AODNet().parameters()) == 1761


def test_clear_picture_is_k_times_hazy_minus_k_plus_one() -> None:
    hazy = torch.full((1, 3, 4, 4), 0.75)

    with torch.no_grad():
        assert torch.allclose(constant_k(2.0)(hazy), torch.tensor(2 * 0.75 - 2 + 1.0))
        assert torch.equal(constant_k(9.0)(hazy), torch.zeros(1, 3, 4, 4)), "ReLU: never negative"
        assert torch.equal(constant_k(-1.0)(hazy), torch.ones(1, 3, 4, 4)), "K is not negative"


def test_each_layer_sees_the_layers_it_is_wired_to() -> None:
    network = constant_k(0.0)
    with torch.no_grad():
        network.e_conv1.weight[0, 0] = 1.0  # c1 red = hazy red
        network.e_conv2.weight[0, 0, 1, 1] = 2.0  # c2 red = 2 c1 red
        network.e_conv3.weight[0, 3, 2, 2] = 3.0  # c3 red = 3 c2 red, second half of [c1, c2]
        network.e_conv4.weight[0, 3, 3, 3] = 5.0  # c4 red = 5 c3 red, second half of [c2, c3]
        network.e_conv5.weight[0, 9, 1, 1] = 0.1  # K red = 0.1 c4 red, last of four
        clear = network(torch.full((1, 3, 8, 8), 0.5))

    k = 0.1 * 5 * 3 * 2 * 0.5
    assert torch.allclose(clear[0, 0], torch.tensor(k * 0.5 - k + 1))
    assert torch.equal(clear[0, 1], torch.ones(8, 8))


def test_restored_picture_is_rounded_to_8_bits(tmp_path: Path) -> None:
    restore = aod_net(saved(constant_k(2.0), tmp_path))

    restored = restore(np.full((5, 7, 3), 200, np.uint8))

    assert restored.shape == (5, 7, 3)
    assert (restored == 2 * 200 - 255).all()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")

    with pytest.raises(ModelError, match="AOD-Net") as caught:
        aod_net(tmp_path / "other.pth")
    assert caught.value.code == "MODEL_SHAPE"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.pth") as caught:
        aod_net(tmp_path / "none.pth")
    assert caught.value.code == "MODEL_FILE"


def test_a_large_file_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / "large.pth").write_bytes(bytes(MOST_BYTES + 1))

    with pytest.raises(ModelError, match="bytes") as caught:
        aod_net(tmp_path / "large.pth")
    assert caught.value.code == "MODEL_SHAPE"


def test_no_pickle_is_read_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = saved(constant_k(2.0), tmp_path)
    monkeypatch.setattr(torch, "load", None)

    assert (aod_net(weights)(np.full((4, 4, 3), 200, np.uint8)) == 145).all()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        aod_net(saved(constant_k(float("nan")), tmp_path))
    assert caught.value.code == "MODEL_VALUES"


class Bomb:
    def __reduce__(self) -> tuple:
        return (open, ("exploded", "w"))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a pickle", pickle.dumps(Bomb(), 2), pickle.dumps([1, 2], 2)],
    ids=["empty", "text", "code", "list"],
)
def test_files_of_anything_but_weights_are_refused_and_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pth").write_bytes(content)

    with pytest.raises(ModelError) as caught:
        aod_net(tmp_path / "bad.pth")

    assert caught.value.code == "MODEL_IMPORT"
    assert not (tmp_path / "exploded").exists()


def test_published_weights_are_read_where_they_are_at_hand() -> None:
    weights = (
        Path(__file__).parents[2].parent / "shared" / "weights" / "aod_net_mit" / "dehazer.pth"
    )
    if not weights.is_file():
        pytest.skip("the weights are not part of Dehaze")
    restore = aod_net(weights)

    # Their one known effect: a grey veil gets darker.
    assert restore(np.full((32, 32, 3), 180, np.uint8)).mean() < 150
