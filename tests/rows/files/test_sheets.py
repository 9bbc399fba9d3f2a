"""Excel workbooks, written by hand: a few lines of XML."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape

import pytest

from tests.rows.helpers import refused, take

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def cell(place: str, value: object) -> str:
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'


def sheet(rows: Sequence[Sequence[object]]) -> str:
    lines = ""
    for y, row in enumerate(rows, 1):
        cells = [cell(f"{chr(65 + x)}{y}", value) for x, value in enumerate(row) if value is not None]
        lines += f'<row r="{y}">{"".join(cells)}</row>'
    return f'<worksheet xmlns="{MAIN}"><sheetData>{lines}</sheetData></worksheet>'


def workbook(**sheets: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        named = "".join(f'<sheet name="{n}" sheetId="{i}" r:id="r{i}"/>' for i, n in enumerate(sheets, 1))
        links = "".join(
            f'<Relationship Id="r{i}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{i}.xml"/>'
            for i in range(1, len(sheets) + 1)
        )
        archive.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{named}</sheets></workbook>'
        )
        archive.writestr("[Content_Types].xml", "<Types/>")
        root = f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{PACKAGE}">{root}</Relationships>')
        archive.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{PACKAGE}">{links}</Relationships>')
        for number, text in enumerate(sheets.values(), 1):
            archive.writestr(f"xl/worksheets/sheet{number}.xml", text)
    return out.getvalue()


def test_numbers_and_empty_cells(tmp_path):
    rows = [
        ["text", "label", "score", "ok"],
        ["good, ok", 1, 1.5, True],
        [None, 0, 2, False],
        ["bad", None, None, None],
    ]
    result = take(tmp_path, workbook(Data=sheet(rows)), "x.xlsx")
    assert result.columns == {
        "text": ["good, ok", None, "bad"],
        "label": [1, 0, None],
        "score": [1.5, 2.0, None],
        "ok": [True, False, None],
    }


def test_the_first_sheet_with_cells_is_read_and_the_others_are_said(tmp_path):
    data = workbook(Cover=sheet([]), Data=sheet([["text", "label"], ["a", "b"]]), More=sheet([["x"]]))
    result = take(tmp_path, data, "x.xlsx")
    assert result.rows == [{"text": "a", "label": "b"}]
    assert "'Data' was read" in result.notes and "'More'" in result.notes


def test_an_index_goes_and_a_first_row_of_data_stays(tmp_path):
    indexed = workbook(D=sheet([[None, "text"], [0, "a"], [1, "b"]]))
    assert take(tmp_path, indexed, "x.xlsx").columns == {"text": ["a", "b"]}
    plain = take(tmp_path, workbook(D=sheet([["neg", 1], ["pos", 2], ["neg", 3]])), "x.xlsx")
    assert plain.understood.header is False and plain.understood.rows == 3 and "header=true" in plain.notes


TABLE = [["text", "label", "stars"], ["so good", "pos", 5], ["so bad", "neg", 1], ["so so", "pos", 3]]


@pytest.mark.parametrize(
    ("above", "said"),
    [
        ([["Customer survey 2024"], [None]], "'Customer survey 2024'"),
        ([["Customer survey 2024"], ["Berlin"]], "'Customer survey 2024 / Berlin'"),
        ([["Review", None, "Meta"]], "'Review Meta'"),
        ([["Customer survey 2024"], ["Review", None, "Meta"]], "'Customer survey 2024 / Review Meta'"),
    ],
)
def test_titles_above_the_table_are_skipped_and_said(tmp_path, above, said):
    result = take(tmp_path, workbook(D=sheet([*above, *TABLE])), "x.xlsx")
    assert result.rows[0] == {"text": "so good", "label": "pos", "stars": 5} and f"as a title: {said}." in result.notes


@pytest.mark.parametrize("header", [["text", "label", None], ["What do you say?", None, None], [None, "text", "label"]])
def test_a_header_that_names_not_all_columns_is_no_title(tmp_path, header):
    rows = [["so good", "pos", "yes"], ["so bad", "neg", "no"], ["so so", "pos", "yes"]]
    result = take(tmp_path, workbook(D=sheet([header, *rows])), "x.xlsx")
    assert result.understood.rows == 3 and {*filter(None, header)} < {*result.columns}
    one = take(tmp_path, workbook(D=sheet([["What do you say?"], ["So it is"], ["So be it"], ["So so"]])), "x.xlsx")
    assert one.columns == {"What do you say?": ["So it is", "So be it", "So so"]}


@pytest.mark.parametrize("place", ["XFD1048576", "A1048576"])
def test_a_cell_in_the_last_corner_is_refused_before_all_before_it_are_made(tmp_path, place):
    text = f'<worksheet xmlns="{MAIN}"><sheetData><row r="1"><c r="AZ1"><v>1</v></c></row>'
    data = workbook(D=f'{text}<row r="1048576"><c r="{place}"><v>1</v></c></row></sheetData></worksheet>')
    assert "reaches to row 1,048,576" in refused(tmp_path, data, "x.xlsx")


def test_damaged_and_empty_workbooks_are_refused(tmp_path):
    assert "not readable as an Excel workbook" in refused(tmp_path, workbook(D="<worksheet"), "x.xlsx")
    assert "without cells" in refused(tmp_path, workbook(D=sheet([])), "x.xlsx")


def test_bytes_that_were_turned_are_told(tmp_path):
    data = bytearray(workbook(D=sheet([["text", "label"], *[[f"a {number}", number] for number in range(200)]])))
    for place in range(len(data) // 2, len(data) - 400, 97):
        spoilt = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        assert "not readable" in refused(tmp_path, bytes(spoilt), "x.xlsx")
