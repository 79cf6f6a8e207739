"""assay.yaml, threat models, the catalog and errors: strict, with the nearest name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import catalog
from assay.config import Config
from assay.config.base import parse
from assay.config.sources import SourceConfig
from assay.errors import AssayError, Conflict, Refused, UnfitInput, UnknownName, Unreachable
from assay.examples.digits import Digits
from assay.threat import ThreatModel


@pytest.fixture(scope="module")
def digits_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Digits().write(tmp_path_factory.mktemp("digits"))[0]


@pytest.mark.parametrize(
    ("override", "close"),
    [
        ("train.epohs=3", "epochs"),
        ("evalute.seed=1", "evaluate"),
        ("promote.allias=x", "alias"),
        ("resources.gpu.gpu_cuont=1", "gpu_count"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(digits_yaml: Path, override: str, close: str) -> None:
    with pytest.raises(UnknownName) as caught:
        Config.load(digits_yaml, [override])
    assert caught.value.close == close
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "override",
    [
        "train.epochs=0",
        "train.epochs=many",
        "policy={rules: []}",
        "sources=[]",
        "promote.alias=latest",
        "promote.alias=v2",
        "promote.model='a b'",
        "schema=assay.config/v2",
        "train.learning_rate=.nan",
        "ingest.holdout_share=1",
        "train",
        "=3",
        "train.epochs.x=1",
    ],
)
def test_values_out_of_range_are_refused(digits_yaml: Path, override: str) -> None:
    with pytest.raises(UnfitInput):
        Config.load(digits_yaml, [override])


def test_overrides_change_the_digest_and_nothing_else(digits_yaml: Path) -> None:
    plain, same, other = (Config.load(digits_yaml, given) for given in ([], ["train.epochs=20"], ["train.epochs=3"]))
    assert plain.digest == same.digest or plain.train.epochs != 20
    assert other.digest != plain.digest
    assert other.train.epochs == 3
    assert other.evaluate == plain.evaluate


def test_relative_paths_start_at_the_file(digits_yaml: Path) -> None:
    assert all(Path(source.uri).is_file() for source in Config.load(digits_yaml).sources)


def test_the_example_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    first, second = (Digits().write(tmp_path / name)[0].parent for name in "ab")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 5
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    "text",
    [
        "linf:0",
        "linf:-1",
        "linf:1.5",
        "linf:nan",
        "linf:1/0",
        "linf",
        "l3:1",
        "linf:0.1:x",
        "LINF:0.1",
        "linf: 0.1",
        "",
    ],
)
def test_a_threat_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UnfitInput):
        ThreatModel.parse(text)


@given(st.integers(1, 255))
def test_a_fraction_is_the_nearest_float(top: int) -> None:
    assert ThreatModel.parse(f"linf:{top}/255").epsilon == top / 255


@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(1e-6, 1.0),
    goal=st.sampled_from(["untargeted", "targeted"]),
    knowledge=st.sampled_from(["white-box", "transfer"]),
)
def test_threats_survive_json_and_differ_by_key(norm: str, epsilon: float, goal: str, knowledge: str) -> None:
    threat = ThreatModel(norm=norm, epsilon=epsilon, goal=goal, knowledge=knowledge)  # type: ignore[arg-type]
    assert ThreatModel.from_json(threat.to_json()) == threat
    other = ThreatModel(norm=norm, epsilon=math.nextafter(epsilon, 0), goal=goal, knowledge=knowledge)  # type: ignore[arg-type]
    assert other.key != threat.key


def test_a_query_budget_belongs_to_black_boxes_only() -> None:
    with pytest.raises(UnfitInput):
        ThreatModel(epsilon=0.1, query_budget=10)
    with pytest.raises(UnfitInput):
        ThreatModel(epsilon=0.1, knowledge="black-box")
    assert ThreatModel(epsilon=0.1, knowledge="black-box", query_budget=10).query_budget == 10


def test_the_catalog_finds_members_and_names_the_nearest() -> None:
    assert {"digits", "tiny"} <= set(catalog.names("examples"))
    assert "batches" not in catalog.names("examples")
    assert catalog.build("examples", "digits", {"planted": 0}) == Digits(planted=0)
    assert catalog.settings(Digits())["target"] == 7
    with pytest.raises(UnknownName) as caught:
        catalog.build("examples", "digit")
    assert caught.value.close == "digits"
    with pytest.raises(UnknownName) as caught:
        catalog.build("examples", "digits", {"plantd": 3})
    assert caught.value.close == "planted"
    with pytest.raises(UnfitInput, match="planted"):
        catalog.build("examples", "digits", {"planted": "many"})


def test_a_name_of_another_form_is_told_in_words() -> None:
    with pytest.raises(UnfitInput, match=r"got 'a b', need text of the form '\^\[A-Za-z0-9\]"):
        parse(SourceConfig, {"name": "a b", "uri": "a.csv"}, "source")


def test_errors_say_where_what_came_what_is_needed_and_what_to_do() -> None:
    error = UnfitInput("x", "values in [-2, 3]", "values in [0, 1]", "Scale the inputs.")
    assert str(error) == "x: got values in [-2, 3], need values in [0, 1]. Scale the inputs."
    assert (error.where, error.got, error.need, error.fix) == (
        "x",
        "values in [-2, 3]",
        "values in [0, 1]",
        "Scale the inputs.",
    )
    codes = {kind: kind("x").exit_code for kind in (AssayError, UnfitInput, Conflict, Refused, Unreachable)}
    assert codes == {AssayError: 3, UnfitInput: 2, Conflict: 2, Refused: 1, Unreachable: 3}


def test_the_commented_template_loads_and_shows_the_defaults_it_names(tmp_path: Path) -> None:
    """What a template shows as a default is one: taking a section out of the file changes nothing."""
    from importlib.resources import files

    import yaml

    for name in ("assay.yaml", "policy.yaml"):
        (tmp_path / name).write_bytes((files("assay") / "templates" / name).read_bytes())
    document = yaml.safe_load((tmp_path / "assay.yaml").read_text())
    whole = Config.load(tmp_path / "assay.yaml")
    for section in set(document) - {"schema", "sources", "policy"}:
        (tmp_path / "less.yaml").write_text(yaml.safe_dump({k: v for k, v in document.items() if k != section}))
        assert getattr(Config.load(tmp_path / "less.yaml"), section) == getattr(whole, section), section
    missing = sorted(
        f"{section}.{field}"
        for section in ("ingest", "sanitize", "filter", "train", "evaluate", "monitor", "promote", "resources")
        for field in type(getattr(whole, section)).model_fields
        if f"  {field}:" not in (tmp_path / "assay.yaml").read_text().replace("  # ", "  ")
    )
    assert missing == []
