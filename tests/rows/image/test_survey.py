"""Pictures through the same splits as texts: honest, checked, and talked of in their own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.rows.columns import Column
from core.rows.files.read import Asked, read
from core.rows.image.picture import Picture
from core.rows.splitting.splits import prepare
from core.rows.survey import survey
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from tests.rows.helpers import LIMITS
from tests.rows.image.made import drawn, folders, hub_table, saved, zipped
from tests.tables import columns

A, B, C = ("ds_" + digit * 32 for digit in "abc")


def spec_of(task: dict[str, Any] | None = None, **parts: Any) -> JobSpec:
    """A job on data set A."""
    given = {"type": "image-classification", "data": {"dataset": A}} | (task or {})
    return JobSpec.model_validate({"model": "m", "task": given, "budget": {"params": 0.5}, **parts})


def picture(number: int) -> Picture:
    """One of its own look for each number."""
    return Picture(f"{number:032x}", f"{number}.png", 8, 8, Path("table.parquet"), "image", number)


def pictures(*numbers: int | None) -> Column:
    """A column of these."""
    return Column([None if number is None else picture(number) for number in numbers], pictures=True)


def stored(folder: Path, data: bytes, name: str = "table") -> Path:
    """The stored table of an upload."""
    upload = folder / "upload"
    upload.write_bytes(data)
    read([upload], "pets.zip", folder / name, LIMITS, Asked())
    return folder / name


def faults(spec: JobSpec, tables: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as refused:
        prepare(spec, tables)
    return {one.field: one.message for one in refused.value.faults}


def test_a_zip_is_surveyed_as_it_would_be_learned_from(tmp_path: Path) -> None:
    files = folders({"cat": 30, "dog": 30})
    again = {
        "dog/again.png": files["dog/0.png"],
        "dog/bmp.bmp": saved(drawn(31), "BMP"),
        "cat/other.png": files["dog/2.png"],
    }
    table = stored(tmp_path, zipped(files | again))
    found = survey(spec_of(), {A: table}, 128)
    assert found.labels == ["cat", "dog"] and found.train + found.dev + found.test == 60 and found.tokens == 1
    assert found.dropped == {
        "duplicate rows in the target": 2,
        "rows of the target that repeat a picture with another label": 1,
    }
    assert any(
        "1 rows of the target that repeat a picture with another label: of each picture" in d for d in found.doubts
    )
    assert "2 classes in 60 rows: 'cat' (30), 'dog' (30)" in found.notes


def test_no_look_is_in_two_parts_and_rows_hold_no_bytes(tmp_path: Path) -> None:
    table = stored(tmp_path, zipped(folders({"cat": 20, "dog": 20})))
    from core.rows.table import read_tables

    spec = spec_of()
    splits = prepare(spec, read_tables(spec, {A: table}))
    keys = [row.key for part in (splits.train, splits.dev, splits.test) for row in part]
    assert len({*keys}) == len(keys) == 40
    (first,) = splits.train[0].text
    assert isinstance(first, Picture) and first.file == table and first.name.startswith(("cat/", "dog/"))


def test_names_of_classes_of_the_hub(tmp_path: Path) -> None:
    data = hub_table({f"{i}.png": saved(drawn(i)) for i in range(40)}, [i % 2 for i in range(40)], ["cat", "dog"])
    assert survey(spec_of(), {A: stored(tmp_path, data)}, 128).labels == ["cat", "dog"]


def test_several_labels(tmp_path: Path) -> None:
    lines = [f"{i}.png,{i % 2},{int(i % 3 == 0)}" for i in range(40)]
    files: dict[str, Any] = {f"{i}.png": saved(drawn(i)) for i in range(40)}
    files["metadata.csv"] = "\n".join(["file_name,furry,loud", *lines])
    table = stored(tmp_path, zipped(files))
    found = survey(spec_of({"label": ["furry", "loud"]}), {A: table}, 128)
    assert found.labels == ["furry", "loud"] and found.train == 24


def test_sources_with_and_without_labels_repeat_no_target_row() -> None:
    tables = {
        A: columns(image=pictures(*range(40)), label=["a", "b"] * 20),
        B: columns(image=pictures(*range(30, 60)), label=["a", "b"] * 15),
        C: columns(photo=pictures(None, *range(50, 90))),
    }
    sources = [{"data": {"dataset": B}}, {"data": {"dataset": C}, "image": "photo"}]
    splits = prepare(spec_of(sources=sources, transfer={"coupling": "teacher"}), tables)
    assert [len(rows) for rows in splits.sources] == [20, 30]
    assert splits.dropped["rows without picture"] == 1
    assert splits.dropped["source rows that repeat a target row or an earlier source row"] == 20
    assert any("sources[0] names no 'label', so that its picture alone is used" in word for word in splits.warnings)


def test_a_class_of_one_trains_and_is_told() -> None:
    table = columns(image=pictures(*range(41)), label=["a", "b"] * 20 + ["rare"])
    splits = prepare(spec_of(), {A: table})
    assert "rare" in {row.label for row in splits.train}
    from core.rows.data_warnings import doubts

    assert any("1 of 3 labels have fewer than 5 rows ('rare' (1))" in word for word in doubts(spec_of().task, splits))


def test_one_class_only_is_refused() -> None:
    found = faults(spec_of(), {A: columns(image=pictures(*range(40)), label=["a"] * 40)})
    assert "has one class only ('a')" in found["/task/label"]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["https://example.org/1.png"] * 40, "holds addresses ('https://example.org/1.png') and no pictures"),
        (["images/1.png"] * 40, "holds texts ('images/1.png') and no pictures; if these are names of files"),
        ([1] * 40, "holds no pictures ('1')"),
        ([None] * 40, "holds no pictures"),
    ],
)
@pytest.mark.field("1. Data at the door", "a table of addresses of pictures", "a 422 that says what to upload instead")
def test_what_only_names_pictures_is_refused_with_the_mend(cells: list[Any], says: str) -> None:
    tables = {A: columns(image=Column(cells), label=["a", "b"] * 20)}
    found = faults(spec_of(), tables)
    assert says in found["/task/image"] and "a zip with a folder for each class" in found["/task/image"]
    good = columns(image=pictures(*range(40)), label=["a", "b"] * 20)
    sources = [{"data": {"dataset": B}}]
    found = faults(spec_of(sources=sources, transfer={"coupling": "teacher"}), {A: good, B: tables[A]})
    assert [*found] == ["/sources/0/image"]


def test_a_column_that_is_missing_and_pictures_as_texts() -> None:
    table = columns(photo=pictures(*range(40)), label=["a", "b"] * 20)
    assert "has no column 'image'; its columns: photo, label" in faults(spec_of(), {A: table})["/task/image"]
    texts = JobSpec.model_validate(
        {"model": "m", "task": {"data": {"dataset": A}, "text": ["photo"]}, "budget": {"params": 0.5}}
    )
    assert '"image": "photo"' in faults(texts, {A: table})["/task/text/0"]
    labelled = spec_of({"label": "photo"})
    assert (
        "holds pictures"
        in faults(labelled, {A: columns(image=pictures(*range(40)), photo=table["photo"])})["/task/label"]
    )
