# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing weights: what is taken, where it goes, and what the process that unpickles may do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn
from typer.testing import CliRunner

from dehaze_core import cli, places
from dehaze_core.errors import DehazeError, ModelError
from dehaze_core.models import ModelCard, importer, list_models, load_model, registry, save_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite, LiteConfig, parameter_count
from dehaze_core.models.importer_pickle import follow_pickle
from tests.models.published import TINY as TINY_PUBLISHED
from tests.models.published import checkpoint, tiny

TINY = LiteConfig(widths=(8, 8, 16, 16), context_heads=2, context_head_dim=8)
SHIPPED = "dehazexl-lite"


@pytest.fixture
def network() -> DehazeXLLite:
    torch.manual_seed(0)
    return DehazeXLLite(TINY)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model folder, as every function finds it."""
    monkeypatch.setenv("DEHAZE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def bring_in(path: Path, name: str = "mine") -> ModelCard:
    return importer.import_model(path, name, config=TINY.as_dict(), licence="CC0-1.0")


def refusal(path: Path, name: str = "mine") -> ModelError:
    with pytest.raises(ModelError) as caught:
        bring_in(path, name)
    return caught.value


def run_child(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "dehaze_core.models.importer_child", source, target],
        capture_output=True,
        text=True,
        check=False,
    )


def names_of(cards: list[ModelCard]) -> list[str]:
    return [card.name for card in cards]


def models_command(*arguments: Any) -> str:
    result = CliRunner().invoke(cli.app, ["models", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def assert_same_weights(name: str, network: nn.Module) -> None:
    loaded = load_model(name).network.state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(loaded[key], value)


def test_a_training_checkpoint_of_a_parallel_model_is_imported(
    network: DehazeXLLite, tmp_path: Path
) -> None:
    optimiser = torch.optim.AdamW(network.parameters())
    sum(value.square().sum() for value in network.parameters()).backward()
    optimiser.step()
    parallel = {f"module.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path / "state.pth"
    torch.save({"model": parallel, "optimiser": optimiser.state_dict(), "epoch": 3}, path)

    card = bring_in(path)

    assert card.licence == "CC0-1.0"
    assert card.training["imported_from"] == "state.pth"
    assert_same_weights("mine", network)
    assert names_of(list_models()) == [*names_of(list_models(registry.WEIGHTS_FOLDER)), "mine"]


def test_safetensors_are_imported_without_another_process(
    network: DehazeXLLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer.subprocess, "run", None)
    save_file(network.state_dict(), tmp_path / "w.safetensors")

    bring_in(tmp_path / "w.safetensors")

    assert_same_weights("mine", network)


def test_what_the_child_gives_back_must_fit_the_network_too(
    network: DehazeXLLite, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pth")
    other = DehazeXLLite(LiteConfig(widths=(8, 8, 16, 8))).state_dict()
    monkeypatch.setattr(importer, "unpickled_elsewhere", lambda path: save(other))

    assert refusal(tmp_path / "w.pth").code == "MODEL_SHAPE"
    assert not folder.exists()


def test_a_tensor_with_hooks_is_refused_by_its_pickle_alone() -> None:
    from tests.faults.pickle_cases import hooked, state, tensor

    assert "w" in follow_pickle(state(tensor()), {"0": 16})
    with pytest.raises(ModelError) as caught:
        follow_pickle(state(hooked()), {"0": 16})
    assert caught.value.code == "MODEL_UNSAFE"


def test_a_trained_model_is_imported_with_its_card(network: DehazeXLLite, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"training": {"images": 3}, "scores": {"L1": 25.0}}
    save_model(network, "trained", tmp_path, **facts, limits=("Fails at night.",))

    result = models_command(
        "import", tmp_path / "trained.safetensors", "--name", "mine",
        "--card", tmp_path / "trained.json",
    )  # fmt: skip

    card = load_model("mine").card
    assert "mine.safetensors" in result
    assert LiteConfig.from_dict(card.config) == TINY
    assert card.training["images"] == 3
    assert card.training["imported_from"] == "trained.safetensors"
    assert (card.scores, card.limits) == (facts["scores"], ("Fails at night.",))
    assert card.licence == "GPL-3.0-or-later"


@pytest.mark.parametrize(("spoil", "code"), [("sha256", "MODEL_DIGEST"), ("name", "MODEL_CARD")])
def test_a_card_of_other_weights_is_refused(
    network: DehazeXLLite, tmp_path: Path, folder: Path, spoil: str, code: str
) -> None:
    save_model(network, "trained", tmp_path, {})
    content = json.loads((tmp_path / "trained.json").read_text())
    (tmp_path / "trained.json").write_text(json.dumps({**content, spoil: "0" * 64}))

    with pytest.raises(ModelError) as caught:
        importer.import_model(
            tmp_path / "trained.safetensors", "mine", origin=tmp_path / "trained.json"
        )

    assert caught.value.code == code
    assert not folder.exists()


def test_pickled_weights_that_are_not_finite_are_refused(
    network: DehazeXLLite, tmp_path: Path, folder: Path
) -> None:
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = torch.nan
    torch.save(network.state_dict(), tmp_path / "w.pt")

    assert refusal(tmp_path / "w.pt").code == "MODEL_VALUES"
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [("../mine", "MODEL_NAME"), (SHIPPED, "MODEL_EXISTS"), ("old", "MODEL_EXISTS")],
)
def test_names_that_are_not_plain_or_not_free_are_refused(
    network: DehazeXLLite, tmp_path: Path, folder: Path, name: str, code: str
) -> None:
    save_model(network, "old", folder, {})
    save_file(network.state_dict(), tmp_path / "w.safetensors")

    assert refusal(tmp_path / "w.safetensors", name).code == code


def test_a_model_of_the_user_never_stands_in_for_a_shipped_one(
    network: DehazeXLLite, folder: Path
) -> None:
    save_model(network, SHIPPED, folder, {})

    assert load_model(SHIPPED).card.parameters == list_models(registry.WEIGHTS_FOLDER)[0].parameters
    assert names_of(list_models()) == names_of(list_models(registry.WEIGHTS_FOLDER))


def test_a_damaged_card_of_the_user_hides_no_other_model(
    network: DehazeXLLite, folder: Path
) -> None:
    save_model(network, "good", folder, {})
    (folder / "bad.json").write_text("{")

    with pytest.warns(UserWarning, match="MODEL_CARD"):
        names = names_of(list_models())

    assert names == [*names_of(list_models(registry.WEIGHTS_FOLDER)), "good"]
    assert load_model("good").card.name == "good"


def test_old_pytorch_is_not_let_near_a_pickle(
    network: DehazeXLLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer.torch, "__version__", "2.9.1+cpu")
    torch.save(network.state_dict(), tmp_path / "w.pth")

    error = refusal(tmp_path / "w.pth")

    assert error.code == "MODEL_TORCH"
    assert "CVE-2026-24747" in error.message


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0a0+git"])
def test_later_pytorch_is_taken(version: str) -> None:
    importer.refuse_unsafe_torch(version)


def test_a_child_that_hangs_is_given_up(
    network: DehazeXLLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "CHILD_SECONDS", 0.01)
    torch.save(network.state_dict(), tmp_path / "w.pth")

    assert refusal(tmp_path / "w.pth").code == "MODEL_IMPORT"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux's")
def test_the_child_may_not_take_all_memory() -> None:
    code = (
        "import torch\n"
        "from dehaze_core.models.importer_child import limit_this_process\n"
        "limit_this_process(1 << 20)\n"
        "torch.empty(1 << 20)\n"
        "try: torch.empty(1 << 30)\n"
        "except RuntimeError: print('refused')\n"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )

    assert done.stdout == "refused\n"


@pytest.mark.parametrize(
    "case",
    [
        "REDUCE os.system",
        "BUILD with __setstate__",
        "SETITEM on a tensor (CVE-2026-24747)",
        "storage larger than in the archive (CVE-2026-24747)",
    ],
)
def test_the_child_alone_runs_nothing_either(case: str, tmp_path: Path) -> None:
    from tests.faults.pickle_cases import PICKLES

    make: Callable[[Path], bytes] = PICKLES[case]
    (tmp_path / "hostile.pth").write_bytes(make(tmp_path / "canary"))

    done = run_child(tmp_path / "hostile.pth", tmp_path / "out")

    assert done.returncode == 1
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "out").exists()


def test_the_model_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEHAZE_MODELS")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(places.sys, "platform", "linux")
    assert places.models_folder() == Path("/home/someone/.local/share/dehaze/models")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert places.models_folder() == Path("/data/dehaze/models")
    monkeypatch.setattr(places.sys, "platform", "darwin")
    expected = Path("/home/someone/Library/Application Support/dehaze/models")
    assert places.models_folder() == expected
    monkeypatch.setattr(places.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert places.models_folder() == Path("/local/dehaze/models")


def test_commands_import_list_and_remove(tmp_path: Path, folder: Path) -> None:
    save_file(DehazeXLLite(LiteConfig()).state_dict(), tmp_path / "w.safetensors")

    models_command("import", tmp_path / "w.safetensors", "--name", "mine")
    assert '"name": "mine"' in models_command("--json")
    assert "imported" in models_command()
    models_command("remove", "mine")
    assert list(folder.iterdir()) == []


def test_a_shape_is_changed_on_import(tmp_path: Path, folder: Path) -> None:
    save_file(DehazeXLLite(LiteConfig()).state_dict(), tmp_path / "w.safetensors")

    models_command(
        "import", tmp_path / "w.safetensors", "--name", "mine", "--set", "context_budget=64"
    )

    assert load_model("mine").network.config == LiteConfig(context_budget=64)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("context_budget", "expected KEY=VALUE"),
        ("context_budget=many", "'context_budget' is many"),
        ("beauty=1", "no network dehazexl-lite of this shape: 'beauty'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(
    tmp_path: Path, folder: Path, change: str, error: str
) -> None:
    save_file(DehazeXLLite(LiteConfig()).state_dict(), tmp_path / "w.safetensors")

    arguments = ["models", "import", str(tmp_path / "w.safetensors"), "--name", "mine"]
    refused = CliRunner().invoke(cli.app, [*arguments, "--set", change]).exception

    assert isinstance(refused, DehazeError)
    assert error in refused.message
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [(SHIPPED, "MODEL_SHIPPED"), ("other", "MODEL_UNKNOWN"), ("../mine", "MODEL_NAME")],
)
def test_only_models_of_the_user_can_be_removed(name: str, code: str) -> None:
    with pytest.raises(ModelError) as caught:
        registry.remove_model(name)

    assert caught.value.code == code


def test_a_checkpoint_of_the_published_program_is_imported(tmp_path: Path) -> None:
    network = tiny()
    torch.save({"state_dict": checkpoint(network)}, tmp_path / "published.pth")
    save_file(checkpoint(network), tmp_path / "published.safetensors")

    for suffix in ("pth", "safetensors"):
        card = bring_in_published(tmp_path / f"published.{suffix}", suffix)

        assert card.architecture == "dehazexl-small"
        assert card.parameters == parameter_count(network)
        assert_same_weights(suffix, network)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("bottleneck.layers.0.attn.qkv.bias", None, "1 missing (context.layers.0.attn.qkv.bias)"),
        ("decoder.layers_up.3.blocks.1.attn_mask", (4, 64, 64), "1 not known (decoder"),
        ("decoder.layers_up.9.blocks.1.attn_mask", (64, 64, 64), "1 not known (decoder"),
        ("bottleneck.layers.0.attn.qkv.bias", (5,), "1 of another shape (context"),
    ],
)
def test_a_checkpoint_of_nearly_the_published_layout_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None, told: str
) -> None:
    tensors = checkpoint(tiny())
    if shape is None:
        del tensors[name]
    else:
        tensors[name] = torch.zeros(shape)
    save_file(tensors, tmp_path / "w.safetensors")

    with pytest.raises(ModelError) as caught:
        bring_in_published(tmp_path / "w.safetensors", "mine")

    assert caught.value.code == "MODEL_SHAPE"
    assert told in caught.value.message


def test_indices_are_no_weights(tmp_path: Path) -> None:
    tensors = checkpoint(tiny())
    tensors["decoder.output.weight"] = tensors["decoder.output.weight"].long()
    save_file(tensors, tmp_path / "w.safetensors")

    with pytest.raises(ModelError, match=r"decoder\.output\.weight I64"):
        bring_in_published(tmp_path / "w.safetensors", "mine")


def bring_in_published(path: Path, name: str) -> ModelCard:
    config = TINY_PUBLISHED.as_dict()
    return importer.import_model(path, name, architecture="dehazexl-small", config=config)
