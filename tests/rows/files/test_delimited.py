"""Text with delimiters: how it is written is found, nothing is lost in silence, and a fault is told by row and line."""

from __future__ import annotations

import pytest

from tests.rows.helpers import refused, take

ROWS = [(f"this film was {w}, number {i}", label) for i in range(20) for w, label in (("good", "pos"), ("bad", "neg"))]


def written(delimiter: str, header: str = "text{}label") -> str:
    lines = [header.format(delimiter), *(f'"{text}"{delimiter}{label}' for text, label in ROWS)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends_are_found(tmp_path, delimiter, end):
    result = take(tmp_path, written(delimiter).replace("\n", end))
    assert (result.understood.delimiter, result.understood.rows) == (delimiter, 40)
    assert result.rows[1] == {"text": ROWS[1][0], "label": "neg"}


def test_a_delimiter_that_explains_the_header_wins(tmp_path):
    result = take(tmp_path, "text;score\n" + "good, bad, ugly;1,5\n" * 30)
    assert result.rows[0] == {"text": "good, bad, ugly", "score": "1,5"}
    assert take(tmp_path, "text|label\n" + "good, bad, ugly|x\n" * 30).rows[0]["label"] == "x"


def test_a_delimiter_can_be_asked_for(tmp_path):
    assert list(take(tmp_path, "a^b\n1^2\n", delimiter="^").columns) == ["a", "b"]
    assert list(take(tmp_path, "a;b,c\n1;2,3\n", delimiter=";").columns) == ["a", "b,c"]
    assert "the header names 1 columns ('text;label')" in refused(
        tmp_path, "text;label\n" + "a, b;x\n" * 9, delimiter=","
    )
    assert "not one character" in refused(tmp_path, written(","), delimiter=",,")


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        (["good,pos"] * 9 + ["bad, film,neg"], "row 10 (line 11)", "3 cells, but the header names 2 columns"),
        (["good,pos"] * 9 + ["bad"] + ["good,pos"] * 9, "row 10 (line 11)", "1 cell, but the header names 2"),
        (["bad, film,neg"] + ["good,pos"] * 9, "row 1 (line 2)", "3 cells"),
        (['"good\nfilm",pos'] * 9 + ["bad, film,neg"], "row 10 (line 20)", "3 cells"),
        (["good,pos", "", "", "bad"], "row 2 (line 5)", "1 cell"),
        (["good,pos"] * 9 + ['"bad,neg'] + ["good,pos"], "row 10 (line 11)", "never closed"),
        (['"good",pos'] * 9 + ['"bad" film,neg'] + ['"good",pos'] * 9, "row 10 (line 11)", "closing quote"),
    ],
)
def test_a_fault_is_told_by_row_and_line(tmp_path, lines, where, what):
    message = refused(tmp_path, "\n".join(["text,label", *lines]) + "\n")
    assert message.startswith(where) and what in message


def test_lines_above_the_rows_count_as_lines(tmp_path):
    assert refused(tmp_path, 'sep=,\n"te\nxt",label\n' + "a,b\n" * 3 + "c\n").startswith("row 4 (line 7)")


def test_commas_that_are_not_quoted_are_told(tmp_path):
    lines = "".join(f"so{', so' * (i % 4)} good,pos\n" for i in range(30))
    assert "double quotes" in refused(tmp_path, "text,label\n" + lines)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("text,label,\n" + "good,pos,\n" * 9, "without name and cells"),
        ("text,label\n" + "good,pos,\n" * 9, "without name and cells"),
        ("text,label,\n" + "good,pos\n" * 9, ""),
        (",text,label\n" + "".join(f"{i * 7 % 40},good,pos\n" for i in range(40)), "index of pandas"),
        ("Unnamed: 0,text,label\n" + "".join(f"{i},good,pos\n" for i in range(9)), "index of pandas"),
        ('"text","label"\n' + "".join(f'"{i}","good","pos"\n' for i in range(1, 10)), "index of pandas"),
        ("# made by hand\n# in 2020\ntext,label\n" + "good,pos\n" * 9, "comment"),
        ("\n\n ,\ntext,label\n" + "good,pos\n" * 9, ""),
        ("Report of 2020\n\ntext,label\n" + "good,pos\n" * 9, "'Report of 2020'"),
        ("Customer survey 2024,\n,\n\ntext,label\n" + "good,pos\n" * 9, "as a title: 'Customer survey 2024,'."),
        ("All reviews;\nof 2020;\ntext;label\n" + "good;pos\n" * 9, "skipped as a title"),
        ("sep=;\ntext;label\n" + "good;pos\n" * 9, "sep=;"),
        ("text , label\n" + "good , pos\n" * 9, "Spaces between"),
        ("'text','label'\n" + "'good','pos'\n" * 9, ""),
    ],
)
def test_what_is_beside_the_table_is_left_out_and_said(tmp_path, data, said):
    result = take(tmp_path, data)
    assert list(result.columns) == ["text", "label"]
    assert result.rows[0] == {"text": "good", "label": "pos"}
    assert said in result.notes


