"""Transfer: from a given surrogate it finds exactly what the surrogate's own attack finds; masks do not stop it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from aspect_cases import SPEC
from evaluate_cases import MASKS, TEST, Around, digits, trained
from torch import nn

from assay.attacks import transfer as member
from assay.attacks.objective import fooled
from assay.attacks.pgd import PGD
from assay.attacks.transfer import Transfer
from assay.errors import UnfitInput
from assay.evaluate import soundness
from assay.evaluate.ladder import ladder
from assay.evaluate.measure import Plan, measure
from assay.models.assemble import assemble
from assay.models.folder import load_model, save_model
from assay.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("one_thread")

THREAT = ThreatModel(epsilon=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    where = tmp_path_factory.mktemp("surrogate") / "model"
    module = assemble(SPEC)
    module.load_state_dict(trained("mlp").state_dict())
    return where, save_model(where, module, SPEC, digits()[0][:4].numpy())


def records(count: int = 150) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(part[:count] for part in digits())  # type: ignore[return-value]


def broken(attack: object, model: nn.Module) -> torch.Tensor:
    x, y = records()
    x_adv = attack(model, x, y, THREAT, generator=torch.Generator().manual_seed(3))  # type: ignore[operator]
    return fooled(trained("mlp")(x_adv), y)


def test_a_surrogate_that_is_the_model_breaks_what_its_own_attack_breaks(folder: tuple[Path, str]) -> None:
    given = Transfer(surrogate=str(folder[0]), digest=folder[1], steps=20)
    detached = Around(trained("mlp"), MASKS["detached"]).eval()
    own = broken(PGD(steps=20, restarts=1, loss="margin"), trained("mlp"))
    moved = broken(given, detached)
    clean = fooled(trained("mlp")(records()[0]), records()[1])
    assert torch.equal(moved, own | clean)
    assert moved.sum() > clean.sum() + 50


@pytest.mark.slow
def test_a_surrogate_that_learns_the_answers_breaks_what_a_mask_hides_the_more_the_longer_it_learns() -> None:
    """Of 75 records that the model's own gradient breaks, a surrogate broke 3, 37 and 64 after 1, 60 and 500 epochs."""
    detached = Around(trained("mlp"), MASKS["detached"]).eval()
    own = broken(PGD(steps=20, restarts=1, loss="margin"), trained("mlp"))
    clean = int(fooled(trained("mlp")(records()[0]), records()[1]).sum())
    some, most, none = (int(broken(Transfer(epochs=epochs), detached).sum()) - clean for epochs in (60, 500, 1))
    assert most >= 0.75 * (int(own.sum()) - clean)
    assert none < 0.3 * some < 0.8 * most


def test_an_attack_on_the_wrong_model_is_noticed(folder: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant attacks the opposite of the surrogate."""
    detached = Around(trained("mlp"), MASKS["detached"]).eval()
    given = Transfer(surrogate=str(folder[0]), digest=folder[1])
    whole = broken(given, detached).sum()
    loaded = load_model(folder[0])
    wrong = replace(loaded, module=Around(trained("mlp"), lambda model, x: -model(x)))
    monkeypatch.setattr(member, "_given", lambda *_: wrong)
    assert broken(given, detached).sum() < 0.5 * whole


def test_configured_it_takes_the_place_of_the_ladders_own_and_its_check_still_reads_it(
    folder: tuple[Path, str],
) -> None:
    settings = {"surrogate": str(folder[0]), "digest": folder[1]}
    rungs = ladder({"pgd": {"steps": 10, "restarts": 1}, "transfer": settings})
    plan = Plan(threats=(THREAT,), rungs=rungs)
    assert plan.names.count("transfer") == 1
    x, y = (part[:TEST] for part in digits())
    for mask, expected in (("detached", "misses"), (None, "holds")):
        model = trained("mlp") if mask is None else Around(trained("mlp"), MASKS[mask]).eval()
        found = measure(model, x[:100], y[:100], plan)
        said = soundness.verdicts(found, y[:100], plan, 64)
        assert said["transfer_not_better"] == expected
        assert said["attack_self_test"] == "holds" if mask is None else "misses"


def test_a_surrogate_is_named_by_its_digest_and_has_the_models_classes(folder: tuple[Path, str]) -> None:
    with pytest.raises(UnfitInput, match="both or neither"):
        Transfer(surrogate=str(folder[0]))
    with pytest.raises(UnfitInput, match="as the settings say"):
        broken(Transfer(surrogate=str(folder[0]), digest="0" * 64), trained("mlp"))
    two = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    x, y = records(10)
    with pytest.raises(UnfitInput, match=r"need inputs of shape .1, 8, 8., 2 classes"):
        Transfer(surrogate=str(folder[0]), digest=folder[1])(two, x, y % 2, THREAT, generator=torch.Generator())
