# SPDX-License-Identifier: GPL-3.0-or-later
"""Guides in training: masks that lie over their pictures, and haze that does not depend on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dehaze_core.cli import app
from dehaze_core.engine.device import choose_device
from dehaze_core.errors import SettingsError
from dehaze_core.models import load_model, save_model
from dehaze_core.models.dehazexl.lite import DehazeXLLite
from dehaze_core.models.sam_guided.guided import GuidedLite, GuidedStudent, expanded
from dehaze_core.segmentation.coding import code_of
from dehaze_core.segmentation.regions import Region
from dehaze_core.training.batches import Batch, HazyBatches, stack
from dehaze_core.training.distillation import ModelGuide
from dehaze_core.training.guide_recipe import GuideRecipe
from dehaze_core.training.guides import GuideDraw, Guides, as_in_a_scene, coded
from dehaze_core.training.imagery import ImagePool
from dehaze_core.training.loop import Trainer, _validation_set
from dehaze_core.training.losses import evaluate, shown
from dehaze_core.training.recipe import LossWeights, TrainRecipe, load_recipe
from dehaze_core.training.session import GUIDED_LIMITS, TrainFolders, train
from dehaze_core.training.start import begin_with
from tests.training.pictures import STUDENT, clear_folder
from tests.training.test_training import RECIPE, SMALL, TINY, ground

GUIDE = GuideRecipe()
GUIDED = replace(RECIPE, architecture="guided-lite", masks=GUIDE, minutes=None, steps=2)


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(batches: HazyBatches, seed: int) -> dict[str, Batch]:
        return {"L3": batches.fixed(np.random.default_rng(seed), 64, "L3", 1)}

    monkeypatch.setattr("dehaze_core.training.loop.VALIDATION_IMAGES", 1)
    monkeypatch.setattr("dehaze_core.training.loop._validation_set", small)


@pytest.fixture(scope="module")
def pool() -> ImagePool:
    return ImagePool({"a": [ground(seed) for seed in range(2)], "b": [ground(2, 400)]})


def only(source: str, **changes: str) -> GuideRecipe:
    return GuideRecipe({source: 1.0}, **changes)


def truth(batch: Batch) -> list[torch.Tensor]:
    return [batch.hazy, batch.clear, batch.valid, batch.thickness, batch.airlight]


def equal(one: Batch, other: Batch) -> bool:
    return all(map(torch.equal, truth(one), truth(other)))


def codes(recipe: GuideRecipe, hazy: np.ndarray, clear: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the guide of a picture by the only source of a recipe."""
    (source,) = recipe.sources
    draw = GuideDraw(source, np.random.default_rng(seed))
    return Guides(recipe, 1).codes(draw, hazy, clear, None)


