"""Rotation and translation: pictures as scipy moves them, and the worst of the grid by brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from aspect_cases import scene
from evaluate_cases import digits, trained
from scipy import ndimage

from assay.errors import UnfitInput
from assay.evaluate.aspects import rotation_translation
from assay.evaluate.aspects.rotation_translation import RotationTranslation, posed

SMALL = {"rotation": 20.0, "translation": 1.0, "angles": 5, "places": 3}
WHOLE = "spatial_accuracy[rotation=20,translation=1]"


def by_scipy(x: np.ndarray, turn: float, down: float, along: float) -> np.ndarray:
    """Reference: one affine map of scipy, rows and columns of each picture about its middle."""
    angle = np.radians(turn)
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = (np.array(x.shape[2:]) - 1) / 2
    offset = middle - back @ (middle + np.array([down, along]))
    each = [[ndimage.affine_transform(c, back, offset, order=1, mode="nearest") for c in image] for image in x]
    return np.array(each)


@pytest.mark.parametrize(
    "pose", [(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (0.0, 2.0, -1.0), (-17.0, 0.5, 1.25), (90.0, 0.0, 1.0)]
)
def test_pictures_are_turned_and_moved_as_scipy_does(pose: tuple[float, float, float]) -> None:
    x = digits()[0][:3].double().numpy()
    assert np.abs(posed(x, pose) - by_scipy(x, *pose)).max() < 1e-9


@pytest.mark.slow
def test_the_worst_of_the_grid_is_that_of_brute_force() -> None:
    model = trained("small_cnn")
    seen = scene(model, records=60)
    found = RotationTranslation(**SMALL)(seen).estimates
    turns, ways = np.linspace(-20, 20, 5), np.linspace(-1, 1, 3)
    stand = {pose: np.zeros(60, bool) for pose in product(turns, ways, ways)}
    for pose in stand:
        copies = torch.tensor(np.clip(by_scipy(seen.data.x.astype(np.float64), *pose), 0, 1), dtype=torch.float32)
        stand[pose] = (model(copies).argmax(1) == seen.y).numpy()
    names = {
        WHOLE: list(stand),
        "spatial_accuracy[rotation=20]": [(turn, 0.0, 0.0) for turn in turns],
        "spatial_accuracy[translation=1]": [(0.0, down, along) for down, along in product(ways, ways)],
    }
    assert set(found) == set(names)
    for name, poses in names.items():
        exact = int(np.logical_and.reduce([stand[pose] for pose in poses]).sum())
        assert found[name].counts == {"successes": exact, "trials": 60}
    clean = int((model(seen.x).argmax(1) == seen.y).sum())
    assert found[WHOLE].value < found["spatial_accuracy[rotation=20]"].value < clean / 60


def test_a_grid_of_one_pose_is_clean_accuracy_and_more_poses_never_help() -> None:
    model = trained("mlp")
    seen = scene(model, records=60)
    clean = int((model(seen.x).argmax(1) == seen.y).sum()) / 60
    one = RotationTranslation(rotation=0, translation=0, angles=1, places=1)(seen).estimates
    assert {each.value for each in one.values()} == {clean}
    few = RotationTranslation(**SMALL)(seen).estimates[WHOLE]
    more = RotationTranslation(**SMALL | {"angles": 9})(seen).estimates[WHOLE]  # holds the five angles
    assert more.value <= few.value
    assert RotationTranslation(**SMALL, limit=10)(seen).estimates[WHOLE].n == 10


def test_a_model_without_an_answer_stands_nowhere() -> None:
    class Says(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 10), torch.nan)

    found = RotationTranslation(**SMALL)(replace(scene(trained("mlp"), records=20), model=Says())).estimates
    assert {each.value for each in found.values()} == {0.0}


def test_a_pose_that_is_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant does not turn: then the whole grid is no worse than moving alone."""
    seen = scene(trained("mlp"), records=60)
    monkeypatch.setattr(rotation_translation, "posed", lambda x, pose: posed(x, (0.0, *pose[1:])))
    found = RotationTranslation(**SMALL)(seen).estimates
    assert found[WHOLE].value == found["spatial_accuracy[translation=1]"].value


def test_what_is_no_grid_is_refused() -> None:
    for changes in ({"rotation": 181.0}, {"translation": -1.0}, {"angles": 4}, {"places": 0}, {"limit": -1}):
        with pytest.raises(UnfitInput, match="rotation_translation"):
            RotationTranslation(**changes)
    seen = scene(torch.nn.Identity(), records=4)
    with pytest.raises(UnfitInput, match="images"):
        RotationTranslation()(replace(seen, x=seen.x.flatten(1)))
