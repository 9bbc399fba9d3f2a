"""Which encoding a text has: said by its first bytes, or guessed and told; damage is told by line."""

from __future__ import annotations

import pytest

from tests.rows.helpers import refused, take

GERMAN = "Das Wetter ist schön heute, und die Straße ist naß"
RUSSIAN = "Сегодня хорошая погода, и все очень счастливы"


def table(text: str) -> str:
    return "text,label\n" + "".join(f'"{text} {i}",{"neg" if i % 2 else "pos"}\n' for i in range(40))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8"),
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("windows-1252", "Windows-1252"),
        ("latin-1", "Windows-1252"),
    ],
)
def test_western_text(tmp_path, encoding, said):
    result = take(tmp_path, table(GERMAN).encode(encoding))
    assert result.rows[0] == {"text": f"{GERMAN} 0", "label": "pos"} and result.understood.encoding == said
    assert ("was read as" in result.notes) == (encoding not in ("utf-8", "utf-8-sig", "utf-16", "utf-32"))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "windows-1251"),
        (RUSSIAN, "koi8-r"),
        ("Zażółć gęślą jaźń, dzisiaj jest ładna pogoda i wszyscy są szczęśliwi", "windows-1250"),
        ("Σήμερα ο καιρός είναι πολύ καλός", "windows-1253"),
        ("今日は天気がとても良いです。映画は素晴らしかった。", "shift-jis"),
        ("もう買わない、すぐ壊れた", "shift-jis"),
        ("Çok güzel bir ürün, beğendim ama kargo hasarlı geldi", "windows-1254"),
        ("Maturinn var kaldur en þjónustan góð", "windows-1252"),
        ("อาหารอร่อยมาก บรรยากาศดี", "cp874"),
        ("今天天气很好，大家都很高兴。这部电影非常精彩。", "gb18030"),
        ("오늘은 날씨가 아주 좋습니다. 영화가 정말 훌륭했다.", "cp949"),
    ],
)
def test_other_letters_are_guessed_and_told(tmp_path, text, encoding):
    result = take(tmp_path, table(text).encode(encoding))
    assert result.rows[0]["text"] == f"{text} 0" and "'encoding'" in result.notes


def test_an_encoding_can_be_asked_for(tmp_path):
    result = take(tmp_path, table("ağaç ışık").encode("windows-1254"), encoding="windows-1254")
    assert result.rows[0]["text"] == "ağaç ışık 0" and not result.notes
    assert "there is no encoding 'utf-nine'" in refused(tmp_path, "a,b\n", encoding="utf-nine")
    assert "there is no encoding 'rot13'" in refused(tmp_path, "a,b\n", encoding="rot13")
    assert "line 2: the byte 0x" in refused(tmp_path, table(GERMAN).encode("latin-1"), encoding="utf-8")


@pytest.mark.parametrize("asked", ["utf-32", "idna", "punycode", "undefined", "utf-7"])
def test_what_no_other_encoding_can_read_is_refused_in_words(tmp_path, asked):
    assert f"is not {asked.upper()}" in refused(tmp_path, table(GERMAN), encoding=asked)


@pytest.mark.parametrize("spoilt", [b"\xe9", b"\xff\xfe", b"\xc3"])
def test_damage_is_told_by_line(tmp_path, spoilt):
    for text in (GERMAN, "plain words without any accents at all"):
        lines = table(text).encode().split(b"\n")
        lines[30] = b'"bad ' + spoilt + b' byte",pos'
        assert refused(tmp_path, b"\n".join(lines)).startswith(f"line 31: the byte 0x{spoilt[0]:02x} is not UTF-8")


def test_nul_is_told_by_row_and_line(tmp_path):
    assert refused(tmp_path, 'text,label\n"a\nb",c\n"d\ne\0",f\n').startswith("row 2 (line 5): holds a NUL")
    assert refused(tmp_path, "te\0xt,label\na,b\n").startswith("line 1: holds a NUL")
    assert refused(tmp_path, '{"a": "b"}\n\n{"a": "c\\u0000"}\n', "x.jsonl").startswith("row 2 (line 3), column 'a'")


def test_bytes_are_no_text(tmp_path):
    assert "no text" in refused(tmp_path, bytes(range(256)) * 20)


@pytest.mark.parametrize(
    ("written", "asked"),
    [("utf-8-sig", "utf-8"), ("utf-16", "utf-16-le"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16")],
)
def test_a_mark_is_no_text_where_the_encoding_is_asked_for_either(tmp_path, written, asked):
    result = take(tmp_path, table(GERMAN).encode(written), encoding=asked)
    assert [*result.rows[0]] == ["text", "label"]