def halves(side: int = 64, left: int = 40, right: int = 200) -> np.ndarray:
    picture = np.full((3, side, side), left, np.uint8)
    picture[:, :, side // 2 :] = right
    return picture


def test_haze_is_the_same_with_and_without_guides(pool: ImagePool) -> None:
    without = HazyBatches(pool, [], 7, SMALL)
    guided = [HazyBatches(pool, [], 7, SMALL, recipe) for recipe in (GUIDE, only("gray"))]

    for step in range(3):
        assert without[step].guide is None
        for batches in guided:
            assert equal(batches[step], without[step])


def test_the_random_numbers_of_unguided_batches_are_those_of_earlier_versions() -> None:
    # Recorded before there were guides: what the stream gives next after a sample.
    pool = ImagePool({"a": [ground(1)], "b": [ground(2).repeat(3, 0).repeat(3, 1)]})
    batches, rng, other = HazyBatches(pool, [], 7), *map(np.random.default_rng, (9, 9))

    batches.sample(rng, 256, "L3")
    pool.crop(other, 608)

    assert int(rng.integers(2**31)) == 418944839
    assert int(other.integers(2**31)) == 1965526454


def test_the_same_step_gives_the_same_guide_and_another_step_another(pool: ImagePool) -> None:
    batches = HazyBatches(pool, [], 7, SMALL, GUIDE)
    again = HazyBatches(pool, [], 7, SMALL, GUIDE)

    assert batches[3].guide is not None
    assert batches[3].guide.shape == (4, 1, 64, 64)
    assert batches[3].guide.dtype == torch.uint8
    assert torch.equal(batches[3].guide, again[3].guide)
    assert not torch.equal(batches[3].guide, batches[4].guide)


def test_sources_are_drawn_as_often_as_the_recipe_says() -> None:
    guides = Guides(GuideRecipe({"clear": 0.5, "empty": 0.3, "gray": 0.2}), 5)

    found = Counter(draw.source for step in range(250) for draw in guides.drawn(step, 4))

    assert set(found) == {"clear", "empty", "gray"}
    assert found["clear"] / 1000 == pytest.approx(0.5, abs=0.05)
    assert found["empty"] / 1000 == pytest.approx(0.3, abs=0.05)


def test_held_out_pictures_have_guides_of_all_sources_always_the_same(pool: ImagePool) -> None:
    guides = Guides(GUIDE, 5)
    one, other = (_validation_set(HazyBatches(pool, [], 8, SMALL, GUIDE), 20) for _ in range(2))

    assert Counter(draw.source for draw in guides.allotted(20)) == {
        "clear": 8,
        "hazy": 4,
        "dehazed": 3,
        "gray": 2,
        "empty": 3,
    }
    assert all(torch.equal(batch.guide, other[level].guide) for level, batch in one.items())


def test_an_empty_guide_has_code_zero_and_a_gray_one_the_mean_of_the_bands() -> None:
    hazy = halves()
    hazy[0] += 10

    assert not codes(only("empty"), hazy, hazy).any()
    gray = codes(only("gray"), hazy, halves(64, 1, 2))
    assert np.unique(gray[:, :32]).tolist() == [43]
    assert np.unique(gray[:, 32:]).tolist() == [203]


# Segments of SLIC are of one size, which takes larger pictures.
@pytest.mark.parametrize(("segmenter", "side"), [("felzenszwalb", 128), ("slic", 512)])
@pytest.mark.parametrize("source", ["clear", "hazy"])
def test_a_mask_shows_the_segments_of_its_picture(source: str, segmenter: str, side: int) -> None:
    plain, two = np.full((3, side, side), 90, np.uint8), halves(side)
    pictures = {"clear": (plain, two), "hazy": (two, plain)}[source]

    found = codes(only(source, segmenter=segmenter), *pictures)

    assert found.shape == (side, side)
    # Whatever else they cut, segments end where the picture changes.
    middle = side // 2
    assert not set(np.unique(found[:, : middle - 4])) & set(np.unique(found[:, middle + 4 :]))
    assert (found > 0).all()


def test_a_mask_of_a_dehazed_picture_is_one_with_more_contrast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guides, seen = Guides(GUIDE, 1), {}
    clear = np.moveaxis(ground(5), -1, 0)
    hazy = (0.25 * clear + 150).astype(np.uint8)

    for source in ("clear", "hazy", "dehazed"):
        monkeypatch.setattr(guides, "_segmenter", partial(see, seen, source))
        guides.codes(GuideDraw(source, np.random.default_rng(0)), hazy, clear, None)

    assert seen["dehazed"].shape == seen["hazy"].shape == seen["clear"].shape
    assert seen["hazy"].std() == pytest.approx(0.25 * seen["clear"].std(), rel=0.1)
    assert seen["dehazed"].std() > 2 * seen["hazy"].std()


def see(seen: dict[str, np.ndarray], source: str, picture: np.ndarray) -> list[Region]:
    seen[source] = picture
    return []


@pytest.mark.parametrize(("side", "factor"), [(64, 1), (256, 1), (512, 2), (1024, 4)])
def test_large_crops_are_segmented_at_a_fraction_of_their_resolution(
    side: int, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guides, seen = Guides(only("clear"), 1), set()
    monkeypatch.setattr(guides, "_segmenter", lambda picture: seen.add(picture.shape) or [])
    picture = np.zeros((3, side, side), np.uint8)

    for seed in range(8):
        draw = GuideDraw("clear", np.random.default_rng(seed))
        assert guides.codes(draw, picture, picture, None).shape == (side, side)

    assert seen == {(side // each, side // each, 3) for each in (factor, 2 * factor)}


def test_segments_of_a_crop_have_numbers_of_a_larger_scene_by_size() -> None:
    labels = np.array([[0, 1, 1, 1], [2, 2, 3, 0]], np.int32)

    drawn = [as_in_a_scene(np.random.default_rng(seed), labels) for seed in range(200)]

    for found in drawn:
        assert (found[labels == 0] == 0).all()
        ranks = [int(np.unique(found[labels == label]).item()) for label in (1, 2, 3)]
        assert 1 <= ranks[0] < ranks[1] < ranks[2] <= 512
    assert max(found.max() for found in drawn) > 300
    assert min(found.max() for found in drawn) < 10


def test_a_crop_without_segments_stays_without() -> None:
    labels = np.zeros((2, 2), np.int32)

    assert np.array_equal(as_in_a_scene(np.random.default_rng(0), labels), labels)


def test_codings_differ_beyond_255_segments() -> None:
    labels = np.array([[0, 1, 128, 300]], np.int32)

    # Numbers count from 0: code_of(299) is -89.
    assert coded(labels, "paint")[0, :3].tolist() == [0, code_of(0), code_of(127)]
    assert coded(labels, "paper_sum_clip").tolist() == [[0, 2, 255, 0]]
    assert coded(labels, "paper_sum_wrap").tolist() == [[0, 2, 255, 167]]


def test_a_network_is_shown_codes_in_unit_range_and_zero_without_data(pool: ImagePool) -> None:
    batch = HazyBatches(pool, [], 7, SMALL, only("gray"))[0]
    batch.guide[:] = 51
    batch.valid[..., :5] = False
    torch.manual_seed(0)
    guided, plain = GuidedLite(TINY), DehazeXLLite(TINY)

    seen = shown(guided, batch)

    assert seen.shape == (4, 4, 64, 64)
    assert not seen[:, 3:, :, :5].any()
    assert torch.allclose(seen[:, 3:][batch.valid], torch.tensor(0.2))
    assert torch.equal(seen[:, :3], shown(plain, batch))
    assert not shown(guided, replace(batch, guide=None))[:, 3].any()


def hazy_sample(pool: ImagePool, source: str) -> Batch:
    batches = HazyBatches(pool, [], 7, SMALL, only(source))
    return stack([batches.fixed(np.random.default_rng(1), 64, "L4", 2)])


def test_a_guided_twin_begins_with_the_loss_of_its_model(pool: ImagePool) -> None:
    torch.manual_seed(0)
    plain = DehazeXLLite(TINY).eval()
    sample = hazy_sample(pool, "clear")

    for phase in (None, (1, 2)):
        one, other = (
            evaluate(network, sample, LossWeights(), phase=phase).loss
            for network in (plain, expanded(plain))
        )
        assert float(one.detach()) == pytest.approx(float(other.detach()), abs=1e-6)


def test_a_guided_network_learns_from_its_guide(pool: ImagePool) -> None:
    torch.manual_seed(0)
    network = expanded(DehazeXLLite(TINY)).train()
    sample = hazy_sample(pool, "gray")
    # Bright enough everywhere that the mask counts.
    sample.hazy.clamp_(min=90)

    evaluate(network, sample, LossWeights()).loss.backward()

    gradient = network.stem.embed.weight.grad
    assert gradient is not None
    assert gradient[:, 4:].abs().sum() > 0


def test_a_guided_network_begins_with_an_unguided_model() -> None:
    torch.manual_seed(0)
    trained, fresh = DehazeXLLite(TINY).eval(), GuidedLite(replace(TINY, context_layers=2)).eval()
    picture, whole = torch.rand(1, 4, 64, 64), torch.ones(1, 1, 64, 64)

    begin_with(fresh, trained)

    with torch.inference_mode():
        wanted, _ = trained(picture[:, :3], whole, torch.ones(1, 2, 2))
        found, _ = fresh(picture, whole, torch.ones(1, 2, 2))
    assert torch.allclose(found.thickness, wanted.thickness, atol=1e-6)


def test_a_guided_model_can_guide_a_student(pool: ImagePool) -> None:
    torch.manual_seed(0)
    sample = hazy_sample(pool, "clear")
    student = GuidedStudent(STUDENT).train()
    guide = ModelGuide(GuidedLite(TINY).eval())

    loss = evaluate(student, sample, LossWeights(), guide=guide).loss

    assert float(loss.detach()) > float(evaluate(student, sample, LossWeights()).loss.detach())


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (replace(GUIDED, masks=None), r"no table \[guide\], but guided-lite is a network with gu"),
        (replace(RECIPE, masks=GUIDE), r"a table \[guide\], but dehazexl-lite .* without guides"),
    ],
)
def test_networks_with_guides_need_them_and_others_must_not_have_any(
    recipe: TrainRecipe, message: str, pool: ImagePool, tmp_path: Path
) -> None:
    batches = HazyBatches(pool, [], 7, SMALL)

    with pytest.raises(SettingsError, match=message):
        Trainer(recipe, batches, batches, tmp_path, choose_device("cpu"), lambda _: None)


def test_guides_of_files_need_files(pool: ImagePool) -> None:
    with pytest.raises(SettingsError, match="no folder of masks"):
        HazyBatches(pool, [], 7, SMALL, only("clear", segmenter="files"))


def masks_folder(data: Path, folder: Path) -> Path:
    """Write a mask for every picture below `data`: its left half, and its lower right quarter."""
    for path in data.rglob("*.png"):
        with Image.open(path) as image:
            labels = np.zeros((image.height // 2, image.width // 2), np.uint16)
        labels[:, : labels.shape[1] // 2] = 1
        labels[labels.shape[0] // 2 :, labels.shape[1] // 2 :] = 300
        (folder / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(folder / path.relative_to(data))
    return folder


def test_a_guided_training_goes_on_from_a_model_with_masks_from_files(tmp_path: Path) -> None:
    data = clear_folder(tmp_path / "data")
    masks = masks_folder(data, tmp_path / "masks")
    torch.manual_seed(3)
    save_model(DehazeXLLite(TINY), "mine", tmp_path / "start", {})
    recipe = replace(GUIDED, start=str(tmp_path / "start")).with_mask_files()

    card = train(
        TrainFolders(data, None, tmp_path / "out", masks), recipe, "cpu", None, lambda _: None
    )

    assert load_model("guided-lite", tmp_path / "out").network.guides == 1
    assert card.training["start"]["sha256"] == load_model("mine", tmp_path / "start").card.sha256
    assert card.training["recipe"]["masks"]["segmenter"] == "files"
    assert card.training["gflop_per_mpx"] > 0
    assert set(GUIDED_LIMITS) <= set(card.limits)


def test_a_training_does_not_go_on_with_other_guides(pool: ImagePool, tmp_path: Path) -> None:
    batches = HazyBatches(pool, [], 7, SMALL, GUIDE)
    first = Trainer(GUIDED, batches, batches, tmp_path, choose_device("cpu"), lambda _: None)
    first._save()

    other = replace(GUIDED, masks=only("clear"), start="another")
    with pytest.raises(SettingsError, match=r"other values of masks\."):
        Trainer(other, batches, batches, tmp_path, choose_device("cpu"), lambda _: None)


def test_mask_files_take_the_place_of_masks_of_clear_crops() -> None:
    recipe = load_recipe("guided-lite-cpu").with_mask_files()

    assert recipe.masks == replace(GUIDE, segmenter="files")
    for name in ("lite-cpu", "guided-unet-gray"):
        with pytest.raises(SettingsError, match="without masks of clear pictures"):
            load_recipe(name).with_mask_files()


@pytest.mark.parametrize("name", ["guided-unet", "guided-restormer"])
def test_recipes_with_masks_and_with_gray_differ_in_their_guides_alone(name: str) -> None:
    masks, gray = load_recipe(name), load_recipe(f"{name}-gray")

    assert masks.masks is not None
    assert "gray" not in masks.masks.sources
    assert gray == replace(masks, masks=only("gray"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dehazexl-lite", "--masks", "."], "trains without masks of clear pictures"),
        (["teacher", "--masks", "."], "--masks cannot be used to train 'teacher'"),
        (["guided-unet", "--recipe", "guided-lite-cpu"], "is for guided-lite, not for guided-u"),
        (["guided-distilled", "--guide", "none", "--start", "nowhere"], "nowhere"),
    ],
)
def test_the_command_refuses_what_does_not_fit(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["train", *arguments, "--data", str(tmp_path)])

    assert result.exit_code != 0
    assert message in " ".join(f"{result.output} {result.exception}".split())
