"""The command line at its border: every outcome is one exit code and one sentence, whatever streams there are."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from assay import canonical
from assay.cli import filter as filter_verb
from assay.cli import main, monitor
from assay.cli._app import make_app
from assay.cli._evidence import lines
from assay.cli.main import run
from assay.config import Config
from assay.config.members import require_members
from assay.errors import AssayError, UnfitInput, UnknownName
from assay.workspace import Workspace

VERBS = sorted(info.name or info.callback.__name__ for info in make_app().registered_commands)  # type: ignore[union-attr]
CONFIG = {
    "schema": "assay.config/v1",
    "sources": [{"name": "a", "uri": "a.csv"}],
    "policy": {"rules": [{"rule": "at_least", "estimate": "clean_accuracy", "value": 0.9}]},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "assay.yaml"
    file.write_bytes(canonical.dumps(CONFIG))
    return file


@pytest.fixture
def ledger() -> None:
    """A ledger that was written to once."""
    Workspace.from_env().ledger.put("x/y.json", b"{}")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the error's document, and the sentence on standard error."""
    code = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out)["error"], err


def test_the_list_of_verbs_cuts_no_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert len(VERBS) > 20
    assert all(re.search(rf"^  {verb}  +\w", listed, re.MULTILINE) for verb in VERBS)
    assert "..." not in listed
    names = re.findall(r"^  ([a-z-]+)", listed, re.MULTILINE)
    assert names == sorted(names)
    assert not re.search(r"^ {12,}", listed, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_takes_and_speaks_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out
    code, error, said = told(capsys, verb, "--no-such-option")
    assert (code, error["type"]) == (2, "NoSuchOption")
    assert said.startswith("Usage: ")


def test_no_verb_prints_the_help_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("Usage:")) == ("", 1)


