# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of Segment Anything: brought in, kept, loaded, downloaded."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from typer.testing import CliRunner

from dehaze_core import cli
from dehaze_core.errors import ModelError, SettingsError
from dehaze_core.models.safetensors_header import read_outline
from dehaze_core.segmentation.sam import checkpoints
from dehaze_core.segmentation.sam.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    fetch_checkpoint,
    find_card,
    import_checkpoint,
    list_cards,
    load_weights,
    remove_checkpoint,
)
from dehaze_core.segmentation.sam.networks import trained_sam
from dehaze_core.segmentation.segmenter import SAM_SEGMENTERS, find_segmenter
from tests.faults.pickle_cases import ARCHIVES, PICKLES, Make
from tests.segmentation.sams import SIDE, squares, tiny_mobile, tiny_sam

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of segmenters, and small networks in the place of the official ones."""
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path / "models"))
    for module in ("checkpoints", "networks"):
        monkeypatch.setattr(
            f"dehaze_core.segmentation.sam.{module}.outline_network",
            lambda name: tiny_mobile() if name == "mobile" else tiny_sam(),
        )
    monkeypatch.setattr(checkpoints, "_WIDTHS", {(48,): "small"})
    return tmp_path / "models" / "segmenters"


def official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a MobileSAM as its official checkpoint has them."""
    return {
        **tensors,
        "image_encoder.patch_embed.seq.0.bn.num_batches_tracked": torch.tensor(5),
        "image_encoder.norm_head.weight": torch.ones(16),
        "image_encoder.head.weight": torch.ones(10, 16),
    }