def test_a_column_without_a_name_that_holds_more_than_numbers_is_kept(tmp_path):
    result = take(tmp_path, ",text\n" + "pos,good\nneg,bad\n" * 9)
    assert result.rows[1] == {"column1": "neg", "text": "bad"} and "'column1'" in result.notes


def test_names_that_come_twice_are_made_different(tmp_path):
    result = take(tmp_path, "text,label,label\n" + "good,pos,1\n" * 3)
    assert result.rows[0] == {"text": "good", "label": "pos", "label_2": "1"} and "'label_2'" in result.notes


def test_padding_goes_but_not_within_quotes(tmp_path):
    result = take(tmp_path, 'text, label\nneg, "a, b"\npos, " c, d"\n')
    assert result.columns == {"text": ["neg", "pos"], "label": ["a, b", " c, d"]}
    assert take(tmp_path, "text,label\nhello, neg\nbye,pos\nx,pos\n").columns["label"] == [" neg", "pos", "pos"]


@pytest.mark.parametrize(
    "lines",
    [
        [f'"{i % 4 + 1}","Wall St. {i}","Reuters - Sellers, {i}"' for i in range(20)],
        [f"A man eats food number {i}.\tA man eats {i} pizzas.\t{i / 10}" for i in range(20)],
        [f"A man is eating food number {i}.\tA man eats {i} pizzas today." for i in range(20)],
        [f"{label}\t{text}" for text, label in ROWS],
        ["ham\tok then", "spam\tbuy"] * 9,
        [f"Well, it is good{', yes' * (i % 3)}." for i in range(30)],
    ],
)
def test_a_first_row_of_data_is_a_row(tmp_path, lines):
    result = take(tmp_path, "\n".join(lines) + "\n")
    assert (result.understood.header, result.understood.rows) == (False, len(lines))
    assert next(iter(result.columns)) == "column1" and "looks like data" in result.notes


@pytest.mark.parametrize(
    "header",
    ["text,label", "How satisfied are you with the service that we gave you?,What is your answer?", "Text,score"],
)
def test_names_are_no_data(tmp_path, header):
    result = take(tmp_path, header + "\n" + "very,1\nnot,0\n" * 9)
    assert result.understood.header and result.understood.rows == 18 and not result.notes


def test_what_is_said_of_the_header_goes(tmp_path):
    assert take(tmp_path, "neg,1\npos,2\nneg,3\n", header=True).columns == {"neg": ["pos", "neg"], "1": ["2", "3"]}
    assert take(tmp_path, "text,label\na,b\n", header=False).columns == {
        "column1": ["text", "a"],
        "column2": ["label", "b"],
    }


def test_one_column_is_read_and_delimiters_in_it_are_said(tmp_path):
    plain = take(tmp_path, "text\ngood\n\nbad\n", "x.txt")
    assert plain.columns == {"text": ["good", "bad"]} and plain.understood.delimiter is None
    prose = take(tmp_path, "text\n" + "".join(f"Well, it is good{', yes' * (i % 3)}.\n" for i in range(30)))
    assert len(prose.columns["text"]) == 30 and "hold a comma" in prose.notes


def test_quotes_in_tab_separated_text(tmp_path):
    assert take(tmp_path, 'text\tlabel\n"he\tsaid ""x"""\tneg\n').rows == [{"text": 'he\tsaid "x"', "label": "neg"}]
    late = take(tmp_path, "text\tlabel\n" + "he said\tneg\n" * 3000 + '"so good\tpos\n' + "x\tneg\n" * 30)
    assert late.understood.rows == 3031 and late.rows[3000] == {"text": '"so good', "label": "pos"}
    assert "do not go in pairs" in late.notes


@pytest.mark.parametrize("sign", [",", "\t"])
def test_a_quote_behind_a_space_opens_no_cell(tmp_path, sign):
    rows = [("first", "a"), (' "Hello there', "a"), ("middle row", "b"), ('he said bye"', "c")]
    lines = [("text", "label"), *rows, ('"and so"', "b")]
    result = take(tmp_path, "".join(sign.join(line) + "\n" for line in lines))
    assert [tuple(row.values()) for row in result.rows] == [*rows, ("and so", "b")]
    said = take(tmp_path, f'text{sign}label\nfirst{sign}a\n "Hello" she said{sign}b\n"x{sign}y"{sign}b\n')
    assert said.columns["text"] == ["first", ' "Hello" she said', f"x{sign}y"]


