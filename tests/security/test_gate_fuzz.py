"""Whatever bytes arrive in place of an envelope, they are refused through assay's errors and nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promotion_cases import evidence_about
from securesystemslib.signer import CryptoSigner

from assay import canonical
from assay.errors import AssayError
from assay.keyring import Keyring, public_entry
from assay.signing import peek, seal, unseal

SIGNER = CryptoSigner.generate_ed25519()
KEYRING = Keyring((public_entry(SIGNER, ["evaluator"]),))
ENVELOPE = seal(evidence_about("a" * 64).to_statement(), [SIGNER])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig", "_type", "predicate", "subject"])


def opens(data: bytes) -> bool:
    """Whether it is accepted; anything but an error of assay is a defect and escapes."""
    try:
        unseal(data, KEYRING, kind="evidence", role="evaluator")
    except AssayError:
        return False
    return True


def flips(count: int, seed: int) -> int:
    """Accepted envelopes among so many with one bit flipped anywhere."""
    rng = random.Random(seed)
    accepted = 0
    for _ in range(count):
        at, bit = rng.randrange(len(ENVELOPE)), 1 << rng.randrange(8)
        accepted += opens(ENVELOPE[:at] + bytes([ENVELOPE[at] ^ bit]) + ENVELOPE[at + 1 :])
    return accepted


def test_the_envelope_itself_opens() -> None:
    assert opens(ENVELOPE)


def test_500_byte_flips_are_refused() -> None:
    assert flips(500, seed=0) == 0


@pytest.mark.slow
def test_20000_byte_flips_are_refused() -> None:
    assert flips(20_000, seed=1) == 0


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99, 0.9999])
def test_a_truncated_envelope_is_refused(share: float) -> None:
    assert not opens(ENVELOPE[: int(share * len(ENVELOPE))])


MALFORMED: list[bytes] = [
    b"",
    b"null",
    b"{}",
    b"[]",
    b'"text"',
    b"1e999",
    b"NaN",
    b"\xff\xfe\x00",
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b'{"payload":"","payload":"","payloadType":"x","signatures":[]}',
    b'{"payload":"","payloadType":"x","signatures":[]}',
    b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]}',
    b'{"payload":"!","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"a","sig":"b"}]}',
    b'{"payload":1,"payloadType":2,"signatures":3}',
    b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{}]}',
    b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":null}',
    b"0" * 10_000,
    b" " * (17 * 2**20),
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    assert not opens(data)
    with pytest.raises(AssayError):
        peek(data)


@settings(max_examples=200)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert not opens(data)


@settings(max_examples=200)
@given(document=st.dictionaries(names | st.text(max_size=5), json_values, max_size=6))
def test_random_documents_are_refused(document: dict[str, Any]) -> None:
    assert not opens(_json(document))


@settings(max_examples=200)
@given(document=json_values, key=st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]))
def test_a_random_value_in_place_of_any_field_is_refused(document: Any, key: str) -> None:
    envelope = canonical.loads(ENVELOPE)
    place = envelope if key in envelope else envelope["signatures"][0]
    if place.get(key) == document:
        return
    place[key] = document
    assert not opens(_json(envelope))


@settings(max_examples=200)
@given(document=st.dictionaries(names | st.text(max_size=5), json_values, max_size=6))
def test_nonsense_that_is_properly_signed_is_refused(document: dict[str, Any]) -> None:
    """Signatures do not make a statement: whatever was signed, it has to be an assay.evidence/v1."""
    try:
        data = seal(document, [SIGNER])
    except AssayError:
        return
    assert not opens(data)


@settings(max_examples=200)
@given(
    predicate=st.dictionaries(st.sampled_from(["estimates", "measured", "soundness", "truncated", "run"]), json_values)
)
def test_evidence_of_another_shape_is_refused_after_its_signature_held(predicate: dict[str, Any]) -> None:
    from assay.evidence import Evidence
    from assay.signing import statement

    document = statement("evidence", {"model": "a" * 64}, predicate)
    try:
        opened = unseal(seal(document, [SIGNER]), KEYRING, kind="evidence", role="evaluator")
        read = Evidence.from_statement(opened.statement)
    except AssayError:
        return
    assert read.estimates == {}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_a_signed_number_that_is_not_finite_is_refused(number: str) -> None:
    from securesystemslib.dsse import Envelope

    from assay.signing import PAYLOAD_TYPE

    text = canonical.dumps(evidence_about("a" * 64).to_statement()).decode().replace('"seed":0', f'"seed":{number}')
    envelope = Envelope(text.encode(), PAYLOAD_TYPE, {})
    envelope.sign(SIGNER)
    assert number in text
    assert not opens(canonical.dumps(envelope.to_dict()))


def _json(document: Any) -> bytes:
    import json

    return json.dumps(document).encode("utf-8", "surrogatepass")
