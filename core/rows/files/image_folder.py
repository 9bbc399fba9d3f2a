"""A zip of pictures becomes a table: a folder for each class, or a table beside them that names the pictures.

As the `imagefolder` of Hugging Face's `datasets` has it. Entries are read one after the other, and never written under
the names that they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from core.rows.faults import fault, listed, shown
from core.rows.files.archive import Packed
from core.rows.files.gather import GROUP_BYTES, Cells, Gathered
from core.rows.files.image_metadata import FILE_NAME, Describe, read_table
from core.rows.files.unpack import DATA
from core.rows.image.decode import format_of

IMAGE, LABEL, SPLIT = "image", "label", "split"
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"}
SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
MAX_TABLES = 10
BATCH_PICTURES = 256
FEW = 10  # pictures beside another table, which is then what is meant


def is_folder(file: Path) -> bool:
    """Whether a zip is one of pictures, and not of a table (or a workbook) with some pictures in it."""
    with Packed(file) as packed:
        names = [*packed.names()]
    pictures = sum(format_of(name) is not None for name in names)
    if not pictures or {"xl/workbook.xml", "word/document.xml", "ppt/presentation.xml", "content.xml"} & {*names}:
        return False
    tables = [name for name in names if _is_table(name)]
    return not tables or any(PurePosixPath(name).name in TABLES for name in tables) or pictures > FEW


def read(file: Path, gathered: Gathered, work: Path, describe: Describe) -> None:
    """Read a zip of pictures into the columns `image` and, by their folders, `label`; or those of its table."""
    with Packed(file) as packed:
        packed.check(gathered.limits.max_bytes)
        if packed.encoding and packed.encoding != "utf-8":
            gathered.note(
                f"The names in it are not UTF-8 and were read as {packed.encoding.upper()}: if they are wrong, pack "
                "it again with names in UTF-8."
            )
        names = [*packed.names()]
        pictures = [name for name in names if format_of(name) is not None]
        tables = sorted(name for name in names if PurePosixPath(name).name in TABLES)
        _say_others(sorted({*names} - {*pictures, *tables}), gathered)
        if tables:
            _read_described(packed, pictures, tables, gathered, work, describe)
        else:
            _read_folders(packed, pictures, gathered)


# --- by folders ---------------------------------------------------------------------------------------------


def _read_folders(packed: Packed, pictures: Sequence[str], gathered: Gathered) -> None:
    splits = _splits(pictures)
    labels = _labels(pictures, splits, gathered)
    full = {str(parent) for name in pictures for parent in PurePosixPath(name).parents}
    if empty := sorted({*packed.folders()} - full):
        gathered.note(f"No pictures are in {'folders' if empty[1:] else 'the folder'} {listed(empty)}.")
    number = 1
    for chunk in _looked_at(packed, pictures, gathered):
        columns: dict[str, Cells] = {IMAGE: ("picture", gathered.gallery(IMAGE).taken())}
        if labels:
            columns[LABEL] = _texts([labels[name] for name in chunk])
        if splits:
            columns[SPLIT] = _texts([splits[name] for name in chunk])
        gathered.add(columns, len(chunk), number)
        number += len(chunk)


def _splits(pictures: Sequence[str]) -> dict[str, str]:
    """Of each picture its split, where the topmost folders are all named as splits are; else nothing."""
    depth = _shared(pictures)
    parts = {name: PurePosixPath(name).parts[depth:] for name in pictures}
    if not all(len(part) > 1 and part[0].lower() in SPLITS for part in parts.values()):
        return {}
    return {name: SPLITS[part[0].lower()] for name, part in parts.items()}


def _shared(pictures: Sequence[str]) -> int:
    """How many folders all of them lie in, up to one that is named as a split is."""
    parents = [PurePosixPath(name).parts[:-1] for name in pictures]
    depth = 0
    while all(parent[depth:] and parent[depth] == parents[0][depth] for parent in parents):
        if parents[0][depth].lower() in SPLITS:
            break
        depth += 1
    return depth


def _labels(pictures: Sequence[str], splits: dict[str, str], gathered: Gathered) -> dict[str, str | None]:
    """Of each picture the folder that it lies in; nothing where there is one alone."""
    depth = _shared(pictures) + bool(splits)
    inside = {name: PurePosixPath(name).parts[depth:-1] for name in pictures}
    classes = {folders for folders in inside.values() if folders}
    if not classes:
        gathered.note(
            "All pictures lie in one folder, so that nothing says their classes: give each class a folder, or put a "
            f"metadata.csv with '{FILE_NAME}' and 'label' beside them, unless they are to be used without."
        )
        return {}
    for folders in sorted(classes):
        if any(folders[:upto] in classes for upto in range(1, len(folders))):
            raise fault(
                f"has pictures both in a folder and in one inside it ('{shown('/'.join(folders))}'), so that it is not "
                f"clear which is the class: give each class one folder, or a metadata.csv with '{FILE_NAME}' and "
                "'label'"
            )
    if any(len(folders) > 1 for folders in classes):
        last = sorted({folders[-1] for folders in classes})
        gathered.note(f"Folders lie in folders: the innermost is taken as the class ({listed(last)}).")
    if loose := [name for name, folders in inside.items() if not folders]:
        gathered.note(f"Pictures that lie in no folder have no label: {len(loose):,} ({listed(loose)}).")
    return {name: folders[-1] if folders else None for name, folders in inside.items()}


# --- by a table ---------------------------------------------------------------------------------------------


def _read_described(
    packed: Packed,
    pictures: Sequence[str],
    tables: Sequence[str],
    gathered: Gathered,
    work: Path,
    describe: Describe,
) -> None:
    if len(tables) > MAX_TABLES:
        raise fault(f"has {len(tables)} tables that name pictures ({listed(list(tables))}); put them in one")
    known = {*pictures}
    described = [read_table(packed, name, gathered, work, describe) for name in tables]
    files = [table.files(known) for table in described]
    named = {name for some in files for name in some}
    splits = {} if any(SPLIT in table.table.schema.names for table in described) else _splits([*named])
    for table, names in zip(described, files, strict=True):
        first = 0
        for chunk in _looked_at(packed, names, gathered):
            columns: dict[str, Cells] = {IMAGE: ("picture", gathered.gallery(IMAGE).taken())}
            columns |= table.cells(first, len(chunk), besides=IMAGE)
            if splits:
                columns[SPLIT] = _texts([splits[name] for name in chunk])
            gathered.add(columns, len(chunk), first + 1)
            first += len(chunk)
    if left := sorted(known - named):
        gathered.note(f"Pictures that no row names are left out: {len(left):,} ({listed(left)}).")


# --- both ---------------------------------------------------------------------------------------------------


def _looked_at(packed: Packed, names: Sequence[str], gathered: Gathered) -> Iterator[Sequence[str]]:
    """Look at pictures, some at a time, and give their names once they wait in the gallery."""
    gallery, first = gathered.gallery(IMAGE), 0
    for at, name in enumerate(names):
        gallery.add(packed.picture(name), name, f"'{shown(name)}'")
        if gallery.waiting_bytes >= GROUP_BYTES or at + 1 - first >= BATCH_PICTURES or at + 1 == len(names):
            yield names[first : at + 1]
            first = at + 1


def _say_others(names: list[str], gathered: Gathered) -> None:
    if archives := [name for name in names if name.lower().endswith(ARCHIVES)]:
        raise fault(
            f"has archives beside its pictures ({listed(archives)}); unpack them, and pack all folders as one zip"
        )
    if tables := [name for name in names if _is_table(name)]:
        gathered.note(
            f"Tables beside the pictures are left out ({listed(tables)}): name one metadata.csv, with a column "
            f"'{FILE_NAME}', for its columns to be read."
        )
    if others := [name for name in names if name not in tables]:
        ends = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in others)
        said = ", ".join(f"{count:,} of {shown(end)}" for end, count in ends.most_common(5))
        gathered.note(f"Files that are no pictures by their names are left out: {said} ({listed(others, 3)}).")


def _is_table(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(DATA)


def _texts(values: Sequence[str | None]) -> Cells:
    import pyarrow as pa

    none = all(value is None for value in values)
    return ("null", pa.nulls(len(values))) if none else ("text", pa.array(values, pa.string()))
