"""CSV, strictly: never a silently different frame."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_cases import joined

from assay.config.base import parse
from assay.config.ingest import IngestConfig
from assay.errors import UnfitInput, UnknownName
from assay.ingest.readers.csv import Csv
from assay.ingest.rows import Delivery, Rows

GOOD = "x,y,label\n" + "".join(f"{k},{k / 4},{'ab'[k % 2]}\n" for k in range(40))


def read(data: str | bytes, folder: Path, **settings_: object) -> Rows:
    path = folder / "b.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return joined(Csv().chunks(Delivery("s/b", path), parse(IngestConfig, settings_, "ingest")))


def test_reads_what_is_written(tmp_path: Path) -> None:
    rows = read(GOOD, tmp_path)
    assert rows.refused == ()
    assert rows.table["row"].to_pylist() == list(range(40))
    assert rows.table["x"].to_pylist() == [float(k) for k in range(40)]
    assert rows.table["y"].to_pylist() == [k / 4 for k in range(40)]
    assert rows.table["label"].to_pylist() == ["ab"[k % 2] for k in range(40)]


def test_quotes_blank_lines_line_ends_and_a_byte_order_mark_are_read_as_rfc_4180_says(tmp_path: Path) -> None:
    text = '\ufeffx,"a ""b""",label\r\n\r\n1,"one, two",p\r\n2,,q\r\n\r\n3,"",p'
    rows = read(text, tmp_path)
    assert rows.table.to_pylist() == [
        {"row": 0, "x": 1.0, 'a "b"': "one, two", "label": "p"},
        {"row": 1, "x": 2.0, 'a "b"': None, "label": "q"},
        {"row": 2, "x": 3.0, 'a "b"': None, "label": "p"},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,000,2,a", "field_count"),
        (b"1,2", "field_count"),
        (b"1,2,a,", "field_count"),
        (b'"1,000",2,a', "number_format"),
        (b"007,2,a", "number_format"),
        (b"1_000,2,a", "number_format"),
        (b" 1,2,a", "number_format"),
        (b"0x1f,2,a", "number_format"),
        (b"1.2.3,2,a", "number_format"),
        ("１,2,a".encode(), "number_format"),
        (b"NA,2,a", "number_format"),
        (b"null,2,a", "number_format"),
        (b"1e400,2,a", "number_range"),
        (b"-1e400,2,a", "number_range"),
        (b"1e-400,2,a", "number_range"),
        (b"9007199254740993,2,a", "number_not_exact"),
        (b"1,2,", "missing_label"),
        (b"1,2\0,a", "control_character"),
        (b"1,2,a\rb", "control_character"),
        (b"1,2,\xff", "not_utf8"),
        (b"1,2,\xed\xa0\x80", "not_utf8"),
        (b'1,2,"a', "quoting"),
        (b'1,2,"a"b', "quoting"),
    ],
)
def test_a_row_that_does_not_fit_is_kept_raw_and_moves_no_other(tmp_path: Path, line: bytes, reason: str) -> None:
    lines = GOOD.encode().splitlines()
    text = b"\n".join([*lines[:11], line, *lines[11:]])
    rows = read(text, tmp_path)
    assert [(it.row, it.line, it.reason, it.data) for it in rows.refused] == [(10, 12, reason, line)]
    expected = read(GOOD, tmp_path).table
    assert rows.table.drop_columns(["row"]).equals(expected.drop_columns(["row"]))
    assert rows.table["row"].to_pylist() == [k for k in range(41) if k != 10]


def test_a_stray_quote_takes_one_line_and_not_the_records_after_it(tmp_path: Path) -> None:
    lines = GOOD.splitlines()
    lines[5] = '"' + lines[5]
    rows = read("\n".join(lines), tmp_path)
    assert [it.line for it in rows.refused] == [6]
    assert rows.table.num_rows == 39


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("nan", np.nan),
        ("NaN", np.nan),
        ("inf", np.inf),
        ("-Infinity", -np.inf),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("-1e3", -1000.0),
    ],
)
def test_spellings_of_floats_are_those_floats(tmp_path: Path, cell: str, value: float) -> None:
    rows = read(GOOD + f"{cell},1,a\n", tmp_path)
    assert rows.refused == ()
    np.testing.assert_equal(rows.table["x"].to_pylist()[-1], value)


def test_decimals_round_as_ieee_754_says(tmp_path: Path) -> None:
    cells = ["0.1", "2.2250738585072014e-308", "1.7976931348623157e308", "9007199254740992", "0.30000000000000004"]
    rows = read("x,label\n" + "".join(f"{cell},{k % 2}\n" for k, cell in enumerate(cells)), tmp_path)
    assert rows.table["x"].to_pylist() == [float(cell) for cell in cells]