@pytest.mark.parametrize(
    ("place", "word"),
    [("file", "a file where a folder"), ("file/x", "a file where a folder"), ("n" * 300, "too long"), ("\0", "null")],
)
def test_a_place_that_cannot_be_written_is_wrong_input(
    place: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, _, said = told(capsys, "init", str(tmp_path / place))
    assert code == 2
    assert word in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here: a folder with something in it, a file, and a folder in which nobody may write."""

    def made(dir: Path) -> Any:
        if dir.name == "closed":  # root may write anywhere
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(dir))
        return io.BytesIO()

    monkeypatch.chdir(tmp_path)
    for name in ("folder/other", "closed"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.setattr("assay.data.files.tempfile.TemporaryFile", made)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize(
    ("verb", "option"),
    [
        *(("evaluate no-model --data no-data --out e", option) for option in ("--out", "--page", "--outcomes")),
        *(("merge-evidence no --model no --data no --out e", option) for option in ("--out", "--page", "--outcomes")),
        ("score-features no.npy --labels no.npy", "--out"),
        ("sanitize no", "--propose"),
        ("report --run-folder folder", "--out"),
    ],
)
@pytest.mark.parametrize("place", ["folder", "file/x", "closed/x"])
def test_a_place_is_looked_at_before_an_hour_of_work(
    verb: str, option: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error, _ = told(capsys, *verb.split(), option, place)
    assert (code, error["where"]) == (2, place)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize(
    ("verb", "option"),
    [
        ("train no", "--out"),
        ("import-model no --golden no", "--out"),
        *(("sanitize no --out a --quarantine b", option) for option in ("--out", "--quarantine")),
        *(("filter no --out a --quarantine b", option) for option in ("--out", "--quarantine")),
        ("quarantine release no --kept no", "--out"),
        *(("verify-serving alias:a@b --out a", option) for option in ("--out", "--bundle")),
    ],
)
@pytest.mark.parametrize("place", ["folder", "file", "closed/x"])
def test_a_folder_to_make_is_looked_at_before_an_hour_of_work(
    verb: str, option: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error, _ = told(capsys, *verb.split(), option, place)
    assert (code, error["where"]) == (2, place)


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("a", "./b/../a"), ("a", "a/b"), ("a/b", "a")])
def test_two_outputs_at_one_place_are_wrong_input(one: str, other: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = told(capsys, "filter", "no", "--out", one, "--quarantine", other)
    assert (code, "a place of its own" in said) == (2, True)


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EISDIR, UnfitInput, 2),
        (errno.EROFS, UnfitInput, 2),
        (errno.EACCES, UnfitInput, 2),
        (errno.ENOSPC, AssayError, 3),
        (errno.EDQUOT, AssayError, 3),
        (errno.EIO, OSError, 3),
    ],
)
def test_what_the_system_says_of_a_place_is_told_in_words(
    number: int, kind: type[Exception], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/x/.assay-tmp-1", None, "/x/out.json")

    monkeypatch.setattr("assay.audit.audit", refuse)
    left, error, said = told(capsys, "audit")
    assert (left, error["type"]) == (code, kind.__name__)
    assert "/x" in said
    assert "assay-tmp" not in said or kind is OSError


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_behind_a_stream_changes_no_exit_code(
    stream: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(sys, stream, Full())
    assert run(["verify", str(tmp_path / "none"), "--json"]) == 2


def test_an_answer_that_cannot_be_written_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(sys, "stdout", Full())
    assert run(["gate", "--explain"]) == 3


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("verify none --json | true", 2),
        ("verify none >&-", 2),
        ("verify none 2>&-", 2),
        ("gate --explain --json | true", 0),
        ("gate --explain >&-", 0),
        ("verify $'a\\xff' --json", 2),
    ],
)
@pytest.mark.slow
def test_a_reader_that_left_sees_no_traceback(how: str, code: int, tmp_path: Path) -> None:
    line = f"{sys.executable} -m assay.cli {how}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr, b"Exception ignored" in done.stderr) == (code, False, False)


def test_streams_take_every_character(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for encoding in ("ascii", "latin-1", "utf-8"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        with pytest.raises(SystemExit, match="2"):
            main.main(["verify", str(tmp_path / "é-Ω-\udcff"), "--json"])
        assert json.loads(raw.getvalue().decode(encoding))["error"]["where"].endswith("é-Ω-\udcff")


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"schema": "assay.manifest/v1"}, "assay.config/v1"),
        ({"schema": "assay.config/v1", "ingset": {}}, "'ingest'"),
        (CONFIG | {"sanitise": {"least_records": 5}}, "'sanitize'"),
    ],
)
def test_a_whole_file_with_a_misspelt_section_is_not_taken_as_defaults(
    document: dict[str, Any], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(canonical.dumps(document))
    (tmp_path / "a.csv").write_text("x,label\n1,0\n2,1\n")
    code, _, said = told(capsys, "ingest", f"a={tmp_path}/a.csv", "--config", str(file), "--out", str(tmp_path / "out"))
    assert code == 2
    assert word in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("train.epochs=[", "a value in YAML"),
        ("train.model={name: mpl}", "Did you mean 'mlp'"),
        ("train.method={name: huberr}", "Did you mean 'huber'"),
        ("train.threat=linf:x", "norm:epsilon"),
        ("evaluate.threats=[l7:1]", "Did you mean 'l2'"),
        ("evaluate.threats=[linf:-1]", "above 0"),
        ("evaluate.attacks={pdg: {}}", "Did you mean 'pgd'"),
        ("evaluate.attacks={pgd: {step: 1}}", "Did you mean 'steps'"),
        ("evaluate.attacks={pgd: {steps: many}}", "steps"),
        ("evaluate.black_box={attacks: {sqare: {}}}", "Did you mean 'square'"),
        ("evaluate.aspects={calibratoin: {}}", "Did you mean 'calibration'"),
        ("evaluate.triggers=[{kind: pach, name: a, target: 1}]", "Did you mean 'patch'"),
        ("filter.detectors={spectrl: {}}", "Did you mean 'spectral'"),
        ("sanitize.detectors={kmean: {}}", "Did you mean 'kmeans'"),
        ("monitor.statistics=[kss]", "Did you mean 'ks'"),
    ],
)
def test_a_check_builds_every_member_that_the_file_names(
    override: str, word: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = told(capsys, "run", "--check", "--config", str(config), "--set", override)
    assert code == 2
    assert word in said


def test_members_that_are_known_pass(config: Path) -> None:
    require_members(Config.load(config, ["evaluate.attacks=standard", "train.model={name: 'own.module:Net'}"]))
    with pytest.raises(UnknownName):
        require_members(Config.load(config, ["evaluate.attacks={apgdd: {}}"]))


@pytest.mark.usefixtures("ledger")
def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.audit.audit", interrupt)
    code, error, said = told(capsys, "audit")
    assert (code, error["message"], said.count("\n")) == (3, "interrupted. Run it again to go on.", 1)
    monkeypatch.setattr("assay.cli._app.make_command", interrupt)
    with pytest.raises(SystemExit, match="3"):
        main.main(["audit"])


@pytest.mark.usefixtures("ledger")
def test_a_warning_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    monkeypatch.setattr("assay.audit.audit", lambda _: warnings.warn("no key", stacklevel=1))
    with pytest.raises(SystemExit):
        main.main(["audit"])
    assert capsys.readouterr().err.startswith("warning: no key\n")


@pytest.mark.parametrize(
    "verb", [("trace", "source:a"), ("contain", "source:a"), ("audit",), ("promote", "--reconcile")]
)
def test_another_folder_is_not_an_empty_answer(
    verb: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error, said = told(capsys, *verb)
    assert (code, error["got"]) == (2, "no such folder")
    assert "ASSAY_HOME" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("ref", "word"),
    [
        ("vendor-c", "<kind>:<name>"),
        ("source:", "<kind>:<name>"),
        ("deploymnt:a", "unknown kind"),
        ("record:a/b:18446744073709551616", "<source>/<batch>:<row>"),
        ("record:a/b:-1", "<source>/<batch>:<row>"),
        ("batch:a", "<source>/<batch>"),
        ("source:../a", "a source's name"),
    ],
)
def test_a_reference_of_another_form_says_the_form(ref: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = told(capsys, "trace", ref)
    assert code == 2
    assert word in said


def test_a_sentence_names_no_thousand_names() -> None:
    error = UnknownName("batch", "x", (f"a/{number}" for number in range(10_000)))
    assert len(str(error)) < 1000
    assert "and 9960 more" in str(error)
    assert len(error.known) == 10_000


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "at_most", "estimate": "backdoor_success", "value": 20},
        {"rule": "at_least", "estimate": "clean_accuracy", "value": -1},
        {"rule": "at_least", "estimate": "robust_accuracy", "threat": "linf:0.1", "value": 40},
        {"rule": "backdoor", "value": 5},
        {"rule": "certified_at_least", "threat": "linf:0.1", "value": -0.1},
        {"rule": "worst_slice", "estimate": "clean_accuracy", "by": "class", "value": -2},
    ],
)
def test_a_bar_in_percent_is_no_rule_that_always_holds(
    rule: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_bytes(canonical.dumps({"rules": [rule]}))
    code, _, said = told(capsys, "gate", "none", "--policy", str(tmp_path / "policy.yaml"))
    assert code == 2
    assert "a share in [0, 1]" in said


def test_estimates_stand_in_columns_whatever_their_names_are() -> None:
    one = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "confidence": 0.95, "method": "exact", "counts": {}}
    told = {"estimates": {"a": one, "b" * 60: one}, "soundness": {}, "sound": True, "evidence_id": "", "evidence": "e"}
    first, second, *_ = lines(told)
    assert first.index("0.500") == second.index("0.500")


def test_a_long_name_does_not_run_into_what_follows() -> None:
    found = {"action": "watch", "feature": "f" * 40, "statistic": "ks", "p_value": None, "trouble": "too few"}
    assert "f ks" in monitor._line(found)
    verdict = {"label": "c" * 40, "status": "clean", "p_value": None, "records": 1, "trusted": 0}
    assert "c clean" in filter_verb._line(verdict)
