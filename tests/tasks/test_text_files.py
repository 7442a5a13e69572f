"""Documents in the files that users bring."""

import hashlib
import json
import sys

import pytest

from jumpsteps.core.files import write_json
from jumpsteps.tasks.text_files import Documents, read_documents

TEXTS = ["It was a fine day.", "", "He said: \u201cNo.\u201d\nShe left.", "One\u2028line"]


def contents(documents: Documents) -> list[str]:
    return [documents[i] for i in range(len(documents))]


def write_lines(path, column="text"):
    rows = [json.dumps({"id": i, column: t}, ensure_ascii=False) for i, t in enumerate(TEXTS)]
    path.write_text("\n".join([*rows, "", ""]), encoding="utf-8")


def test_a_file_is_one_document(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text(TEXTS[2], encoding="utf-8")
    documents = read_documents(file)
    assert contents(documents) == TEXTS[2:3]
    assert documents.name == f"book.txt sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    with pytest.raises(IndexError):
        documents[1]


def test_lines_of_json_are_documents(tmp_path):
    write_lines(tmp_path / "a.jsonl", "story")
    assert contents(read_documents(tmp_path / "a.jsonl", "story")) == TEXTS
    with pytest.raises(ValueError, match=r"no column 'text'; name one .* --column: id, story"):
        read_documents(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match=r"row 1 of a.jsonl .* holds int and no text; name anoth"):
        read_documents(tmp_path / "a.jsonl", "id")[1]
    (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(ValueError, match=r"line 2 of .*b.jsonl is not JSON"):
        read_documents(tmp_path / "b.jsonl")


def test_a_folder_holds_documents_in_the_order_of_their_names(tmp_path):
    write_lines(tmp_path / "b.jsonl")
    (tmp_path / "c.txt").write_text("Last.")
    (tmp_path / "a.txt").write_text("First.")
    (tmp_path / "README.md").write_text("Not a document.")
    documents = read_documents(tmp_path)
    assert contents(documents) == ["First.", *TEXTS, "Last."]
    (tmp_path / "a.txt").write_text("Other.")
    assert read_documents(tmp_path).name != documents.name


def test_paths_without_documents(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none; pass a text file"):
        read_documents(tmp_path / "none")
    with pytest.raises(ValueError, match=r"the folder .* holds no data set .*; pass a folder that"):
        read_documents(tmp_path)
    write_json(tmp_path / "dataset_dict.json", {"splits": ["train", "test"]})
    with pytest.raises(ValueError, match=r"the splits train, test; pass one of them: .*train$"):
        read_documents(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset_dict.json", {"splits": []}),
        ("dataset_dict.json", ["train"]),
        ("state.json", {"_data_files": [{}]}),
        ("state.json", {"_data_files": None}),
    ],
)
def test_damaged_data_sets(tmp_path, name, content):
    write_json(tmp_path / name, content)
    with pytest.raises(ValueError, match=r"is no data set that .* saved \(.*\); save it again"):
        read_documents(tmp_path)


def test_tables_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.parquet needs pyarrow: pip install pyarrow; or save"):
        read_documents(tmp_path / "a.parquet")


def test_parquet_and_saved_data_sets(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": [0, 1, 2, 3], "text": TEXTS})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert contents(read_documents(tmp_path / "a.parquet")) == TEXTS
    with pytest.raises(ValueError, match=r"no column 'story'; .* --column: id, text"):
        read_documents(tmp_path / "a.parquet", "story")

    folder = tmp_path / "set"
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (table[:2], table[2:]), strict=True):
        with pyarrow.ipc.new_stream(str(folder / name), table.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"}
    write_json(folder / "state.json", state)
    assert contents(read_documents(folder)) == TEXTS
    with pytest.raises(ValueError, match=r"no column 'story'; .* --column: id, text"):
        read_documents(folder, "story")
    (folder / names[1]).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=rf"{names[1]} is damaged \(.*\); save it again"):
        read_documents(folder)
