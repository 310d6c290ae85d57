"""The cache of built engines: what makes another engine, what is believed of a file, and two that write at once."""

import errno
import hashlib
import logging
import multiprocessing
import os
import stat
from dataclasses import fields, replace
from pathlib import Path

import pytest

from irvf.engines.engine_cache import EngineCache, EngineIdentity, default_cache_folder

IDENTITY = EngineIdentity("a1b2", "10.3.0", "Orin, compute capability 8.7", "strongly typed", "minimum 64 x 64")
CONTENT = bytes(range(256)) * 40 + b"\n{}\n"


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_what_was_stored_comes_back(cache, caplog):
    assert cache.load("irvf-fusion", IDENTITY) is None
    path = cache.store("irvf-fusion", IDENTITY, CONTENT)
    assert path == cache.path("irvf-fusion", IDENTITY)
    assert EngineCache(cache.folder).load("irvf-fusion", IDENTITY) == CONTENT
    assert list(cache.folder.iterdir()) == [path]
    assert warnings(caplog) == []


def test_any_name_gives_a_file_of_the_folder(cache):
    path = cache.store("../../etc/a network\n", IDENTITY, CONTENT)
    assert path.parent == cache.folder
    assert cache.load("../../etc/a network\n", IDENTITY) == CONTENT


@pytest.mark.parametrize("name", [field.name for field in fields(EngineIdentity)])
def test_whatever_an_engine_depends_on_makes_another_one(cache, name):
    other = replace(IDENTITY, **{name: getattr(IDENTITY, name) + "1"})
    assert other.key != IDENTITY.key
    cache.store("net", IDENTITY, CONTENT)
    assert cache.load("net", other) is None
    cache.store("net", other, b"other")
    assert cache.load("net", IDENTITY) == CONTENT


def test_a_value_cannot_pass_for_another_field():
    assert replace(IDENTITY, gpu="x", precision="yz").key != replace(IDENTITY, gpu="xy", precision="z").key


def test_a_file_of_another_engine_under_this_ones_name_is_not_taken(cache, caplog):
    other = replace(IDENTITY, tensorrt="11.4.0")
    cache.store("net", other, CONTENT).rename(cache.path("net", IDENTITY))
    assert cache.load("net", IDENTITY) is None
    assert "something else" in "".join(warnings(caplog))


def _damages():
    yield "empty", lambda _: b""
    yield "header alone", lambda file: file[: file.index(b"\n") + 1]
    yield "header cut", lambda file: file[:50]
    yield "content cut", lambda file: file[:-1]
    yield "content longer", lambda file: file + b"\0"
    yield "bit", lambda file: file[:-9] + bytes([file[-9] ^ 4]) + file[-8:]
    yield "binary", lambda _: bytes(range(255, -1, -1)) * 300
    yield "one endless line", lambda _: b"{" * 200_000
    yield "another JSON", lambda file: b"[1, 2]\n" + file
    yield "nested too deep", lambda file: b"[" * 60_000 + b"\n" + file
    yield "another format", lambda file: file.replace(b"irvf engine cache 1", b"irvf engine cache 9")


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in _damages()])
def test_a_damaged_file_is_not_taken_and_can_be_replaced(cache, caplog, damage):
    path = cache.store("net", IDENTITY, CONTENT)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load("net", IDENTITY) is None
    assert [text for text in warnings(caplog) if str(path) in text]
    cache.store("net", IDENTITY, CONTENT)
    assert cache.load("net", IDENTITY) == CONTENT


def test_a_folder_in_the_place_of_the_file_is_a_warning(cache, caplog):
    cache.path("net", IDENTITY).mkdir(parents=True)
    assert cache.load("net", IDENTITY) is None
    assert cache.store("net", IDENTITY, CONTENT) is None
    assert len(warnings(caplog)) == 2
    assert not [path for path in cache.folder.iterdir() if path.is_file()]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(cache, caplog, monkeypatch, code):
    cache.store("net", IDENTITY, b"old")

    def fail(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    assert cache.store("net", IDENTITY, CONTENT) is None
    said = "".join(warnings(caplog))
    assert os.strerror(code) in said
    assert "IRVF_ENGINE_CACHE" in said
    assert list(cache.folder.iterdir()) == [cache.path("net", IDENTITY)]
    assert cache.load("net", IDENTITY) == b"old"


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = EngineCache(tmp_path / "file" / "engines")
    assert cache.store("net", IDENTITY, CONTENT) is None
    assert cache.load("net", IDENTITY) is None
    assert warnings(caplog)


def test_another_user_may_read_what_was_built_offline(cache):
    mode = cache.store("net", IDENTITY, CONTENT).stat().st_mode
    assert stat.S_IMODE(mode) == 0o644


def test_the_folder_is_the_named_one_else_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IRVF_ENGINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    home = tmp_path / ".cache" / "irvf" / "engines"
    assert EngineCache().folder == default_cache_folder() == home
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_folder() == home
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_folder() == tmp_path / "xdg" / "irvf" / "engines"
    monkeypatch.setenv("IRVF_ENGINE_CACHE", "~/mine")
    assert default_cache_folder() == tmp_path / "mine"
    assert EngineCache(tmp_path / "argument").folder == tmp_path / "argument"


def test_a_user_without_home_has_no_cache_and_a_warning(monkeypatch, caplog):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("irvf.engines.engine_cache.default_cache_folder", no_home)
    cache = EngineCache()
    assert cache.store("net", IDENTITY, CONTENT) is None
    assert cache.load("net", IDENTITY) is None
    assert "IRVF_ENGINE_CACHE" in "".join(warnings(caplog))


def _write(folder, letter, times):
    cache = EngineCache(Path(folder))
    for _ in range(times):
        assert cache.store("net", IDENTITY, letter * 400_000)


def test_two_processes_that_write_at_once_leave_one_whole_engine(cache, caplog):
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(str(cache.folder), letter, 40)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        content = cache.load("net", IDENTITY)
        seen.add(content and hashlib.sha256(content).hexdigest())
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    whole = {hashlib.sha256(letter * 400_000).hexdigest() for letter in (b"a", b"b")}
    assert seen - {None} <= whole
    assert seen & whole
    assert warnings(caplog) == []  # none was ever seen damaged
    assert list(cache.folder.iterdir()) == [cache.path("net", IDENTITY)]
