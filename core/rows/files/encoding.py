"""Bytes to text: which encoding a file has, and the file again as UTF-8 with plain line ends."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.rows.faults import fault, shown

CHUNK = 2**20
LOOK_BYTES = 2**16
BOMS = (  # the longer ones first: the mark of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WESTERN, CENTRAL = "cp1252", "cp1250"
GUESSES = [WESTERN, CENTRAL, "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "mac_roman", "cp874"]
GUESSES += ["cp932", "euc_jp", "gb18030", "big5", "cp949"]
CENTRAL_TONGUES = {"Polish", "Czech", "Hungarian", "Slovak", "Romanian", "Croatian", "Slovene"}
NAMES = {"cp125": "Windows-125", "cp932": "Shift-JIS", "cp949": "Korean (CP949)", "koi8_r": "KOI8-R"}
FEW_BYTES, FEW_SHARE = 2, 500  # bad bytes: so few, and none in so many others, are damage; more are another encoding
KANA, KANA_SHARE = re.compile("[ぁ-んァ-ヺ]"), 0.3  # of what is not ASCII: bytes of no other encoding look like so many
TURKISH, CEDILLA, ELSEWHERE = bytes.fromhex("d0dddef0fdfe"), "çüÇÜ".encode(WESTERN), "áéíóúæÁÉÍÓÚÆ".encode(WESTERN)
ACCENTED_SHARE = 0.15  # of bytes: more is a text of other letters than Latin ones
CHOOSE = "save it as UTF-8, or name its encoding (encoding=windows-1252)"


@dataclass(frozen=True)
class Text:
    """A file as UTF-8 with \\n between its lines."""

    path: Path
    encoding: str  # that it had
    note: str | None
    nul_line: int | None  # the first line with a NUL


def decode(file: Path, work: Path, asked: str | None, max_bytes: int) -> Text:
    """Write the text of `file` to `work`; raises SpecError that names the line of a byte that is none."""
    with file.open("rb") as data:
        head = data.read(LOOK_BYTES)
    note = None
    marked = next((name for bom, name in BOMS if head.startswith(bom)), None)
    if asked is not None:
        encoding = _known(asked)
        if marked and encoding.split("-")[:2] == marked.split("-")[:2]:  # its mark is no text
            encoding = marked
    elif marked:
        encoding = marked
    elif wide := _without_mark(head):
        encoding, note = wide, f"It has no byte order mark and was read as {wide.upper()}."
    elif _is_utf8(file):
        encoding = "utf-8"
    else:
        encoding = _guess(file)
        note = (
            f"It is not UTF-8 and was read as {_name(encoding)}: look at letters with accents in the preview; if they "
            "are wrong, upload it again with the right 'encoding'."
        )
    nul_line = _convert(file, work, encoding, max_bytes)
    return Text(work, _name(encoding), note, nul_line)


def _known(asked: str) -> str:
    try:
        info = codecs.lookup(asked)
        if not info._is_text_encoding:  # rot13, zlib and the like
            raise LookupError
        return info.name
    except (LookupError, ValueError, UnicodeError):
        raise fault(
            f"there is no encoding '{shown(asked)}'; give one such as utf-8, utf-16, windows-1252, windows-1251, "
            "shift-jis, gb18030"
        ) from None


def _name(encoding: str) -> str:
    for known, name in NAMES.items():
        if encoding.startswith(known):
            return encoding.replace(known, name)
    return encoding.removesuffix("-sig").upper().replace("_", "-")


def _without_mark(head: bytes) -> str | None:
    """UTF-16 shows by NULs in every other place, since most of what a table holds is ASCII."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 < len(head) or min(even, odd) * 10 > max(even, odd):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_utf8(file: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with file.open("rb") as data:
            while chunk := data.read(CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guess(file: Path) -> str:
    """The encoding of a text that is not UTF-8; raises SpecError if it is UTF-8 that has been damaged."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    bad = good = line = size = 0
    first, samples, sampled = (0, 0), [], 0
    with file.open("rb") as data:
        for number, raw in enumerate(iter(lambda: data.readline(CHUNK), b""), 1):
            size += len(raw)
            if raw.isascii():
                continue
            text = decoder.decode(raw)
            found = re.findall("[\udc80-\udcff]", text)
            if found and not bad:
                first = (number, ord(found[0]) - 0xDC00)
            bad += len(found)
            good += sum(c > "\x7f" for c in text) - len(found)
            if found and sampled < LOOK_BYTES:
                samples.append(raw)
                sampled += len(raw)
    line, byte = first
    if good >= bad or (bad <= FEW_BYTES and bad * FEW_SHARE < size) or not bad:
        told = f"line {line:,}: the byte 0x{byte:02x} is not UTF-8" + (", as the rest of it is" if good else "")
        raise fault(f"{told}; {CHOOSE}")
    return _code_page(b"".join(samples))


def _code_page(sample: bytes) -> str:
    """What fits a sample of its lines; Windows-1252 unless something speaks against it."""
    import charset_normalizer

    if sample.count(0):
        raise fault(f"is no text (it holds bytes of zero); {CHOOSE}")
    if _is_japanese(sample):
        return "cp932"
    if _is_turkish(sample):
        return "cp1254"
    best = charset_normalizer.from_bytes(sample, cp_isolation=GUESSES).best()
    western = sample.decode(WESTERN, errors="replace")
    accented = sum(byte > 0x7F for byte in sample)
    odd = len(re.findall(r"(?<=[^\W\d_])[^\w\s\x00-\x7f‘’“”–—…«»]|[¹³²](?=[^\W\d_])", western))
    if best is None or (best.encoding == WESTERN and "�" not in western):
        return WESTERN
    if accented >= ACCENTED_SHARE * len(sample) or 10 * odd > accented or best.language in CENTRAL_TONGUES:
        return str(best.encoding)
    return WESTERN if "�" not in western else str(best.encoding)


def _is_japanese(sample: bytes) -> bool:
    """Whether it is Shift-JIS, which in short texts is easily taken for Korean."""
    try:
        text = sample.decode("cp932")
    except UnicodeDecodeError:
        return False
    return len(KANA.findall(text)) >= KANA_SHARE * sum(c > "\x7f" for c in text)


def _is_turkish(sample: bytes) -> bool:
    """Whether it is Windows-1254, where ğ, ı and ş lie as ð, ý and þ of Icelandic do, which has á, and no ç or ü."""
    accented, turkish, cedilla, elsewhere = (
        sum(byte in known for byte in sample) for known in (range(0x80, 0x100), TURKISH, CEDILLA, ELSEWHERE)
    )
    return min(turkish, cedilla) * 10 >= accented and elsewhere * 50 <= accented


def _convert(file: Path, work: Path, encoding: str, max_bytes: int) -> int | None:
    """Write it as UTF-8; returns the first line that holds a NUL."""
    lines, nul_line, size = 0, None, 0
    with file.open("r", encoding=encoding, newline=None) as text, work.open("w", encoding="utf-8", newline="\n") as out:
        try:
            while chunk := text.read(CHUNK):
                if nul_line is None and (at := chunk.find("\0")) >= 0:
                    nul_line = 1 + lines + chunk.count("\n", 0, at)
                lines += chunk.count("\n")
                out.write(chunk)
                size += len(chunk)
                if size > max_bytes:
                    raise fault(f"has more than {max_bytes:,} characters; upload a part of it")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise fault(
                f"line {_line_of(file, encoding, lines)}: the byte 0x{byte:02x} is not {_name(encoding)}; {CHOOSE}"
            ) from error
        except UnicodeEncodeError as error:  # UTF-16 and UTF-32 can spell what is no character
            line = 1 + lines + error.object.count("\n", 0, error.start)
            raise fault(f"line {line:,}: holds half of a surrogate pair; {CHOOSE}") from error
        except UnicodeError as error:
            raise fault(f"is not {_name(encoding)} ({shown(error)}); {CHOOSE}") from error
    return nul_line


def _line_of(file: Path, encoding: str, lines: int) -> str:
    """The first line that the encoding does not know."""
    with suppress(UnicodeError), file.open("r", encoding=encoding, errors="replace", newline=None) as text:
        for number, line in enumerate(iter(lambda: text.readline(CHUNK), ""), 1):
            if number > lines and "�" in line:
                return f"{number:,}"
    return f"{lines + 1:,}"