def test_a_quote_behind_a_space_opens_a_cell_that_it_closes(tmp_path):
    assert take(tmp_path, 'text,label\na,b\nc, "d"\ne, "f, g"\n').columns["label"] == ["b", "d", "f, g"]


def test_quotes_around_whole_rows_of_tab_separated_text_are_signs(tmp_path):
    rows = [("so", "pos"), ('"I came.', "neutral"), ("I saw.", "neutral"), ('I won."', "pos"), ("no", "neg")]
    said = take(tmp_path, "".join("\t".join(line) + "\n" for line in [("text", "label"), *rows]))
    assert [tuple(row.values()) for row in said.rows] == rows and "around whole rows" in said.notes
    kept = take(tmp_path, 'text\tlabel\nso\tpos\n"one\ntwo"\tneg\n"I came.\tneutral\nI won."\tpos\n')
    assert kept.columns["text"] == ["so", "one\ntwo", "I came.\tneutral\nI won."]
    as_a_rule = take(tmp_path, '"text"\t"label"\n' + '"good"\t"pos"\n' * 9 + '"a\tb\nc"\t"neg"\n')
    assert as_a_rule.rows[-1] == {"text": "a\tb\nc", "label": "neg"}


def test_backslashes_that_escape_nothing_stay(tmp_path):
    escaped = take(tmp_path, "text,label\n" + '"he said \\"x, y\\" ok",neg\n"path C:\\\\dir\\new",pos\n' * 5)
    assert escaped.columns["text"][:2] == ['he said "x, y" ok', "path C:\\dir\\new"]
    assert take(tmp_path, 'text,label\n"C:\\",neg\n"b",pos\n').columns["text"] == ["C:\\", "b"]


def test_backslashes_stay_where_quotes_are_signs(tmp_path):
    lines = ['"he said \\"x\\" ok"'] * 3000 + ['"so good', "C:\\dir"]
    result = take(tmp_path, "text\tlabel\n" + "".join(f"{line}\tpos\n" for line in lines))
    assert result.columns["text"] == lines and "do not go in pairs" in result.notes


def test_cells_are_texts_as_they_are_written(tmp_path):
    result = take(tmp_path, 'id,label,x\n007,1.0,""\n08,TRUE,\n9,nan,NULL\n')
    assert result.columns == {"id": ["007", "08", "9"], "label": ["1.0", "TRUE", "nan"], "x": ["", "", "NULL"]}
    assert result.empty == {"id": 0, "label": 0, "x": 2}


def test_files_without_rows_are_refused(tmp_path):
    assert refused(tmp_path, "") == "is empty" == refused(tmp_path, "\n \n")
    assert "has no rows" in refused(tmp_path, "text,label\n")
    assert take(tmp_path, "text,label\na,b").rows == [{"text": "a", "label": "b"}]


def test_a_header_in_the_middle_is_no_row(tmp_path):
    rows = "good,pos\nbad,neg\n" * 30
    result = take(tmp_path, f"text,label\n{rows}text,label\n{rows}")
    assert result.values["label"] == {"pos": 60, "neg": 60} and "repeat the names" in result.notes


def test_ends_of_lines_within_texts_are_none_of_the_table(tmp_path):
    text = "a\u2028b\x85c\x0cd"
    assert take(tmp_path, f"text,label\n{text},pos\n").rows == [{"text": text, "label": "pos"}]
    assert refused(tmp_path, f'"te\u2028xt",label\n{text},pos\nx\n').startswith("row 2 (line 3)")


def test_what_comes_before_the_table_costs_little(tmp_path):
    assert take(tmp_path, "#\n" * 100_000 + "a,b\n1,2\n").rows == [{"a": "1", "b": "2"}]


def test_several_files_are_one_table(tmp_path):
    result = take(tmp_path, ["text,label\na,1\n", "label,text\n2,b\n", "text,more\nc,z\n"])
    assert result.columns == {"text": ["a", "b", "c"], "label": ["1", "2", None], "more": [None, None, "z"]}
    assert "file 2 of 2: row 2 (line 3)" in refused(tmp_path, ["text,label\na,1\n", "text,label\n2,b\nc\n"])
    assert "several kinds" in refused(tmp_path, ["text,label\na,1\n", '{"text": "a"}\n'])
