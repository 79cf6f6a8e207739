"""Shards of an evaluation: one, two or eight make the evidence of one machine; what does not belong is refused."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_cases import dataset, linear_model

from assay import canonical
from assay.attempts import attempts
from assay.cli import main
from assay.config.evaluate import EvaluateConfig
from assay.config.root import Target
from assay.config.shard import Shard
from assay.errors import AssayError, Refused, UnfitInput
from assay.evaluate import part as parts
from assay.evaluate.merge import merge_evidence
from assay.evaluate.shard import evaluate_shard
from assay.evaluate.step import evaluate
from assay.ledger import put_folder
from assay.signing import peek, seal, statement
from assay.verify import verify
from assay.workspace import Workspace

RECORDS = 600  # three blocks, the last one short
WEIGHT = np.random.default_rng(7).standard_normal(8)
TARGET = Target(model="table", alias="champion")
CONFIG = EvaluateConfig(
    threats=("linf:0.05", "l2:0.1"),
    attacks={"fgsm": {}, "pgd": {"steps": 4, "restarts": 2}, "square": {"queries": 10}},
    triggers=({"name": "corner", "kind": "columns", "target": 1, "columns": [0], "values": [0.9]},),
    slices=("class",),
    aspects={"calibration": {}},
    threads=1,
)
SHORT = EvaluateConfig(threats=("linf:0.05", "l2:0.1"), attacks={"fgsm": {}}, threads=1)


@dataclass(frozen=True)
class Case:
    """A model, its hold-out, a champion, and keys."""

    folder: Path
    workspace: Workspace

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def holdout(self) -> Path:
        return self.folder / "holdout"

    @property
    def two(self) -> list[Path]:
        """Both shards of `SHORT`, made once for all tests."""
        return [self.folder / f"part-{number}-2.dsse.json" for number in (1, 2)]

    def whole(self, config: EvaluateConfig = SHORT, target: Target | None = None) -> dict[str, Any]:
        return evaluate(self.model, self.holdout, config, target=target, **self.places("whole"))

    def places(self, name: str) -> dict[str, Path]:
        endings = {"evidence": "dsse.json", "outcomes": "parquet", "page": "html"}
        return {kind: self.folder / f"{name}.{ending}" for kind, ending in endings.items()}

    def parts(self, of: int, config: EvaluateConfig = SHORT, **more: Any) -> list[Path]:
        made = []
        for number in range(1, of + 1):
            path = self.folder / f"{more.get('name', 'part')}-{number}-{of}.dsse.json"
            target, model = more.get("target"), more.get("model", self.model)
            evaluate_shard(model, self.holdout, config, Shard(number=number, of=of), part=path, target=target)
            made.append(path)
        return made

    def merge(self, given: list[Path], name: str = "merged", **more: Any) -> dict[str, Any]:
        return merge_evidence(given, more.pop("model", self.model), self.holdout, **self.places(name), **more)

    def payload(self, name: str) -> bytes:
        """The canonical payload of evidence without what only this run knows."""
        document = peek(self.places(name)["evidence"].read_bytes())
        document["predicate"].pop("run")
        return canonical.dumps(document)


def records(count: int, seed: int) -> tuple[Any, Any]:
    """A table in which a noisy version of the plane says the class."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(0.1, 0.9, (count, 8)).astype(np.float32)
    y = ((x.astype(float) - 0.5) @ WEIGHT + 0.2 * draw.standard_normal(count) > 0).astype(np.int64)
    return x, y


def make(folder: Path, workspace: Workspace) -> Case:
    workspace.initialise()
    x, y = records(RECORDS, 1)
    dataset(x, y).save(folder / "holdout")
    for name, shift in (("model", 0.0), ("champion", 0.5)):
        tilted = WEIGHT + shift * np.random.default_rng(8).standard_normal(8)
        linear_model(folder / name, np.stack([0 * tilted, tilted]), np.array([0, -0.5 * tilted.sum()]), x[:8])
    return Case(folder, workspace)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything a test starts from."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(folder / ".assay"))
        case = make(folder, Workspace.from_env())
        case.parts(2)
    return folder


@pytest.fixture
def case(made: Path, tmp_path: Path, workspace: Workspace) -> Case:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Case(tmp_path, workspace)


