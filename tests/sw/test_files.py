"""Files replaced whole or left alone."""

import pytest

from sw.files import replace_file


@pytest.mark.parametrize("content", ["new, \u03c4", b"\x00\xff"])
def test_the_whole_file_is_replaced(tmp_path, content):
    path = tmp_path / "file"
    path.write_text("a longer text than the new one")
    replace_file(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_replaced_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "folder", "new")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
