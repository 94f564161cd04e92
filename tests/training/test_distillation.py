# SPDX-License-Identifier: GPL-3.0-or-later
"""A student learns from the truth and from a guide; the guide stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dehaze_core.engine.device import choose_device
from dehaze_core.engine.in_memory import restore_array
from dehaze_core.errors import DehazeError, ModelError, SettingsError
from dehaze_core.models import load_model, save_model
from dehaze_core.models.dehazexl.lite import LiteConfig
from dehaze_core.models.streaming import PaintedImage
from dehaze_core.models.student.student import Student, StudentConfig
from dehaze_core.models.student.teacher import Teacher, TeacherConfig
from dehaze_core.models.teachers import load_teacher, save_teacher, teacher_name
from dehaze_core.training.batches import Batch, HazyBatches, stack
from dehaze_core.training.distillation import FeatureGuide, Guidance, ModelGuide, OutputGuide
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.loop import Trainer
from dehaze_core.training.losses import evaluate
from dehaze_core.training.recipe import BatchRecipe, Distillation, LossWeights, TrainRecipe
from dehaze_core.training.session import TrainFolders, train
from dehaze_core.training.start import begin_with
from tests.training.pictures import STUDENT, clear_folder, saved_teacher
from tests.training.test_training import ground

RECIPE = TrainRecipe(
    minutes=0.005,
    architecture="distilled",
    config=STUDENT,
    batches=BatchRecipe(shapes=((64, 2, 1.0),)),
)
KINDS = ["outputs", "features", "model"]


@pytest.fixture(scope="module")
def batches() -> HazyBatches:
    return HazyBatches(ImagePool({"a": [ground(1)]}), [], seed=2, recipe=RECIPE.batches)


@pytest.fixture
def sample(batches: HazyBatches) -> Batch:
    rng = np.random.default_rng(1)
    return stack([batches.sample(rng, 64, level) for level in ("L2", "L3")])


@pytest.fixture(autouse=True)
def small_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(batches: HazyBatches, seed: int) -> dict[str, Batch]:
        rng = np.random.default_rng(seed)
        return {level: batches.sample(rng, 64, level) for level in ("L0", "L2")}

    monkeypatch.setattr("dehaze_core.training.loop._validation_set", small)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_teacher(tmp_path_factory.mktemp("teacher"))


def student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    return Student(STUDENT)


def recipe(kind: str | None, teacher: str) -> TrainRecipe:
    if kind is None:
        return RECIPE
    return replace(RECIPE, distillation=Distillation(kind=kind, teacher=teacher))


def trainer(folder: Path, batches: HazyBatches, recipe: TrainRecipe) -> Trainer:
    return Trainer(recipe, batches, batches, folder, choose_device("cpu"), lambda _: None)


def guide_of(folder: Path, batches: HazyBatches, kind: str, teacher: str) -> Guidance:
    guide = trainer(folder, batches, recipe(kind, teacher)).guide
    assert guide is not None
    return guide


def pooled(image: Tensor, cell: int) -> Tensor:
    return F.avg_pool2d(image, cell).flatten(2).double()


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_student_learns_with_every_guide_and_without(
    kind: str | None, tmp_path: Path, batches: HazyBatches, sample: Batch, teacher: str
) -> None:
    run = trainer(tmp_path, batches, recipe(kind, teacher))
    before = float(evaluate(run.state.model, sample, LossWeights(), guide=run.guide).loss.detach())

    for _ in range(12):
        run._step(sample, 0.02)

    after = float(evaluate(run.state.model, sample, LossWeights(), guide=run.guide).loss.detach())
    assert after < before - 0.02
    assert (run.guide is None) == (kind is None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_guide_reaches_the_student_only(
    kind: str, tmp_path: Path, batches: HazyBatches, sample: Batch, teacher: str
) -> None:
    guide, network = guide_of(tmp_path, batches, kind, teacher), student()

    with_guide = evaluate(network, sample, LossWeights(), guide=guide)
    added = with_guide.loss - evaluate(network, sample, LossWeights()).loss
    added.backward()

    assert float(added.detach()) > 0
    first = network.pre.weight.grad
    assert first is not None
    assert float(first.abs().max()) > 1e-9
    source = guide.compare.network if kind == "model" else guide.compare.teacher
    assert not source.training
    assert all(p.grad is None and not p.requires_grad for p in source.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_pixels_have_no_part_in_guidance(
    kind: str, tmp_path: Path, batches: HazyBatches, sample: Batch, teacher: str
) -> None:
    guide, network = guide_of(tmp_path, batches, kind, teacher), student()
    sample.valid[..., 30:] = False
    first = evaluate(network, sample, LossWeights(), guide=guide).loss
    sample.clear[..., 30:] = 255 - sample.clear[..., 30:]
    sample.hazy[..., 30:] = 0

    assert torch.allclose(first, evaluate(network, sample, LossWeights(), guide=guide).loss)


def test_painted_pixels_without_data_have_no_part_in_guidance(sample: Batch, teacher: str) -> None:
    sample.valid[..., 30:] = False
    painted, features = torch.rand(2, 3, 64, 64), tuple(torch.rand(3, 2, 8, 64, 64))
    network = load_teacher(teacher).network
    guides = (OutputGuide(network, "l2"), FeatureGuide(network, "kl"), ModelGuide(student().eval()))

    before = [float(guide(sample, PaintedImage(painted, features))) for guide in guides]
    for values in (painted, *features):
        values[..., 30:] += 1.0
    after = [float(guide(sample, PaintedImage(painted, features))) for guide in guides]

    assert before == after


def test_the_guide_of_outputs_is_the_published_one(sample: Batch, teacher: str) -> None:
    sample.valid[:] = True
    network, painted = load_teacher(teacher).network, torch.rand(2, 3, 64, 64)

    found = OutputGuide(network, "l2")(sample, PaintedImage(painted))

    mine = pooled(painted, 4)
    wanted = pooled(network(sample.clear / 255).image, 8)
    difference = mine.mT @ mine - wanted.mT @ wanted
    published = torch.linalg.matrix_norm(difference) / 256**2
    assert float(found) == pytest.approx(float(published.mean()), rel=1e-5)


@pytest.mark.parametrize("kind", ["l2", "l1", "kl"])
def test_features_are_compared_whatever_their_scale(kind: str, sample: Batch, teacher: str) -> None:
    sample.valid[:] = True
    network = load_teacher(teacher).network
    guide = FeatureGuide(network, kind)
    seen = network(sample.clear / 255)
    same = (3 * seen.first, 0.1 * seen.mid, 7 * F.avg_pool2d(seen.image, 2))
    other = tuple(torch.rand(3, 2, 8, 64, 64))

    equal = guide(sample, PaintedImage(sample.clear / 255, same))
    once, scaled = (
        guide(sample, PaintedImage(sample.clear / 255, tuple(k * f for f in other)))
        for k in (1.0, 5.0)
    )

    assert float(equal) < 1e-4
    assert float(once) > 0.01
    assert float(scaled) == pytest.approx(float(once), rel=1e-4)


def test_another_model_guides_by_the_pictures_it_restores(sample: Batch) -> None:
    sample.valid[:] = True
    guide = ModelGuide(load_model("dehazexl-lite").network)
    restored = [
        torch.from_numpy(restore_array(hazy.permute(1, 2, 0).numpy(), "dehazexl-lite"))
        for hazy in sample.hazy
    ]
    wanted = torch.stack(restored).permute(0, 3, 1, 2).float() / 255

    assert float(guide(sample, PaintedImage(wanted))) < 0.5 / 255
    assert float(guide(sample, PaintedImage(sample.hazy / 255))) > 2 / 255


def test_held_out_losses_are_those_of_the_truth_alone(
    tmp_path: Path, batches: HazyBatches, teacher: str
) -> None:
    alone = trainer(tmp_path / "alone", batches, recipe(None, teacher))
    guided = trainer(tmp_path / "guided", batches, recipe("features", teacher))

    assert guided.validate() == alone.validate()


def test_a_training_run_writes_a_card_that_names_its_guide(tmp_path: Path, teacher: str) -> None:
    folders = TrainFolders(clear_folder(tmp_path / "data"), None, tmp_path / "out")

    card = train(folders, recipe("features", teacher), "cpu", 1, lambda _: None)

    model = load_model("distilled", tmp_path / "out")
    assert model.card == card
    assert isinstance(model.network, Student)
    assert card.training["recipe"]["distillation"]["kind"] == "features"
    assert card.training["guide"] == {
        "name": "rfd-teacher-dsc",
        "sha256": load_teacher(teacher).card.sha256,
    }
    assert card.training["gflop_per_mpx"] > 1


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("model", {"architecture": "dehazexl-lite", "config": LiteConfig()}, "answers with haze"),
        ("features", {"config": StudentConfig(width=8, outer=2, inner=1)}, "features of 3 groups"),
    ],
)
def test_a_network_with_nothing_to_compare_is_refused(
    kind: str,
    changes: dict[str, object],
    message: str,
    tmp_path: Path,
    batches: HazyBatches,
    teacher: str,
) -> None:
    with pytest.raises(SettingsError, match=message):
        trainer(tmp_path, batches, replace(recipe(kind, teacher), **changes))


def test_guides_that_cannot_be_are_explained(tmp_path: Path, batches: HazyBatches) -> None:
    save_model(student(), "distilled", tmp_path, {})
    other = Teacher(TeacherConfig(bands=2, features=6, shrunk=4, mappings=1))
    save_teacher(other, tmp_path, {}, {})
    refused: list[tuple[str, str, type[DehazeError], str]] = [
        ("no-such", "There is no teacher 'no-such'", ModelError, "MODEL_UNKNOWN"),
        ("distilled.safetensors", "is a 'distilled', expected", ModelError, "MODEL_ARCHITECTURE"),
        (f"{teacher_name(other.config)}.safetensors", "of 2 bands", SettingsError, "SETTINGS"),
    ]

    for name, message, kind, code in refused:
        source = name if name == "no-such" else str(tmp_path / name)
        with pytest.raises(kind, match=message) as caught:
            trainer(tmp_path / "out", batches, recipe("features", source))
        assert caught.value.code == code
        if code == "MODEL_UNKNOWN":
            assert "dehaze train teacher" in caught.value.hint


def test_a_training_does_not_go_on_with_another_guide(tmp_path: Path, batches: HazyBatches) -> None:
    source = saved_teacher(tmp_path)
    first = trainer(tmp_path / "out", batches, recipe("features", source))
    first._save()

    for other in (recipe(None, source), recipe("outputs", source)):
        with pytest.raises(SettingsError, match=r"other values of distillation.*--out"):
            trainer(tmp_path / "out", batches, other)
    saved_teacher(tmp_path, seed=1)
    with pytest.raises(SettingsError, match="other values of guide"):
        trainer(tmp_path / "out", batches, recipe("features", source))


def test_a_student_goes_on_from_a_trained_one() -> None:
    trained, fresh = student(1).eval(), student(2).eval()
    view = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64), torch.ones(1, 2, 2)

    begin_with(fresh, trained)

    with torch.inference_mode():
        assert torch.equal(fresh(*view).clear, trained(*view).clear)
    for start in (Student(replace(STUDENT, inner=2)), load_model("dehazexl-lite").network):
        with pytest.raises(ModelError, match="another shape"):
            begin_with(fresh, start)


def test_recomputed_groups_give_the_same_gradients(
    tmp_path: Path, batches: HazyBatches, sample: Batch, teacher: str
) -> None:
    gradients = []
    for recompute in (False, True):
        shape = replace(recipe("features", teacher), checkpointing=recompute)
        run = trainer(tmp_path / str(recompute), batches, shape)
        network = run.state.model.train()
        evaluate(network, sample, LossWeights(), guide=run.guide).loss.backward()
        gradients.append([p.grad for p in network.parameters()])

    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))