def promote_champion(case: Case) -> str:
    digest = canonical.tree_digest(canonical.tree_files(case.folder / "champion"))
    put_folder(case.workspace.ledger, f"models/{digest}", case.folder / "champion")
    rests = {"evidence": "e" * 64, "decision": "d" * 64}
    body = {"target": TARGET.to_json(), "sequence": 1, "previous": "", **rests}
    document = statement(
        "promotion", {"model": digest, **rests}, body | {"run": {"promoted_at": "2026-01-01T00:00:00+00:00"}}
    )
    data = seal(document, case.workspace.signers("promoter"))
    case.workspace.ledger.put("promotions/table@champion/00000001.dsse.json", data)
    return digest


def test_two_shards_make_the_bytes_of_one_machine(case: Case) -> None:
    case.whole()
    case.merge(case.two[::-1])
    assert case.payload("merged") == case.payload("whole")
    assert case.places("merged")["outcomes"].read_bytes() == case.places("whole")["outcomes"].read_bytes()


@pytest.mark.slow
def test_any_number_of_shards_makes_the_bytes_of_one_machine(case: Case) -> None:
    """With a champion, aspects, slices and triggers; eight shards of three blocks leave five with none."""
    champion = promote_champion(case)
    case.whole(CONFIG, target=TARGET)
    expected = case.payload("whole")
    assert champion.encode() in expected
    for of in (1, 2, 8):
        document = case.merge(case.parts(of, CONFIG, target=TARGET)[::-1], f"merged{of}")
        assert case.payload(f"merged{of}") == expected
        assert document["evidence_id"] == canonical.digest(json.loads(expected))
        assert case.places(f"merged{of}")["outcomes"].read_bytes() == case.places("whole")["outcomes"].read_bytes()
        assert page(case, f"merged{of}") == page(case, "whole")
    holdout = peek(case.places("whole")["evidence"].read_bytes())["predicate"]["measured"]["holdout_content"]
    assert attempts(case.workspace.ledger, holdout, TARGET) == [document["evidence_id"]], "charged once"


def page(case: Case, name: str) -> str:
    return case.places(name)["page"].read_text()


@pytest.mark.slow
def test_sets_of_other_records_may_lie_elsewhere_where_the_parts_are_merged(case: Case) -> None:
    """They are named by digest; the ledger learns of them, so that an incident about their records can be told."""
    trusted = dataset(*records(200, 2), name="trusted")
    trusted.save(case.folder / "trusted")
    changes = {"sets": {"trusted": str(case.folder / "trusted")}, "aspects": {"conformal": {"fit_on": "trusted"}}}
    config = SHORT.model_copy(update=changes)
    case.whole(config)
    given = case.parts(2, config, name="with")
    shutil.move(case.folder / "trusted", case.folder / "moved")
    with pytest.raises(UnfitInput, match="trusted"):
        case.merge(given)
    case.merge(given, sets={"trusted": str(case.folder / "moved")})
    assert case.payload("merged") == case.payload("whole")
    assert case.workspace.ledger.get(f"manifests/{trusted.manifest.digest}.json")
    trusted = dataset(*records(200, 3), name="trusted")
    trusted.save(case.folder / "others")
    case.merge(given, "others", sets={"trusted": str(case.folder / "others")})
    assert case.payload("others") != case.payload("whole"), "other records are other evidence"


def test_a_part_is_verified_by_anybody_with_the_public_keys(case: Case) -> None:
    said = verify(case.two[0], case.workspace.keyring)
    assert (said["verified"], said["checked"][0]["kind"]) == (True, "shard")
    forge(case.two[0], lambda document: None, None)
    assert not verify(case.two[0], case.workspace.keyring)["verified"]


CROWNED: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "no block of it": ("blocks: got", lambda d: body(d).update(champion=None)),
    "a block too few": ("blocks: got", lambda d: body(d)["champion"].pop()),
    "answers it does not give": (
        "answers that the champion does not give",
        lambda d: body(d)["champion"][0]["predicted"].__setitem__(0, -1),
    ),
}