@pytest.fixture
def mobile(tmp_path: Path) -> Path:
    """A checkpoint of a small MobileSAM, laid out like the official one."""
    path = tmp_path / "mobile.pt"
    torch.save(official(tiny_mobile().state_dict()), path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A safetensors file of a small Sam with a vision transformer."""
    path = tmp_path / "small.safetensors"
    save_file(tiny_sam().state_dict(), path)
    return path


def refusal(path: Path, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        import_checkpoint(path, **options)
    return caught.value


def test_the_official_ones_are_known_by_digest_and_size() -> None:
    assert tuple(CHECKPOINTS) == SAM_SEGMENTERS
    for known in CHECKPOINTS.values():
        assert known.url.startswith("https://")
        assert len(bytes.fromhex(known.sha256)) == 32


def test_a_checkpoint_with_a_pickle_is_imported_and_segments(mobile: Path, folder: Path) -> None:
    card = import_checkpoint(mobile)

    assert (card.name, card.licence) == ("mobile", "unknown")
    assert card.training == {
        "official": False,
        "imported_from": "mobile.pt",
        "imported_sha256": hashlib.sha256(mobile.read_bytes()).hexdigest(),
    }
    wanted = tiny_mobile().state_dict()
    assert set(load_file(folder / "mobile.safetensors")) == set(wanted)
    assert sorted(path.name for path in folder.iterdir()) == ["mobile.json", "mobile.safetensors"]

    segmenter = find_segmenter("mobile", CPU)

    assert segmenter.side == SIDE
    assert card.sha256 in segmenter.identity
    assert isinstance(segmenter(squares(64, 64)), list)


def test_loaded_weights_are_those_imported(small: Path) -> None:
    import_checkpoint(small)

    card, tensors = load_weights("small")

    assert card == find_card("small")
    sam: Any = trained_sam("small", tensors)
    for key, value in tiny_sam().state_dict().items():
        assert torch.equal(sam.state_dict()[key], value)
    assert sam.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert not any(value.is_meta for value in [*sam.parameters(), *sam.buffers()])


def test_half_precision_is_computed_in_float32(small: Path) -> None:
    save_file({key: value.half() for key, value in load_file(small).items()}, small)
    import_checkpoint(small)

    sam = trained_sam("small", load_weights("small")[1])

    assert {value.dtype for value in sam.parameters()} == {torch.float32}


def test_safetensors_need_no_other_process(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "unpickle_elsewhere", None)

    assert import_checkpoint(small).name == "small"


def test_weights_are_replaced_only_when_asked(small: Path) -> None:
    first = import_checkpoint(small)
    changed = {key: value + 1 for key, value in load_file(small).items()}
    save_file(changed, small)

    error = refusal(small)
    second = import_checkpoint(small, overwrite=True)

    assert error.code == "MODEL_EXISTS"
    assert "--overwrite" in error.hint
    assert first.sha256 != second.sha256
    assert find_card("small") == second


def test_what_is_no_segment_anything_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"conv.weight": torch.ones(3)}, path)

    assert refusal(path).code == "MODEL_SHAPE"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_must_be_exactly_those_of_the_size(small: Path, change: str) -> None:
    tensors = load_file(small)
    name = "mask_decoder.iou_token.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["mask_decoder.more"] = torch.ones(1)
    else:
        tensors[name] = torch.ones(2, 32)
    save_file(tensors, small)

    assert refusal(small).code == "MODEL_SHAPE"


def test_values_must_be_numbers(small: Path) -> None:
    tensors = load_file(small)
    tensors["mask_decoder.iou_token.weight"][0, 0] = float("nan")
    save_file(tensors, small)

    assert refusal(small).code == "MODEL_VALUES"


def test_what_the_child_gives_back_must_fit_too(
    mobile: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(path: Path, target: Path) -> Any:
        data = save(tiny_sam().state_dict())
        target.write_bytes(data)
        return read_outline(io.BytesIO(data), len(data))

    monkeypatch.setattr(checkpoints, "unpickle_elsewhere", other)

    assert refusal(mobile).code == "MODEL_SHAPE"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("make", [*PICKLES.values(), *ARCHIVES.values()])
def test_hostile_checkpoints_never_reach_an_unpickler(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    monkeypatch.setattr(checkpoints, "unpickle_elsewhere", None)
    canary, path = tmp_path / "canary", tmp_path / "sam_vit_b_01ec64.pth"
    path.write_bytes(make(canary))

    assert refusal(path).code in {"MODEL_FORMAT", "MODEL_UNSAFE", "MODEL_SHAPE", "MODEL_SIZE"}
    assert not canary.exists()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"\x80\x02}.", b"PK\x03\x04", b"GGUF0000"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(data)

    assert refusal(path).code in {"MODEL_FORMAT", "MODEL_SIZE"}
    assert refusal(tmp_path / "nothing.pth").code == "MODEL_FILE"


def test_weights_that_were_exchanged_are_refused(small: Path, folder: Path) -> None:
    import_checkpoint(small)
    kept = folder / "small.safetensors"
    tensors = load_file(kept)
    save_file({key: value + 1 for key, value in tensors.items()}, kept)

    with pytest.raises(ModelError) as caught:
        find_segmenter("small", CPU)
    assert caught.value.code == "MODEL_DIGEST"
    assert "fetch-sam small --overwrite" in caught.value.hint


def test_a_card_without_weights_is_one_of_missing_weights(small: Path, folder: Path) -> None:
    import_checkpoint(small)
    (folder / "small.safetensors").unlink()

    with pytest.raises(ModelError) as caught:
        load_weights("small")
    assert caught.value.code == "MODEL_WEIGHTS_MISSING"


def test_a_damaged_card_is_warned_of_and_left_out(small: Path, folder: Path) -> None:
    card = import_checkpoint(small)
    (folder / "mobile.json").write_text("{", encoding="utf-8")

    with pytest.warns(UserWarning, match=r"mobile\.json"):
        assert list_cards() == [card]


class Server(HTTPServer):
    """Serves one file, and counts how often it is asked for.

    Attributes:
        content: What it answers; 404 where empty.
    """

    content = b""
    asked = 0


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's content."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200 if self.server.content else 404)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that has a small MobileSAM, without a pickle, in the place of the official one."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content = save(official(tiny_mobile().state_dict()))
        known = Checkpoint(
            f"http://127.0.0.1:{server.server_port}/weights/mobile_sam.pt",
            hashlib.sha256(server.content).hexdigest(),
            len(server.content),
        )
        monkeypatch.setitem(CHECKPOINTS, "mobile", known)
        monkeypatch.setenv("no_proxy", "*")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_checked_and_imported_once(server: Server, folder: Path) -> None:
    told: list[float] = []

    card = fetch_checkpoint("mobile", advance=told.append)
    again = fetch_checkpoint("mobile")

    assert card == again == find_card("mobile")
    assert card.training["official"] is True
    assert card.licence == "Apache-2.0"
    assert card.training["imported_from"] == "mobile_sam.pt"
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert server.asked == 1
    assert sorted(path.name for path in folder.iterdir()) == ["mobile.json", "mobile.safetensors"]


@pytest.mark.parametrize("change", ["cut", "longer", "other"])
def test_a_download_of_other_bytes_is_refused(server: Server, folder: Path, change: str) -> None:
    good = server.content
    changed = {"cut": good[:-9], "longer": good + bytes(9), "other": good[:-1] + b"?"}
    server.content = changed[change]

    with pytest.raises(ModelError) as caught:
        fetch_checkpoint("mobile")

    assert caught.value.code == "MODEL_DIGEST"
    assert not list(folder.iterdir())


def test_a_file_that_cannot_be_had_is_told_with_another_way(server: Server) -> None:
    server.content = b""

    with pytest.raises(ModelError) as caught:
        fetch_checkpoint("mobile")

    assert caught.value.code == "MODEL_DOWNLOAD"
    assert "404" in caught.value.message
    assert "import-sam mobile_sam.pt" in caught.value.hint


def test_a_download_never_replaces_other_weights_unasked(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({key: value + 1 for key, value in tiny_mobile().state_dict().items()}, path)
    import_checkpoint(path)

    with pytest.raises(ModelError) as caught:
        fetch_checkpoint("mobile")

    assert caught.value.code == "MODEL_EXISTS"
    assert server.asked == 0
    assert fetch_checkpoint("mobile", overwrite=True).training["official"] is True


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"'slic'.*mobile.*large"):
        fetch_checkpoint("slic")


def command(*arguments: Any) -> str:
    result = CliRunner().invoke(cli.app, ["models", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_the_command_line_brings_weights_in_and_lists_them(
    server: Server, small: Path, folder: Path
) -> None:
    assert "segmenter" not in command()

    fetched = command("fetch-sam", "mobile")
    imported = command("import-sam", small)
    listed = command()

    assert fetched.startswith("Segmenter 'mobile' is ready: official weights in")
    assert imported.startswith("Segmenter 'small' is ready: weights that are not official in")
    assert "mobile_sam.pt" in listed
    assert "small.safetensors" in listed
    assert json.loads((folder / "small.json").read_text())["architecture"].endswith("small")


def test_weights_are_removed_by_name_even_with_a_damaged_card(small: Path, folder: Path) -> None:
    command("import-sam", small)
    (folder / "small.json").write_text("no card")

    assert command("remove-sam", "small") == "Removed the weights of the segmenter 'small'."

    assert list(folder.iterdir()) == []
    with pytest.raises(ModelError) as caught:
        remove_checkpoint("small")
    assert caught.value.code == "MODEL_UNKNOWN"
    with pytest.raises(SettingsError):
        remove_checkpoint("slic")
