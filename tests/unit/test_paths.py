"""Paths of parameters: what is no file or folder is refused with the parameter's name, before it is opened."""

import os
import socket
from pathlib import Path

import pytest

from irvf.paths import PathError, checked_path


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tasks.yaml").write_text("tasks: {}\n")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def refusal(text, must_be="file", **limits):
    with pytest.raises(PathError) as raised:
        checked_path(str(text), "instruction.tasks_file", must_be, **limits)
    assert str(raised.value).startswith("instruction.tasks_file")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_paths_are_resolved(tree, monkeypatch):
    wanted = tree.resolve() / "folder" / "tasks.yaml"
    monkeypatch.chdir(tree / "folder")
    monkeypatch.setenv("HOME", str(tree))
    for text in (wanted, "tasks.yaml", "../link/tasks.yaml", "~/folder/./tasks.yaml", f"{tree}/link/tasks.yaml"):
        assert checked_path(str(text), "x", "file") == wanted
    assert checked_path("..", "x", "folder") == tree.resolve()
    assert checked_path(str(tree / "new" / "engines"), "x", "new folder") == tree.resolve() / "new" / "engines"


def test_what_is_not_there_or_something_else_is_refused(tree):
    assert "there is no file" in refusal(tree / "none.yaml")
    assert "there is no folder" in refusal(tree / "none", "folder")
    assert "a folder" in refusal(tree / "folder")
    assert "is no folder" in refusal(tree / "folder" / "tasks.yaml", "folder")
    assert "is no folder" in refusal(tree / "folder" / "tasks.yaml" / "engines", "new folder")
    assert "cannot be resolved" in refusal(tree / "circle") or "no file" in refusal(tree / "circle")
    assert "at most 5" in refusal(tree / "folder" / "tasks.yaml", max_bytes=5)


def test_what_would_never_end_is_not_opened(tree):
    with socket.socket(socket.AF_UNIX) as listening:
        short = Path(os.path.relpath(tree / "s"))
        listening.bind(str(short))
        for text in (tree / "pipe", "/dev/zero", "/dev/stdin", tree / "s"):
            assert "device or pipe" in refusal(text) or "there is no file" in refusal(text)
    assert "device or pipe" in refusal(tree / "pipe")
    assert "device or pipe" in refusal("/dev/zero")


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 5000, "~no_such_user_here/x"])
def test_what_is_no_path_is_refused(text):
    refusal(text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_said(tree):
    (tree / "folder" / "tasks.yaml").chmod(0)
    assert "change its rights" in refusal(tree / "folder" / "tasks.yaml")
    (tree / "folder").chmod(0o500)
    assert "nothing can be written" in refusal(tree / "folder" / "engines", "new folder")
    (tree / "folder").chmod(0o700)