def test_missing_cells_are_nulls_and_only_those_that_are_declared(tmp_path: Path) -> None:
    rows = read(GOOD + ",1,a\nNA,1,a\n", tmp_path, missing=["", "NA"])
    assert rows.table["x"].to_pylist()[-2:] == [None, None]


def test_a_declared_text_column_keeps_every_sign(tmp_path: Path) -> None:
    rows = read("zip,label\n007,a\n08540,b\n1e3,a\n", tmp_path, types={"zip": "text"})
    assert rows.table["zip"].to_pylist() == ["007", "08540", "1e3"]
    with pytest.raises(UnknownName, match="Did you mean 'zip'"):
        read("zip,label\n1,a\n2,b\n", tmp_path, types={"zipp": "text"})


def test_a_batch_of_mostly_refused_rows_is_refused_naming_the_first(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match=r"line 2: got number_format .*b'007,1,a'.*5 of 5 rows"):
        read("x,y,label\n" + "007,1,a\n" * 5, tmp_path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("x,x,label", "ambiguous_column"),
        ("x,X,label", "ambiguous_column"),
        ("x,lаbel,label", r"U\+0430"),
        ("x,la\u200bbel,label", r"U\+200B"),
        ("x,label ,label", "ambiguous_column"),
        ("caf\u00e9,cafe\u0301,label", "ambiguous_column"),
        ("x,,label", "ambiguous_column"),
        ("x,y,lаbel", "look-alike"),
        ("x,y,target", "label column 'label'"),
        ("x,row,label", "which assay keeps"),
        ("x,Weight,label", "which assay keeps"),
    ],
)
def test_a_header_that_poses_is_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(UnfitInput, match=words):
        read(f"{header}\n1,2,a\n3,4,b\n", tmp_path)


TWINS = [
    *("l\u0430bel", "lab\u0435l", "l\u0430b\u0435l", "l\u03b1bel", "l\u0251bel"),  # letters of other scripts
    *("\u217cabel", "labe\u217c", "\uff4c\uff41\uff42\uff45\uff4c", "\uff4cabel", "la\uff42el"),  # compatibility forms
    *("\U0001d425\U0001d41a\U0001d41b\U0001d41e\U0001d425", "l\u24d0bel"),
    *("LABEL", "Label", "lABEL"),
    *(
        "label\u200b",
        "\u200clabel",
        "la\u00adbel",
        "la\u2060bel",
        "label\ufeff",
        "\u202elabel",
        "label\u200d",
    ),  # unseen
    *(" label", "label ", "label\u00a0", "\u3000label", "\tlabel", "label\x07", "label\x7f"),  # blank or control
]


@pytest.mark.parametrize("twin", TWINS, ids=ascii)
def test_a_twin_of_the_label_never_stands_beside_it(tmp_path: Path, twin: str) -> None:
    with pytest.raises(UnfitInput, match="ambiguous_column"):
        read(f"x,{twin},label\n1,2,a\n3,4,b\n", tmp_path)


def test_utf16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitInput, match="line 1"):
        read(GOOD.encode("utf-16"), tmp_path)


def test_limits_hold(tmp_path: Path) -> None:
    for limits, words in (
        ({"rows": 39}, "more than 39 rows"),
        ({"columns": 2}, "3 columns"),
        ({"file_bytes": 100}, "at most 100"),
    ):
        with pytest.raises(UnfitInput, match=words):
            read(GOOD, tmp_path, limits=limits)
    rows = read(GOOD + "1,2," + "a" * 100 + "\n", tmp_path, limits={"line_bytes": 50})
    assert [it.reason for it in rows.refused] == ["line_too_long"]


def test_gzip_is_unpacked_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "b.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    delivery = Delivery("s/b", path)
    assert joined(Csv().chunks(delivery, IngestConfig())).table.equals(read(GOOD, tmp_path).table)
    with pytest.raises(UnfitInput, match="unpacked"):
        joined(Csv().chunks(delivery, parse(IngestConfig, {"limits": {"file_bytes": len(GOOD) - 1}}, "ingest")))


@settings(max_examples=60)
@given(
    cells=st.lists(
        st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.text("ab,\" 'é-", max_size=6)),
        min_size=2,
        max_size=30,
    )
)
def test_any_table_written_by_the_rules_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[float, str]]
) -> None:
    """Property: floats in shortest exact form, and text quoted when it must be, come back as they were."""
    quoted = [(x, '"' + text.replace('"', '""') + '"') for x, text in cells]
    text = "x,t,label\n" + "".join(f"{x!r},{t},{k % 2}\n" for k, (x, t) in enumerate(quoted))
    rows = read(text, tmp_path_factory.mktemp("csv"), types={"t": "text"})
    assert rows.refused == ()
    assert rows.table["x"].to_pylist() == [x for x, _ in cells]
    assert rows.table["t"].to_pylist() == [text or None for _, text in cells]


