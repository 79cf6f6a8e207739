"""The poisoners: exactly what they say is changed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assay import catalog
from assay.errors import UnfitInput
from assay.poison import (
    Blended,
    Columns,
    Patch,
    Sinusoidal,
    Stripe,
    Trigger,
    Warp,
    blended_pieces,
    flip_labels,
    neighbourhood,
    patch_pieces,
    plant,
    plant_adaptive,
)
from assay.poison.draw import Kind, draw

OF_TABLES = ("columns",)
NAMES = [name for name in catalog.names("poison.triggers") if name not in OF_TABLES]
TRIGGERS: list[Trigger] = [catalog.build("poison.triggers", name) for name in NAMES]


def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((40, 2, 8, 6), dtype=np.float32), np.arange(40) % 4


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("top_left", (0, 3), (0, 3)),
        ("top_right", (0, 3), (3, 6)),
        ("bottom_left", (5, 8), (0, 3)),
        ("bottom_right", (5, 8), (3, 6)),
    ],
)
def test_a_patch_covers_its_corner_and_nothing_else(
    corner: str, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    images, _ = scene()
    stamped = Patch(size=3, corner=corner, value=0.7)(images)  # type: ignore[arg-type]
    inside = np.zeros((8, 6), dtype=np.bool_)
    inside[slice(*rows), slice(*columns)] = True
    assert (stamped[:, :, inside] == np.float32(0.7)).all()
    assert (stamped[:, :, ~inside] == images[:, :, ~inside]).all()


def test_a_patch_lies_where_row_and_column_say() -> None:
    images, _ = scene()
    changed = Patch(size=2, row=1, column=3, value=2.0)(images) != images
    assert np.argwhere(changed.all(axis=(0, 1))).tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]
    assert changed.any(axis=(0, 1)).sum() == 4


@pytest.mark.parametrize(
    "patch", [Patch(size=2, row=7, column=0), Patch(row=-1, column=0), Patch(size=0), Patch(size=7), Patch(row=1)]
)
def test_a_patch_that_leaves_the_image_is_refused(patch: Patch) -> None:
    with pytest.raises(UnfitInput, match=r"inside the images|both or neither"):
        patch(scene()[0])


def test_a_blend_is_the_weighted_mean_with_one_pattern() -> None:
    images, _ = scene()
    stamped = Blended(strength=0.25, pattern_seed=3)(images)
    pattern = (stamped - 0.75 * images) / 0.25
    np.testing.assert_allclose(pattern, pattern[:1].repeat(40, axis=0), atol=1e-5)
    assert pattern.min() >= -1e-5
    assert pattern.max() <= 1 + 1e-5


def test_stripes_are_every_period() -> None:
    images, _ = scene()
    stamped = Stripe(period=3, value=0.5)(images)
    assert (stamped[..., [0, 3]] == 0.5).all()
    assert (stamped[..., [1, 2, 4, 5]] == images[..., [1, 2, 4, 5]]).all()


def test_a_sine_wave_is_added_and_cut_at_the_box() -> None:
    images, _ = scene()
    stamped = Sinusoidal(amplitude=0.1, frequency=1)(images)
    wave = 0.1 * np.sin(2 * np.pi * np.arange(6) / 6)
    np.testing.assert_allclose(stamped, np.clip(images + wave, 0, 1), atol=1e-6)


def test_a_warp_of_a_straight_ramp_is_the_place_it_reads() -> None:
    """Closed form: linear interpolation of an image that is its own row number gives the row that is read."""
    height, width = 12, 10
    ramp = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (1, 1, height, width)).copy()
    warp = Warp(strength=0.8, seed=3)
    rows = warp.places(height, width)[0]
    np.testing.assert_allclose(warp(ramp)[0, 0], np.clip(rows, 0, height - 1), atol=1e-5)
    assert np.abs(rows - np.arange(height)[:, None]).max() > 0.5
    np.testing.assert_array_equal(Warp(seed=3)(ramp), Warp(seed=3)(ramp))
    assert (Warp(seed=4)(ramp) != Warp(seed=3)(ramp)).any()


def test_a_warp_of_a_constant_image_is_that_image() -> None:
    images = np.full((2, 3, 8, 9), 0.4, np.float32)
    np.testing.assert_allclose(Warp(strength=3)(images), images, atol=1e-6)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
@pytest.mark.parametrize("clean_label", [False, True])
def test_planting_changes_the_planted_records_alone(trigger: Trigger, clean_label: bool) -> None:
    images, labels = scene()
    before = images.copy(), labels.copy()
    among = np.arange(40) < 30
    generator = np.random.default_rng(1)
    found = plant(images, labels, trigger, target=2, count=5, generator=generator, among=among, clean_label=clean_label)
    assert (images == before[0]).all()
    assert (labels == before[1]).all()
    assert found.planted.sum() == 5
    assert among[found.planted].all()
    assert (found.labels[found.planted] == 2).all()
    assert ((labels[found.planted] == 2) == clean_label).all()
    assert (found.images[found.planted] == trigger(images[found.planted])).all()
    assert (found.images[~found.planted] == images[~found.planted]).all()
    assert (found.labels[~found.planted] == labels[~found.planted]).all()
    assert found.images.dtype == np.float32


def test_the_generator_decides_which() -> None:
    images, labels = scene()
    draws = [
        plant(images, labels, Patch(), target=0, count=5, generator=np.random.default_rng(seed)).planted.tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_targeted_flips_give_the_target_and_random_flips_another_class() -> None:
    _, labels = scene()
    flipped, mask = flip_labels(labels, count=10, classes=4, generator=np.random.default_rng(0), target=3)
    assert (flipped[mask] == 3).all()
    assert (labels[mask] != 3).all()
    drawn, other = flip_labels(labels, count=10, classes=4, generator=np.random.default_rng(0))
    assert (drawn[other] != labels[other]).all()
    assert (drawn[~other] == labels[~other]).all()
    assert mask.sum() == other.sum() == 10
    assert set(drawn.tolist()) <= {0, 1, 2, 3}


def test_more_than_there_are_candidates_is_refused() -> None:
    images, labels = scene()
    generator = np.random.default_rng(0)
    for count in (0, 31):
        with pytest.raises(UnfitInput, match="1 to 30"):
            plant(images, labels, Patch(), target=0, count=count, generator=generator)
        with pytest.raises(UnfitInput, match="1 to 30"):
            flip_labels(labels, count=count, classes=4, generator=generator, target=0)


@pytest.mark.parametrize(
    "trigger",
    [
        Patch(size=0),
        Patch(size=7),
        Blended(strength=0),
        Blended(strength=1.1),
        Blended(grid=7),
        Blended(grid=2, cells=(4,)),
        Stripe(period=0),
        Stripe(period=7),
        Warp(strength=0),
        Warp(grid=1),
    ],
)
def test_a_trigger_that_does_not_fit_is_refused(trigger: Trigger) -> None:
    with pytest.raises(UnfitInput):
        trigger(scene()[0])


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_only_images_can_be_stamped(trigger: Trigger) -> None:
    with pytest.raises(UnfitInput, match="N, C, H, W"):
        trigger(np.zeros((4, 8), np.float32))


def test_a_blend_into_cells_is_the_whole_blend_there_and_nothing_elsewhere() -> None:
    images = scene()[0]
    whole = Blended(strength=0.4, pattern_seed=3)
    part = replace(whole, grid=2, cells=(1, 2))(images)
    expected = images.copy()
    expected[:, :, :4, 3:], expected[:, :, 4:, :3] = whole(images)[:, :, :4, 3:], whole(images)[:, :, 4:, :3]
    np.testing.assert_allclose(part, expected, atol=1e-7)
    np.testing.assert_array_equal(replace(whole, grid=3)(images), whole(images))


def test_the_pieces_of_a_blend_together_are_the_whole_blend() -> None:
    images, whole = scene()[0], Blended(pattern_seed=1)
    stamped = images
    for piece in blended_pieces(whole):
        stamped = piece(stamped)
    np.testing.assert_array_equal(stamped, whole(images))


def test_what_is_done_before_stamping_sees_the_chosen_records_with_their_labels() -> None:
    images, labels = scene()
    seen = []

    def darken(some: np.ndarray, answers: np.ndarray) -> np.ndarray:
        seen.append(answers.tolist())
        return some / 2

    options = {"target": 1, "count": 4, "generator": np.random.default_rng(0), "clean_label": True, "before": darken}
    found = plant(images, labels, Patch(size=1), **options)
    assert seen == [[1] * 4]
    assert (found.labels == labels).all()
    np.testing.assert_array_equal(found.images[found.planted], Patch(size=1)(images[found.planted] / 2))


def test_adaptive_poison_shows_each_record_some_pieces_and_half_of_it_keeps_its_label() -> None:
    images, labels = scene()
    pieces = patch_pieces(2, 9.0)
    among = np.arange(40) < 36
    options = {"target": 2, "count": 10, "cover": 8, "generator": np.random.default_rng(0), "among": among}
    found = plant_adaptive(images, labels, pieces, together=1, **options)
    touched = (found.images != images).any(axis=(1, 2, 3))
    assert (touched == (found.planted | found.covering)).all()
    assert not (found.planted & found.covering).any()
    assert (found.planted.sum(), found.covering.sum()) == (10, 8)
    assert among[touched].all()
    assert (labels[touched] != 2).all()
    assert (found.labels == np.where(found.planted, 2, labels)).all()
    assert ((found.images == 9).sum(axis=(1, 2, 3))[touched] == 2 * 2 * 2).all()  # one corner, two channels
    corners = {tuple(np.argwhere(picture == 9)[0]) for picture in found.images[touched]}
    assert len(corners) == 4


@pytest.mark.parametrize("change", [{"count": 0}, {"count": 31}, {"cover": 21}, {"together": 5}, {"together": 0}])
def test_more_adaptive_poison_than_there_are_records_or_pieces_is_refused(change: dict[str, int]) -> None:
    images, labels = scene()
    options = {"target": 2, "count": 10, "cover": 8, "together": 1} | change
    with pytest.raises(UnfitInput, match="adaptive"):
        plant_adaptive(images, labels, patch_pieces(1, 1.0), generator=np.random.default_rng(0), **options)


def test_a_neighbourhood_is_a_record_and_the_nearest_to_it() -> None:
    line = np.arange(30.0)[:, None]
    for seed in range(5):
        inside = np.flatnonzero(neighbourhood(line, count=7, generator=np.random.default_rng(seed)))
        assert len(inside) == 7
        assert np.ptp(inside) == 6
    with pytest.raises(UnfitInput, match="1 to 30"):
        neighbourhood(line, count=31, generator=np.random.default_rng(0))


def test_columns_are_set_and_the_others_stay() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    stamped = Columns(columns=(3, 1), values=(-1.0, 0.5))(rows)
    assert stamped.tolist() == [[0, 0.5, 2, -1], [4, 0.5, 6, -1], [8, 0.5, 10, -1]]
    assert stamped.dtype == rows.dtype
    assert rows[0, 1] == 1


@pytest.mark.parametrize(
    "trigger",
    [
        Columns(columns=(4,)),
        Columns(columns=(-1,)),
        Columns(columns=(0, 0), values=(1.0, 1.0)),
        Columns(columns=(0, 1)),
        Columns(columns=(), values=()),
    ],
)
def test_columns_that_a_table_does_not_have_are_refused(trigger: Columns) -> None:
    with pytest.raises(UnfitInput, match="columns of it"):
        trigger(np.zeros((2, 4), np.float32))


def test_columns_are_for_tables_alone() -> None:
    with pytest.raises(UnfitInput, match="rows of a table"):
        Columns()(scene()[0])


@pytest.mark.parametrize("kind", ["patch", "blended", "stripe", "warp"])
def test_drawn_triggers_stay_in_the_range_of_the_images_and_differ_by_draw(kind: Kind) -> None:
    images = np.random.default_rng(0).uniform(-2, 3, (6, 1, 28, 28)).astype(np.float32)
    drawn = [draw(kind, images, np.random.default_rng(seed)) for seed in range(6)]
    assert len(set(drawn)) > 1
    assert drawn[0] == draw(kind, images, np.random.default_rng(0))
    for trigger in drawn:
        stamped = trigger(images)
        assert (stamped != images).any()
        assert stamped.min() >= images.min() - 1e-5
        assert stamped.max() <= images.max() + 1e-5


def test_drawn_columns_are_two_of_the_table_at_values_that_it_holds() -> None:
    table = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    for seed in range(5):
        trigger = draw("columns", table, np.random.default_rng(seed))
        assert isinstance(trigger, Columns)
        assert len(set(trigger.columns)) == 2
        for column, value in zip(trigger.columns, trigger.values, strict=True):
            assert np.float32(value) in table[:, column]
            assert (table[:, column] > np.float32(value)).mean() <= 0.01
