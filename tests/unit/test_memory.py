from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpipe import memory
from vpipe.errors import ResourceError
from vpipe.memory import MIB, available_bytes, check_fits, create_memory, map_memory


def test_two_mappings_of_a_descriptor_share_bytes() -> None:
    fd = create_memory("test", 8192)
    first, second = map_memory(fd, 8192, "test"), map_memory(fd, 8192, "test")
    os.close(fd)
    assert second[:] == bytes(8192)
    first[5000] = 77
    assert second[5000] == 77
    first.close()
    second.close()


def test_memory_has_no_name_in_any_folder() -> None:
    folder = Path("/dev/shm")
    before = set(folder.iterdir()) if folder.is_dir() else set()
    fd = create_memory("test", 8192)
    assert (set(folder.iterdir()) if folder.is_dir() else set()) <= before
    assert os.fstat(fd).st_nlink == 0
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="seals are Linux's")
def test_nobody_can_shrink_the_memory_under_another() -> None:
    fd = create_memory("test", 8192)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_where_there_is_no_memfd_an_unlinked_file_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fd = create_memory("test", 8192)
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(fd).st_nlink == 0
    assert not os.get_inheritable(fd)
    first, second = map_memory(fd, 8192, "test"), map_memory(fd, 8192, "test")
    os.close(fd)
    first[1] = 9
    assert second[1] == 9
    first.close()
    second.close()


@pytest.mark.parametrize("has_memfd", [True, False])
@pytest.mark.parametrize("size", [1 << 63, 1 << 70])
def test_an_impossible_size_is_a_resource_error_and_leaks_nothing(
    monkeypatch: pytest.MonkeyPatch, size: int, has_memfd: bool
) -> None:
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    spare = os.dup(0)
    os.close(spare)
    with pytest.raises(ResourceError, match=f"^big: {size // MIB} MiB of shared memory cannot be had"):
        create_memory("big", size)
    again = os.dup(0)
    os.close(again)
    assert again == spare


def test_the_systems_refusal_is_a_resource_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "ftruncate", refuse)
    monkeypatch.setattr(memory, "available_bytes", lambda: 5 * MIB)
    message = (
        r"^ring a: 2 MiB of shared memory cannot be had \(Cannot allocate memory\), 5 MiB are free;"
        r" lower branches\[\.\.\]\.batch\.slots or decode\.workers$"
    )
    with pytest.raises(ResourceError, match=message):
        create_memory("ring a", MIB + 1)


def test_a_process_with_a_limited_address_space_gets_a_resource_error() -> None:
    code = """
import resource
from vpipe.errors import ResourceError
from vpipe.memory import create_memory, map_memory
fd = create_memory("test", 1 << 32)
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
try:
    map_memory(fd, 1 << 32, "test")
except ResourceError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("test: 4096 MiB of shared memory cannot be had (Cannot allocate memory)")


# How much is free


def test_what_is_available_is_above_nothing_and_below_the_machine() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_bytes() <= total


def test_what_fits_passes_and_what_does_not_says_what_to_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 * MIB)
    check_fits(64 * MIB, "the plan")
    message = (
        r"^the plan needs 65 MiB of shared memory, 64 MiB are free;"
        r" lower branches\[\.\.\]\.batch\.slots or decode\.workers$"
    )
    with pytest.raises(ResourceError, match=message):
        check_fits(64 * MIB + 1, "the plan")


def fake_cgroups(tmp_path: Path, membership: str, files: dict[str, str]) -> list[int]:
    (tmp_path / "self").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(memory._cgroup_rooms(tmp_path / "cgroup", tmp_path / "self"))


def test_cgroup_v2_counts_what_every_group_above_us_has_left_and_its_page_cache(tmp_path: Path) -> None:
    files = {
        "memory.max": "max\n",
        "memory.current": "5000\n",
        "a/memory.max": "1000\n",
        "a/memory.current": "300\n",
        "a/memory.stat": "anon 200\ninactive_file 50\nactive_file 7\n",
        "a/b/memory.max": "900\n",
        "a/b/memory.current": "100\n",
    }
    assert fake_cgroups(tmp_path, "0::/a/b\n", files) == [750, 800]


def test_cgroup_v1_counts_likewise(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "4096\n",
        "memory/job/memory.limit_in_bytes": "2000\n",
        "memory/job/memory.usage_in_bytes": "1500\n",
        "memory/job/memory.stat": "cache 400\ntotal_inactive_file 300\n",
    }
    membership = "9:name=systemd:/\n4:memory:/job\n3:cpu,cpuacct:/job\n"
    assert fake_cgroups(tmp_path, membership, files)[0] == 800


def test_in_a_container_the_top_group_is_our_own(tmp_path: Path) -> None:
    files = {"memory.max": "1000", "memory.current": "400"}
    assert fake_cgroups(tmp_path, "0::/../../host/path\n", files) == [600]


def test_without_cgroups_or_meminfo_the_machines_memory_counts(tmp_path: Path) -> None:
    assert list(memory._cgroup_rooms(tmp_path, tmp_path / "absent")) == []
    assert fake_cgroups(tmp_path, "0::/\n", {"memory.max": "what\n"}) == []
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory._machine_available(tmp_path / "absent") == total
    (tmp_path / "old").write_text("MemTotal: 5 kB\n")
    assert memory._machine_available(tmp_path / "old") == total
