"""Whatever bytes lie where a file of assay is expected: one error type, never another exception, never an acceptance.

Three kinds of input for every reader: random bytes, random documents, and the real file with something cut, flipped,
put in or doubled.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lineage_cases import dataset
from promotion_cases import evidence_about, policy, write_model
from securesystemslib.signer import CryptoSigner

from assay import canonical
from assay.config.gate import PolicyConfig
from assay.data.manifest import Manifest
from assay.errors import AssayError
from assay.keyring import Keyring, public_entry
from assay.models.spec import GOLDEN, SPEC, WEIGHTS, read_spec
from assay.promotions import Promotion
from assay.seen import Seen
from assay.signing import payload_digest, peek, seal, statement, unseal
from assay.verify import verify

SIGNER = CryptoSigner.generate_ed25519()
KEYRING = Keyring((public_entry(SIGNER, ["evaluator"]),))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)


def keyring_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        KEYRING.save(f"{folder}/keys.json")
        return Path(folder, "keys.json").read_bytes()


def model_file(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return (write_model(Path(folder)) / name).read_bytes()


def read_model(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        with tempfile.TemporaryDirectory() as folder:
            model = write_model(Path(folder))
            (model / name).write_bytes(path.read_bytes())
            return read_spec(model)

    return read


def read_seen(path: Path) -> object:
    with Seen.held(path) as seen:
        return seen.targets


def read_signed(path: Path) -> object:
    said = unseal(path.read_bytes(), KEYRING, kind="evidence", role="evaluator").statement
    payload_digest(path.read_bytes())
    return said


def verified(path: Path) -> object:
    if not verify(path, KEYRING)["verified"]:
        raise AssayError("not verified")
    return True


SEEN = {"schema": "assay.seen/v1", "targets": {"a@b": {"sequence": 3, "promotion": "0" * 64}}}
ENVELOPE = seal(evidence_about("a" * 64).to_statement(), [SIGNER])
READERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "key list": (Keyring.load, keyring_bytes()),
    "memory of a server": (read_seen, canonical.dumps(SEEN)),
    "policy": (PolicyConfig.load, canonical.dumps(policy().to_json())),
    "manifest": (
        lambda path: Manifest.from_json(canonical.read(path)),
        canonical.dumps(dataset({"a/b": 4}).manifest.to_json()),
    ),
    "model.json": (read_model(SPEC), model_file(SPEC)),
    "weights": (read_model(WEIGHTS), model_file(WEIGHTS)),
    "golden": (read_model(GOLDEN), model_file(GOLDEN)),
    "envelope": (read_signed, ENVELOPE),
    "envelope, unverified": (lambda path: peek(path.read_bytes()), ENVELOPE),
    "file for verify": (verified, ENVELOPE),
}
STRICT = ["model.json", "weights", "golden", "envelope", "file for verify"]  # signed or sealed: no change passes
SETTINGS = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def accepts(name: str, data: bytes) -> bool:
    """Whether a reader takes the bytes; anything but an error of assay is a defect and escapes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        try:
            READERS[name][0](path)
        except AssayError:
            return False
    return True


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, len(data) - 1))
    end = draw(st.integers(at, min(len(data), at + 40)))
    put = draw(
        st.binary(max_size=20) | st.sampled_from([data[at:end] * 2, b"null", b"{}", b"[]", b"1e999", b"-1", b'""'])
    )
    return data[:at] + put + data[end:]


@pytest.mark.parametrize("name", READERS)
def test_the_real_file_is_accepted(name: str) -> None:
    assert accepts(name, READERS[name][1])


@pytest.mark.parametrize("name", READERS)
@SETTINGS
@given(data=st.data())
def test_a_mutated_file_is_refused_or_read_and_nothing_else(name: str, data: Any) -> None:
    original = READERS[name][1]
    changed = data.draw(mutations(original))
    taken = accepts(name, changed)
    if name in STRICT and changed != original:
        assert not taken


@pytest.mark.parametrize("name", READERS)
@SETTINGS
@given(data=st.binary(max_size=100))
def test_random_bytes_are_refused(name: str, data: bytes) -> None:
    assert not accepts(name, data)


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("weights", "golden")])
@SETTINGS
@given(data=st.data())
def test_a_random_value_in_place_of_any_field_is_refused_or_read(name: str, data: Any) -> None:
    document = canonical.loads(READERS[name][1])
    place, path = document, []
    while isinstance(place, dict | list) and place and (not path or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        path.append((place, key))
        place = place[key]
    where, key = path[-1]
    where[key] = data.draw(json_values)
    accepts(name, json.dumps(document).encode("utf-8", "surrogatepass"))


FIELDS = ["target", "sequence", "previous", "run", "rollback"]


@SETTINGS
@given(
    predicate=st.dictionaries(st.sampled_from([*FIELDS, "evidence", "decision"]), json_values),
    subjects=st.lists(json_values, max_size=3),
)
def test_a_signed_promotion_of_another_shape_is_refused(predicate: dict[str, Any], subjects: list[Any]) -> None:
    document = statement("promotion", {"model": "a" * 64}, predicate) | {"subject": subjects}
    with pytest.raises(AssayError):
        Promotion.from_statement(document, "promotion")


@SETTINGS
@given(
    change=st.dictionaries(
        st.sampled_from(["target", "sequence", "previous", "run", "rollback"]), json_values, min_size=1
    )
)
def test_a_field_of_a_promotion_replaced_is_refused_or_read(change: dict[str, Any]) -> None:
    body = {
        "target": {"model": "m", "alias": "champion"},
        "sequence": 1,
        "previous": "",
        "evidence": "e" * 64,
        "decision": "d" * 64,
        "run": {"promoted_at": "2026-01-01T00:00:00+00:00"},
    }
    subjects = {"model": "a" * 64, "evidence": "e" * 64, "decision": "d" * 64}
    assert Promotion.from_statement(statement("promotion", subjects, body), "promotion").sequence == 1
    try:
        Promotion.from_statement(statement("promotion", subjects, body | change), "promotion")
    except AssayError:
        return