@pytest.mark.slow
def test_what_parts_say_of_the_champion_is_held_to_the_same(case: Case) -> None:
    promote_champion(case)
    given = case.parts(2, target=TARGET)
    whole = given[1].read_bytes()
    for said, change in CROWNED.values():
        given[1].write_bytes(whole)
        forge(given[1], change, case)
        with pytest.raises(UnfitInput, match=re.escape(said)):
            case.merge(given)
    assert case.workspace.ledger.names("attempts/") == []


@pytest.mark.slow
def test_an_attempt_is_charged_when_the_parts_are_merged_and_not_before(case: Case) -> None:
    given = case.parts(2, target=TARGET)
    assert case.workspace.ledger.names("attempts/") == []
    case.merge(given)
    assert len(case.workspace.ledger.names("attempts/")) == 1


def test_the_age_of_evidence_is_that_of_its_oldest_part(case: Case) -> None:
    given = case.two

    def older(document: dict[str, Any]) -> None:
        document["predicate"]["run"]["ended"] = "2026-01-02T03:04:05+00:00"

    forge(given[1], older, case)
    case.merge(given)
    assert peek(case.places("merged")["evidence"].read_bytes())["predicate"]["run"]["ended"].startswith("2026-01-02")


def forge(path: Path, change: Callable[[dict[str, Any]], Any], case: Case | None) -> None:
    """Change a part; signed anew with the evaluator's key where a case is given, else by nobody."""
    document = peek(path.read_bytes())
    change(document)
    path.write_bytes(seal(document, case.workspace.signers("evaluator") if case else ()))


