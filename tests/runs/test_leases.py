from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from runs.leases import STALE_AFTER, Lease, _birth, _boot, folder_clock, is_stale, sweep


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Lease(tmp_path, "main/step1:x/hidden"), Lease(tmp_path, "main/step1:x/hidden")
    assert first.acquire()
    assert not second.acquire()
    assert first.held()
    assert not second.held()
    second.release()
    assert first.held()
    first.release()
    assert second.acquire()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_names_do_not_collide(tmp_path: Path) -> None:
    assert Lease(tmp_path, "a/b").path != Lease(tmp_path, "a%2Fb").path


def test_a_killed_process_leaves_its_lease_to_others(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from runs.leases import Lease\n"
        "assert Lease(Path(sys.argv[1]), 'cell').acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    lease = Lease(tmp_path, "cell")
    assert lease.path.exists()
    assert is_stale(lease.path)
    assert lease.acquire()
    assert lease.held()
    lease.release()


def holder(path: Path, **changes: object) -> None:
    content = {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "born": 0.0}
    path.write_text(json.dumps(content | {"token": "x"} | changes))


def test_a_recycled_process_number_is_not_the_holder(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "cell")
    holder(lease.path)  # our pid, another birthday
    assert is_stale(lease.path)


@pytest.mark.skipif(sys.platform != "linux", reason="the clock's place differs")
def test_setting_the_clock_kills_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(tmp_path, "cell")
    assert lease.acquire()
    started = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: started + 100)
    assert psutil.boot_time() == started + 100
    assert not is_stale(lease.path)
    lease.release()


def test_the_machine_before_a_restart_is_judged_by_its_heartbeat(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "cell")
    holder(lease.path, boot="another", born=_birth(psutil.Process()))
    assert not is_stale(lease.path)
    os.utime(lease.path, (0, 0))
    assert is_stale(lease.path)


@pytest.mark.parametrize(("age", "stale"), [(STALE_AFTER - 20, False), (STALE_AFTER + 20, True)])
def test_another_host_is_judged_by_its_heartbeat(tmp_path: Path, age: float, stale: bool) -> None:
    lease = Lease(tmp_path, "cell")
    holder(lease.path, host="elsewhere")
    then = lease.path.stat().st_mtime - age
    os.utime(lease.path, (then, then))
    assert is_stale(lease.path) is stale
    assert lease.acquire() is stale
    lease.release()


def test_an_unreadable_lease_is_stale_only_when_old(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "cell")
    lease.path.write_text("")
    assert not is_stale(lease.path)
    os.utime(lease.path, (0, 0))
    assert is_stale(lease.path)


def test_many_threads_take_over_a_dead_lease_once(tmp_path: Path) -> None:
    holder(Lease(tmp_path, "cell").path)
    leases = [Lease(tmp_path, "cell") for _ in range(16)]
    won: list[Lease] = []
    barrier = threading.Barrier(len(leases))

    def race(lease: Lease) -> None:
        barrier.wait()
        if lease.acquire():
            won.append(lease)

    threads = [threading.Thread(target=race, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) <= 1
    assert sum(lease.held() for lease in leases) == len(won)
    for lease in won:
        lease.release()


def test_a_sweep_removes_the_dead_and_spares_the_living(tmp_path: Path) -> None:
    alive = Lease(tmp_path, "main/step1:x/hidden")
    assert alive.acquire()
    holder(Lease(tmp_path, "main/step2:x/100%").path)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [alive.path]
    assert alive.held()
    alive.release()


SKEW = 3600.0


def test_a_clock_ahead_of_the_file_server_kills_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(tmp_path, "cell")
    holder(lease.path, host="elsewhere")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + SKEW)
    assert not is_stale(lease.path)
    assert not lease.acquire()


@pytest.mark.parametrize("skew", [-SKEW, SKEW])
@pytest.mark.parametrize(("age", "stale"), [(STALE_AFTER - 20, False), (STALE_AFTER + 20, True)])
def test_age_is_told_by_the_clock_that_dates_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float, age: float, stale: bool
) -> None:
    """A file server an hour off: it dates heartbeats and probes alike."""
    real = os.utime

    def served(path: Path, times: tuple[float, float] | None = None) -> None:
        real(path, times or (time.time() + skew,) * 2)

    monkeypatch.setattr(os, "utime", served)
    lease = Lease(tmp_path, "cell")
    holder(lease.path, host="elsewhere")
    served(lease.path, (time.time() + skew - age,) * 2)
    assert is_stale(lease.path) is stale
    assert lease.acquire() is stale
    lease.release()


def test_a_server_whose_clock_is_set_is_asked_again_before_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(tmp_path, "cell")
    holder(lease.path, host="elsewhere")
    before = folder_clock(tmp_path)
    real = os.utime
    monkeypatch.setattr(os, "utime", lambda path, _=None: real(path, (before - SKEW,) * 2))
    os.utime(lease.path)  # a heartbeat after the clock was set back by an hour
    assert folder_clock(tmp_path) >= before  # what was last seen
    assert not is_stale(lease.path)


def test_another_container_of_this_host_is_judged_by_its_heartbeat(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "cell")
    holder(lease.path, pid=2**22 + 1, namespace=1)
    assert not is_stale(lease.path)
    os.utime(lease.path, (0, 0))
    assert is_stale(lease.path)


def test_two_leases_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    leases = [Lease(tmp_path, "cell") for _ in range(8)]
    with ThreadPoolExecutor(len(leases)) as pool:
        got = list(pool.map(Lease.acquire, leases))
    assert sum(got) == 1
    assert [lease.held() for lease in leases] == got
    for lease in leases:
        lease.release()


def test_a_sweep_removes_drafts_of_the_killed(tmp_path: Path) -> None:
    old, new = tmp_path / "cell.0123", tmp_path / "0123.clock"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


KILLED_IN = """
import os, signal, sys
from pathlib import Path
from runs.leases import Lease
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
setattr({where}, die)
Lease(Path(sys.argv[1]), "cell").acquire()
"""


@pytest.mark.parametrize(
    ("where", "taken"),
    [('os, "link"', False), ('Path, "unlink"', True), ('Lease, "_create"', True)],
    ids=["draft", "guard", "guard alone"],
)
def test_a_kill_within_a_claim_blocks_nobody_and_leaves_nothing(
    tmp_path: Path, where: str, taken: bool
) -> None:
    if taken:  # from somebody who is gone
        holder(Lease(tmp_path, "cell").path)
    code = KILLED_IN.format(where=where)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    lease = Lease(tmp_path, "cell")
    assert any(lease.acquire() for _ in range(2))  # a guard of the dead costs one more look
    lease.release()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
