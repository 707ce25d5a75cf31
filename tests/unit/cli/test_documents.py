"""What `hotpath publish` makes of its input: documents with their places, or where the fault is."""

import os
import threading

import pytest

from hotpath.cli import documents, lines
from hotpath.cli.documents import BadInput, read_documents
from hotpath.cli.lines import LineTooLong, read_lines


async def read(tmp_path, content):
    path = tmp_path / "input"
    path.write_bytes(content)
    found = []
    with path.open("rb") as file:
        try:
            async for number, value, _ in read_documents(file.fileno()):
                found.append((number, value))
        except BadInput as error:
            return found, str(error)
    return found, None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b" \n\n ", [], id="blank"),
        pytest.param(b'{"a": 1}', [(1, {"a": 1})], id="one object"),
        pytest.param(b'{\n  "a":\n  1\n}\n', [(1, {"a": 1})], id="object over lines"),
        pytest.param(b'{"a": 1}\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})], id="ndjson"),
        pytest.param(b'\n\n{"a": 1}\r\n\n{"a": 2}\n', [(3, {"a": 1}), (5, {"a": 2})], id="blanks"),
        pytest.param(b'[{"a": 1}, {"a": 2}]', [(1, {"a": 1}), (2, {"a": 2})], id="array"),
        pytest.param(b'[\n{"a": 1},\n{"a": 2}\n]', [(1, {"a": 1}), (2, {"a": 2})], id="long array"),
        pytest.param(b"[]", [], id="empty array"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})], id="bom"),
        pytest.param(b'\xef\xbb\xbf[{"a": 1}]', [(1, {"a": 1})], id="bom before an array"),
    ],
)
async def test_documents_with_their_places(tmp_path, content, expected):
    assert await read(tmp_path, content) == (expected, None)


@pytest.mark.parametrize(
    ("content", "before", "complaint"),
    [
        pytest.param(b'{"a": 1}\n{"a": }\n', 1, "line 2: no JSON", id="bad line"),
        pytest.param(b'{"a": 1}\n\n\n[1]\n', 1, "line 4: a message is a JSON object", id="array"),
        pytest.param(b'{"a": 1}\n{"a": 2', 1, "line 2: no JSON", id="cut line"),
        pytest.param(b"hello", 0, "line 1: no JSON", id="text"),
        pytest.param(b'{"a": oops}\n', 0, "line 1: no JSON", id="bad first line"),
        pytest.param(b'{\n"a": 1,\n"b": oops\n}', 0, "line 3: no JSON", id="bad object"),
        pytest.param(b'\n{\n\n"b": oops\n}', 0, "line 4: no JSON", id="blank lines count"),
        pytest.param(b'[{"a": 1}, 7]', 1, "element 2 of the array is no object", id="element"),
        pytest.param(b'[{"a": 1},', 0, "line 1: no JSON", id="cut array"),
        pytest.param(b'{"a": "\xff"}\n', 0, "line 1: no JSON: the text is not UTF-8", id="utf-8"),
    ],
)
async def test_fault_is_named_with_its_place(tmp_path, content, before, complaint):
    found, said = await read(tmp_path, content)

    assert len(found) == before
    assert said.startswith(complaint)


async def test_document_of_a_line_keeps_its_text(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b'  {"a":   1}  \n')
    with path.open("rb") as file:
        (document,) = [each async for each in read_documents(file.fileno())]

    assert document.text == b'{"a":   1}'


async def test_lines_of_a_live_pipe_are_given_before_its_end():
    reading, writing = os.pipe()
    go_on = threading.Event()

    def write():
        os.write(writing, b'{"n": 1}\n{"n"')
        go_on.wait(10)
        os.write(writing, b": 2}\n")
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    numbers = []
    async for document in read_documents(reading):
        numbers.append(document.value["n"])
        go_on.set()
    thread.join()
    os.close(reading)

    assert numbers == [1, 2]


async def test_directory_cannot_be_read(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(BadInput, match="cannot read on: Is a directory"):
            _ = [each async for each in read_documents(descriptor)]
    finally:
        os.close(descriptor)


async def chunked(*chunks):
    for chunk in chunks:
        yield chunk


async def test_line_may_come_in_any_pieces():
    pieces = [b"a", b"b\nc", b"\n", b"\n\nd\ne", b"f"]

    found = [each async for each in read_lines(chunked(*pieces))]

    assert found == [(1, b"ab"), (2, b"c"), (5, b"d"), (6, b"ef")]


async def test_line_without_an_end_is_bounded(monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 10)

    with pytest.raises(LineTooLong, match="line 2 is over 10 bytes"):
        _ = [each async for each in read_lines(chunked(b"a\n", b"b" * 6, b"b" * 6))]


async def test_whole_value_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(documents, "WHOLE_BYTES_MAX", 10)

    assert "use NDJSON" in (await read(tmp_path, b'[\n{"a": 1},\n{"a": 2}\n]'))[1]