def body(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["predicate"]
    return found


def block(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body(document)["blocks"][0]
    return found


def turned(document: dict[str, Any]) -> None:
    """One prediction of a record, and so that it fits, what became of it."""
    found = block(document)
    found["predicted"][0] = 1 - found["predicted"][0]


def lifted(document: dict[str, Any]) -> None:
    """A record that the model gets wrong counts as robust."""
    found = block(document)
    at = found["by"]["linf:0.05"].index(0)
    found["by"]["linf:0.05"][at] = -1


def crowned(document: dict[str, Any]) -> None:
    document["subject"].append({"name": "champion", "digest": {"sha256": "0" * 64}})


NOT_NUMBERS = base64.b64encode(np.full(8, np.nan, "<f4").tobytes()).decode()
FORGERIES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "another seed": ("measured.seed", lambda d: body(d)["measured"].update(seed=1)),
    "another release": ("measured.code", lambda d: body(d)["measured"].update(code="0" * 64)),
    "another kind of machine": ("measured.device", lambda d: body(d)["measured"].update(device="NVIDIA H100")),
    "another model": ("model 0000", lambda d: d["subject"][1]["digest"].update(sha256="0" * 64)),
    "a champion that is not": (
        "champion 0000",
        crowned,
    ),
    "other settings": ("config: slices", lambda d: body(d)["config"].update(slices=["class"])),
    "another shard": ("shard 1/2 once more", lambda d: body(d)["shard"].update(number=1)),
    "another division": ("shard 2/3", lambda d: body(d)["shard"].update(of=3)),
    "a block too few": ("blocks: got []", lambda d: body(d)["blocks"].pop()),
    "a block twice": ("blocks: got [1, 1]", lambda d: body(d)["blocks"].append(body(d)["blocks"][0])),
    "a block beyond the last": ("blocks: got [7]", lambda d: block(d).update(index=7)),
    "a record too few": ("255, 256", lambda d: block(d)["predicted"].pop()),
    "a threat too few": ("threats linf:0.05", lambda d: block(d)["by"].pop("l2:0.1")),
    "an attack that there is not": ("an attack beyond", lambda d: block(d)["by"]["l2:0.1"].__setitem__(0, 99)),
    "a class that there is not": ("class 2", lambda d: block(d)["predicted"].__setitem__(0, 2)),
    "a share of a class": ("valid integer", lambda d: block(d)["predicted"].__setitem__(0, 0.5)),
    "a prediction that the model does not make": ("answers that the model does not give", turned),
    "robust where the model is wrong": ("answers that the model does not give", lifted),
    "a count too few": ("no count clean_not_finite", lambda d: block(d)["tallies"].pop("clean_not_finite")),
    "a count below nothing": ("greater than or equal to 0", lambda d: block(d)["tallies"].update(truncated=-1)),
    "a count of fewer records": ("1 records", lambda d: block(d)["tallies"].update(records=1)),
    "an example that is not finite": ("not finite", lambda d: body(d)["examples"][0].update(x_adv=NOT_NUMBERS)),
    "an example of another block": ("one of the part's own blocks", lambda d: body(d)["examples"][0].update(row=0)),
    "no time": ("ended", lambda d: body(d).update(run={})),
    "an unknown field": ("'more'", lambda d: body(d).update(more=1)),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_part_that_does_not_belong_is_refused_by_name_and_nothing_is_written(what: str, case: Case) -> None:
    """Even where the evaluator signed it: a stale part, a mixed-up one, or one of a faulty machine."""
    said, change = FORGERIES[what]
    given = case.two
    forge(given[1], change, case)
    with pytest.raises(UnfitInput, match=re.escape(said)):
        case.merge(given)
    assert not any(path.exists() for path in case.places("merged").values())
    assert case.workspace.ledger.names("evidence/") == []


@pytest.mark.slow
def test_missing_and_doubled_shards_are_named(case: Case) -> None:
    given = case.parts(3)
    with pytest.raises(UnfitInput, match="shard 2/3"):
        case.merge([given[0], given[2]])
    with pytest.raises(UnfitInput, match=r"shard 1/3 once more.*part-1-3"):
        case.merge([given[0], given[1], given[0]])
    with pytest.raises(UnfitInput, match="none"):
        case.merge([])
    with pytest.raises(UnfitInput, match="one of 3"):
        case.merge([*given[:2], *case.parts(2)])


@pytest.mark.parametrize("cut", [0, 1, 200])
def test_a_part_that_is_cut_short_is_refused(cut: int, case: Case) -> None:
    given = case.two
    given[0].write_bytes(given[0].read_bytes()[:-cut] if cut else b"")
    with pytest.raises(UnfitInput, match="part-1-2"):
        case.merge(given)


def test_where_evidence_is_signed_nobody_else_writes_a_part(case: Case) -> None:
    """Not unsigned, not signed by the promoter, not evidence under the name of a part."""
    given = case.two
    whole = given[1].read_bytes()
    forge(given[1], lambda document: None, None)
    with pytest.raises(Refused, match="signature"):
        case.merge(given)
    given[1].write_bytes(seal(peek(whole), case.workspace.signers("promoter")))
    with pytest.raises(Refused, match="signature"):
        case.merge(given)
    other = statement("evidence", {"model": "0" * 64}, {"run": {}})
    given[1].write_bytes(seal(other, case.workspace.signers("evaluator")))
    with pytest.raises(Refused, match="predicate"):
        case.merge(given)


@pytest.mark.slow
def test_without_a_key_parts_count_unsigned_and_so_does_what_they_make(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_EVALUATOR_KEY", str(case.folder / "none.pem"))
    given = case.two
    with pytest.warns(UserWarning, match="not signed"):
        case.merge(given)
    assert json.loads(case.places("merged")["evidence"].read_bytes())["signatures"] == []


def test_parts_of_one_model_are_not_evidence_of_another(case: Case) -> None:
    given = case.two
    with pytest.raises(UnfitInput, match="model"):
        case.merge(given, model=case.folder / "champion")


@pytest.mark.slow
def test_a_champion_that_came_after_the_parts_is_no_gap(case: Case) -> None:
    given = case.parts(2, target=TARGET)
    promote_champion(case)
    with pytest.raises(UnfitInput, match="champion"):
        case.merge(given)


def test_what_stops_once_a_verdict_is_fixed_has_no_shards(case: Case) -> None:
    config = CONFIG.model_copy(update={"decide": {"clean_accuracy": 0.5}})
    with pytest.raises(UnfitInput, match="decide"):
        case.parts(2, config)


@pytest.mark.slow
def test_time_that_runs_out_in_one_shard_cuts_the_whole_evidence_short(case: Case) -> None:
    config = CONFIG.model_copy(update={"limit_s": 1e-9})
    document = case.merge(case.parts(2, config))
    assert document["truncated"] is True


def test_more_than_a_part_holds_is_said_before_the_first_attack(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.evaluate.shard.BLOCK_BYTES", 2**22)
    monkeypatch.setattr("assay.evaluate.shard.measure_all", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(UnfitInput, match="Make 3"):
        case.parts(1)


@pytest.mark.slow
def test_examples_beyond_the_room_of_a_part_are_left_out(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    given = case.parts(1)
    assert len(body(peek(given[0].read_bytes()))["examples"]) == 2 * parts.EXAMPLES
    monkeypatch.setattr(parts, "EXAMPLE_BYTES", 3 * 8 * 4)
    given = case.parts(1)
    assert len(body(peek(given[0].read_bytes()))["examples"]) == 3
    case.merge(given)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "-1/2", "1/2/3", "a/b", "", "1/1000000000", " 1/2"])
def test_a_shard_is_number_of(text: str) -> None:
    with pytest.raises(UnfitInput, match="such as 2/8"):
        Shard.read(text)


@pytest.mark.parametrize(("blocks", "of"), [(0, 3), (1, 1), (7, 3), (3, 8), (40, 7)])
def test_every_block_is_in_one_shard(blocks: int, of: int) -> None:
    shared = [list(Shard(number=number, of=of).blocks(blocks)) for number in range(1, of + 1)]
    assert sorted(index for each in shared for index in each) == list(range(blocks))
    assert max(map(len, shared)) - min(map(len, shared)) <= 1


@pytest.mark.slow
def test_the_verbs_give_parts_and_evidence(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    given = [case.folder / f"p{number}.dsse.json" for number in (1, 2)]
    options = ["--data", str(case.holdout), "--threat", "linf:0.05", "--attack", "fgsm", "--json"]
    for number, path in enumerate(given, 1):
        assert main.run(["evaluate", str(case.model), *options, "--shard", f"{number}/2", "--out", str(path)]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["shard"], said["blocks"]) == (f"{number}/2", (2, 1)[number - 1])
        assert "estimates" not in said
    out = case.folder / "merged.dsse.json"
    where = ["--model", str(case.model), "--data", str(case.holdout), "--out", str(out), "--json"]
    assert main.run(["merge-evidence", *map(str, given), *where]) == 0
    merged = json.loads(capsys.readouterr().out)
    assert main.run(["evaluate", str(case.model), *options, "--out", str(case.folder / "whole.dsse.json")]) == 0
    assert json.loads(capsys.readouterr().out)["evidence_id"] == merged["evidence_id"]
    assert main.run(["merge-evidence", str(given[0]), *where]) == 2
    capsys.readouterr()
    shard = ["--shard", "1/2", "--page", str(case.folder / "page.html"), "--out", str(given[0])]
    assert main.run(["evaluate", str(case.model), *options, *shard]) == 2


@pytest.mark.slow
def test_every_refusal_is_one_of_ours(case: Case) -> None:
    """Any one byte of a part changed: an error of ours, or (in white space, say) the same evidence."""
    given = case.parts(1)
    whole, draw = given[0].read_bytes(), np.random.default_rng(3)
    for at in draw.integers(0, len(whole), 12):
        given[0].write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(AssayError):
            case.merge(given)


def places_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, lists by their first and last entries."""
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = [(index, value[index]) for index in sorted({0, len(value) - 1}) if value]
    else:
        inside = []
    return (
        [at, *(place for key, below in inside for place in places_of(below, (*at, key)))]
        if at
        else [place for key, below in inside for place in places_of(below, (key,))]
    )


@pytest.mark.slow
def test_whatever_stands_anywhere_in_a_part_it_is_evidence_or_an_error_of_ours(case: Case) -> None:
    """One value at a time exchanged for another kind, and signed: a faulty writer never crashes a merge."""
    given = case.two
    whole = given[1].read_bytes()
    places, draw = places_of(peek(whole)["predicate"]), np.random.default_rng(5)
    others: list[Any] = [None, True, -1, 2**53 - 1, 0.5, "", "x" * 70, [], [[]], {}, {"a": None}]
    for at in draw.permutation(len(places))[:120]:
        *above, last = places[at]
        document = peek(whole)
        inner: Any = document["predicate"]
        for key in above:
            inner = inner[key]
        inner[last] = others[draw.integers(len(others))]
        given[1].write_bytes(seal(document, case.workspace.signers("evaluator")))
        with suppress(AssayError):
            case.merge(given, f"merged{at}")
