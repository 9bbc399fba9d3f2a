"""CoNLL: words and tags, with faults by sentence and line."""

from __future__ import annotations

import pytest

from tests.rows.helpers import refused, take

TWO = [{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}, {"tokens": ["Peter"], "tags": ["B-PER"]}]


def test_four_columns_with_documents_and_comments(tmp_path):
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n# sent_id = 2\nPeter NNP B-NP B-PER\n"
    assert take(tmp_path, text, "eng.conll").rows == TWO
    assert take(tmp_path, text, "train.txt").understood.kind == "conll"


def test_tabs_and_windows_line_ends(tmp_path):
    text = "EU\tB-ORG\r\nrejects\tO\r\n\r\nPeter\tB-PER\r\n\r\nNew York\tB-LOC\r\n"
    assert take(tmp_path, text, "x.bio").rows == [*TWO, {"tokens": ["New York"], "tags": ["B-LOC"]}]


def test_a_hash_may_be_a_word(tmp_path):
    assert take(tmp_path, "# O\n1 O\n\nEU B-ORG\nno O\n", "x.iob").rows[0] == {"tokens": ["#", "1"], "tags": ["O", "O"]}


def test_words_that_begin_with_a_hash_stay(tmp_path):
    tabs = take(tmp_path, "#so\tHT\ngood\tJJ\n#fun\tHT\n\n# 2nd\n#late\tHT\n\nok\tUH\n", "x.conll")
    assert [row["tokens"] for row in tabs.rows] == [["#so", "good", "#fun"], ["#late"], ["ok"]]
    spaces = take(tmp_path, "# a comment\ngood JJ\n# SYM\n\n# comment\n#late HT\nok UH\n", "x.conll")
    assert [row["tags"] for row in spaces.rows] == [["JJ", "SYM"], ["HT", "UH"]]
    wide = take(tmp_path, "#id 1 of this file\na DT - O O\n# # $ O B-X\n\n#id 2 of this file\n# # $ O O\n", "x.conll")
    assert [row["tags"] for row in wide.rows] == [["O", "B-X"], ["O"]]


def test_white_space_may_be_a_word_or_in_one(tmp_path):
    for gap, name in (("\t", "x.conll"), (" ", "x.bio"), ("  \t ", "x.txt")):
        text = f"\u3000{gap}O\r\n1\u00a0000{gap}B-NUM\r\n \u00a0\r\nof{gap}O\r\n"
        assert take(tmp_path, text, name).columns["tokens"] == [["\u3000", "1\u00a0000"], ["of"]]


def test_a_word_without_a_tag_is_told(tmp_path):
    assert refused(tmp_path, "EU B-ORG\nno O\n\nPeter\n", "x.conll").startswith("row 2 (line 4): 1 cell")


def test_a_table_that_is_named_so_by_no_one_stays_a_table(tmp_path):
    assert take(tmp_path, "word\ttag\nEU\tB-ORG\nno\tO\n", "x.tsv").columns == {
        "word": ["EU", "no"],
        "tag": ["B-ORG", "O"],
    }
    for rows in ("a b\tO\n\nc d\tB\n\ne f\tO\n", "a b\tS\nc d\tL\n\ne f\tS\n", "a b\tO\nc d\tB\ne f\tO\n\n"):
        assert take(tmp_path, rows, "x.tsv").columns["column1"] == ["a b", "c d", "e f"]


@pytest.mark.parametrize("kind", ["", "-GENE"])
@pytest.mark.parametrize("name", ["train.tsv", "train.txt", "train.tab"])
def test_sentences_of_a_tsv_are_kept(tmp_path, kind, name):
    found = take(tmp_path, f'Of\tO\nAPC2\tB{kind}\ncoli\tI{kind}\n"\tO\n\nNo\tO\n\n', name)
    assert found.rows[0] == {"tokens": ["Of", "APC2", "coli", '"'], "tags": ["O", f"B{kind}", f"I{kind}", "O"]}
    assert found.understood.kind == "conll" and found.understood.rows == 2


def test_universal_dependencies_are_read_by_their_columns(tmp_path):
    line = "{}\t{}\tx\t{}\tX\t_\t0\troot\t_\tSpaceAfter=No\n".format
    text = "# text = O\n# text = du pain\n" + line("1-2", "du", "_") + line("1", "de", "ADP") + line("2", "le", "DET")
    text += line("3", "pain", "NOUN") + line("3.1", "mangé", "VERB") + "\n" + line("1", "Oui", "INTJ")
    found = take(tmp_path, text, "fr.conllu")
    assert found.rows == [
        {"tokens": ["de", "le", "pain"], "tags": ["ADP", "DET", "NOUN"]},
        {"tokens": ["Oui"], "tags": ["INTJ"]},
    ]
    assert "universal parts of speech (UPOS)" in found.notes


NUMBERED = "# a comment\n1\tIran\tB-LOC\t{0}\n2\tand\tO\t{0}\n\n1\tRome\tB-LOC\t{0}\n".format


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        (
            "NER-de.conll",
            NUMBERED("O"),
            "column 2 and its tags column 3 of 4; columns 3, 4 hold tags, of which the first",
        ),
        ("en.iob2", NUMBERED("-\tmayhew"), "Its words are column 2 and its tags column 3 of 5."),
        ("NER-de.txt", NUMBERED("B-PER"), "as the words are numbered"),
        ("train.bio", "B-LOC\tIran\nO\tand\n\nB-LOC\tRome\n", "words are column 2 and its tags column 1 of 2."),
        (
            "train.conll",
            "Iran\tB-NP\tB-LOC\nand\tO\tO\n\nRome\tB-NP\tB-LOC\n",
            "columns 2, 3 hold tags, of which the last",
        ),
        (
            "train.iob",
            "1\tIran\tB-LOC\n1\tand\tO\n\n1\tRome\tB-LOC\n",
            "Its words are column 1 and its tags column 3 of 3.",
        ),
        ("train.conll", "Iran\tB-LOC\nand\tO\n\nRome\tB-LOC\n", ""),
    ],
)
def test_columns_of_words_and_tags_are_found(tmp_path, name, text, note):
    found = take(tmp_path, text, name)
    assert found.columns["tags"] == [["B-LOC", "O"], ["B-LOC"]] and note in found.notes
    assert found.columns["tokens"] == ([["1", "1"], ["1"]] if name == "train.iob" else [["Iran", "and"], ["Rome"]])
    assert bool(found.notes) == bool(note)


def test_tags_of_no_entities_are_the_last_column_and_that_is_said(tmp_path):
    found = take(tmp_path, "1\tgood\tJJ\n2\tfilm\tNN\n\n1\tok\tUH\n", "x.conll")
    assert found.rows[0] == {"tokens": ["good", "film"], "tags": ["JJ", "NN"]}
    assert "tags column 3 of 3: no column holds tags of entities" in found.notes
