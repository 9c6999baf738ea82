"""What stays in the directory that a tar is unpacked into, with Python's own filter and without."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from runner import archives


def tar_of(*members: tarfile.TarInfo) -> tarfile.TarFile:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    data.seek(0)
    return tarfile.open(fileobj=data)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.fixture(params=["with the filter", "without it"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without it":
        monkeypatch.delattr(tarfile, "data_filter")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (member("../x"), "leads out"),
        (member("a/../../x"), "leads out"),
        (member("far", tarfile.SYMTYPE, "/etc/passwd"), "to /etc/passwd"),
        (member("a/far", tarfile.SYMTYPE, "../../x"), "a link that leads out"),
        (member("far", tarfile.LNKTYPE, "../x"), "a link that leads out"),
        (member("pipe", tarfile.FIFOTYPE), "no file, directory or link"),
        (member("disk", tarfile.BLKTYPE), "no file, directory or link"),
        (member("a/b"), ""),
        (member("/a/b"), ""),
        (member("a/near", tarfile.SYMTYPE, "../b"), ""),
        (member("near", tarfile.LNKTYPE, "a/b"), ""),
        (member("a", tarfile.DIRTYPE), ""),
    ],
)
def test_what_leads_out(tmp_path: Path, made: tarfile.TarInfo, words: str) -> None:
    said = archives.leads_out(made, tmp_path)
    assert (words in said) if words else not said


def test_a_link_that_is_there_already_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to("/etc")
    assert "leads out" in archives.leads_out(member("there/passwd"), tmp_path)


@pytest.mark.usefixtures("python")
def test_files_are_unpacked_as_this_users(tmp_path: Path) -> None:
    tar = tar_of(
        member("a", tarfile.DIRTYPE, mode=0o777),
        member("/a/b", mode=0o4777),
        member("near", tarfile.SYMTYPE, "a/b"),
    )
    archives.extract(tar, tmp_path, tar)
    assert (tmp_path / "near").read_text() == "x"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o7777 == 0o755


@pytest.mark.usefixtures("python")
def test_a_link_of_the_archive_does_not_lead_out(tmp_path: Path) -> None:
    """Each of these stays where it is; one after the other they would not."""
    inside = tmp_path / "inside"
    inside.mkdir()
    tar = tar_of(
        member("a", tarfile.SYMTYPE, "b/.."),
        member("b", tarfile.SYMTYPE, "."),
        member("a/out"),
    )
    with pytest.raises(tarfile.TarError):
        archives.extract(tar, inside, tar)
    assert not (tmp_path / "out").exists()
