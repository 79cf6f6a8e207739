"""Canonical JSON, digests and the strict readers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from assay import canonical
from assay.errors import UnfitInput

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_canonical_bytes_read_back_as_the_same_value(value: object) -> None:
    assert canonical.loads(canonical.dumps(value)) == json.loads(json.dumps(value))


class Subclassed(float):
    """Not a plain float; the library writes it as one."""


@given(JSON | st.floats().map(Subclassed) | st.integers() | st.floats() | st.tuples(JSON) | st.binary(max_size=2))
def test_the_bytes_are_those_of_the_library(value: object) -> None:
    """Reference: rfc8785, for all it accepts; what it refuses is refused."""
    try:
        expected = rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError:
        with pytest.raises(UnfitInput):
            canonical.dumps(value)
        return
    assert canonical.dumps(value) == expected


@given(st.dictionaries(st.text(max_size=5), st.integers(-9, 9), min_size=2))
def test_key_order_does_not_matter(value: dict[str, int]) -> None:
    assert canonical.dumps(value) == canonical.dumps(dict(reversed(value.items())))


def test_published_vector_of_rfc_8785() -> None:
    """Reference: RFC 8785, section 3.2.2 and 3.2.3."""
    numbers = "333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001"
    text = r"\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/"
    source = f'{{"numbers":[{numbers}],"string":"{text}","literals":[null,true,false]}}'
    canonical_text = r"€$\u000f\nA'B\"\\\\\"/"
    canonical_numbers = "333333333.3333333,1e+30,4.5,0.002,1e-27"
    expected = f'{{"literals":[null,true,false],"numbers":[{canonical_numbers}],"string":"{canonical_text}"}}'
    assert canonical.dumps(json.loads(source)).decode() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, -(2**53), {1: 2}, b"x", "\ud800"])
def test_refuses_values_without_a_canonical_form(value: object) -> None:
    with pytest.raises(UnfitInput):
        canonical.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e400",
        "[" * 200_000,
        "",
        "{",
        b"\xff",
        '{"a":{"b":1,"b":1}}',
        "[1] [2]",
    ],
)
def test_refuses_what_a_lenient_parser_lets_through(text: str | bytes) -> None:
    with pytest.raises(UnfitInput):
        canonical.loads(text)


def test_refuses_a_document_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text("[" + "1," * 100 + "1]")
    with pytest.raises(UnfitInput, match="at most 50"):
        canonical.read(path, limit=50)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "a: &x 1\nb: *x", "!!python/object/apply:os.getcwd []", "", "a: 1\n---\nb: 2", "a: [", "? [1]\n: 2"],
)
def test_yaml_refuses_duplicates_aliases_objects_and_streams(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UnfitInput):
        canonical.read_yaml(path)


def test_tree_digest_binds_names_and_contents(tmp_path: Path) -> None:
    """Same contents under other names is another tree (a published signer confuses the two)."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, ("config.json", "weights.bin")), (two, ("aaa.pkl", "zzz.bin"))):
        folder.mkdir()
        for name, data in zip(names, (b"1", b"2"), strict=True):
            (folder / name).write_bytes(data)
    files = canonical.tree_files(one)
    assert files == {name: hashlib.sha256((one / name).read_bytes()).hexdigest() for name in sorted(files)}
    assert canonical.tree_digest(files) != canonical.tree_digest(canonical.tree_files(two))


@pytest.mark.parametrize("kind", ["empty", "link", "missing", "fifo"])
def test_tree_refuses_what_is_no_plain_file(tmp_path: Path, kind: str) -> None:
    import os

    folder = tmp_path / "tree"
    if kind != "missing":
        folder.mkdir()
    if kind == "link":
        (folder / "a").symlink_to("/etc/hostname")
    if kind == "fifo":
        os.mkfifo(folder / "a")
    with pytest.raises(UnfitInput):
        canonical.tree_files(folder)


@pytest.mark.parametrize(
    "document", [{}, {"schema": "assay.manifest/v2"}, {"schema": "assay.evidence/v1"}, [], None, "x"]
)
def test_an_unknown_major_version_is_refused(document: object) -> None:
    with pytest.raises(UnfitInput, match=r"assay\.manifest/v1"):
        canonical.require_schema(document, "assay.manifest", "here")