def test_a_changed_byte_is_an_error_a_refusal_or_a_visible_change(tmp_path: Path) -> None:
    """Property over 600 random changes: a row other than those of the touched lines never changes."""
    lines = GOOD.encode().splitlines(keepends=True)
    before = {row["row"]: row for row in read(GOOD, tmp_path).table.to_pylist()}
    rng = random.Random(11)
    for _ in range(600):
        data = bytearray(GOOD.encode())
        place = rng.randrange(len(lines[0]), len(data) - 1)
        data[place] = rng.choice(b',"\n\r\0 0123456789.eE+-axNn\xff')
        try:
            rows = read(bytes(data), tmp_path)
        except UnfitInput:
            continue
        touched = data[:place].count(b"\n") - 1
        cells = [tuple(row[name] for name in ("x", "y", "label")) for row in rows.table.to_pylist()]
        rest = [
            tuple(row[name] for name in ("x", "y", "label"))
            for k, row in before.items()
            if k not in (touched, touched + 1)
        ]
        assert len([cell for cell in rest if cell not in cells]) == 0
        assert rows.table.num_rows + len(rows.refused) in (39, 40, 41)


TIMES = {
    "2024-03-31T01:30:00Z": "2024-03-31T01:30:00+00:00",
    "2024-03-31T02:30:00+01:00": "2024-03-31T01:30:00+00:00",
    "2024-03-31 03:30:00.5+02:00": "2024-03-31T01:30:00.500000+00:00",
}


def test_times_are_instants_in_utc_and_nothing_is_guessed_about_a_zone(tmp_path: Path) -> None:
    """02:30 on that night does not exist in Berlin, 02:30 in October exists twice: without a zone neither is a time."""
    bad = {
        "2024-03-31T02:30:00": "time_zone",
        "2024-10-27 02:30:00": "time_zone",
        "2024-03-31": "time_format",
        "31/03/2024 02:30": "time_format",
        "1711848600": "time_format",
        "2024-02-30T00:00:00Z": "time_range",
        "2024-03-31T24:30:00Z": "time_range",
        "9999-12-31T23:59:59-10:00": "time_range",
        "٢٠٢٤-03-31T02:30:00Z": "time_format",
        "2031-01-01T00:00:00Z": "future_time",
    }
    cells = [*TIMES, *bad, *TIMES]
    text = "when,label\n" + "".join(f"{cell},{'ab'[k % 2]}\n" for k, cell in enumerate(cells))
    settings_ = {"types": {"when": "time"}, "latest": "2030-01-01T00:00:00Z", "limits": {"refused_share": 1}}
    rows = read(text, tmp_path, **settings_)
    assert [value.isoformat() for value in rows.table["when"].to_pylist()] == [*TIMES.values()] * 2
    assert [(it.data.split(b",")[0].decode(), it.reason) for it in rows.refused] == [*bad.items()]
    with pytest.raises(UnfitInput, match="instant with its zone"):
        read(text, tmp_path, latest="2030-01-01T00:00:00")


def test_a_declared_header_is_exact(tmp_path: Path) -> None:
    assert read(GOOD, tmp_path, columns=["x", "y", "label"]).table.num_rows == 40
    for columns, words in (
        (["y", "x", "label"], "column 1: got 'x', need 'y'"),
        (["x", "y", "z", "label"], "column 3: got 'label', need 'z'"),
        (["x", "y"], "column 3: got 'label', need 'no column'"),
    ):
        with pytest.raises(UnfitInput, match=words):
            read(GOOD, tmp_path, columns=columns)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_anywhere_moves_no_value_of_another_line(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    """Property: an error, rows refused, or a change that stays in its line and shows in column names or cells."""
    before = read(GOOD, tmp_path_factory.mktemp("csv"))
    data = bytearray(GOOD.encode())
    data[place] = byte
    try:
        rows = read(bytes(data), tmp_path_factory.mktemp("csv"))
    except UnfitInput:
        return
    header = place < GOOD.index("\n")
    if header:
        changed = bytes(data) != GOOD.encode()
        assert (rows.table.column_names != before.table.column_names) == changed
        return
    touched = GOOD[: place + 1].count("\n") - 1 if GOOD[place] != "\n" else GOOD[:place].count("\n") - 1
    lines = {row["row"]: tuple(row.values())[1:] for row in before.table.to_pylist()}
    rest = [lines[row] for row in lines if row not in (touched, touched + 1)]
    got = [tuple(row.values())[1:] for row in rows.table.to_pylist()]
    assert all(cells in got for cells in rest)
    assert rows.table.num_rows + len(rows.refused) in (39, 40, 41)
