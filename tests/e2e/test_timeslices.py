"""Short time slices: asked for by the service, granted by the kernel where it can."""

import os
import platform
import re
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from hotpath.timeslices import SLICE_NS, ask_for_short_slices, time_slice_ns
from tests.support.process import running_server


def _grants() -> bool:
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    new = version is not None and tuple(map(int, version.groups())) >= (6, 12)
    return new and time_slice_ns() is not None


granted = pytest.mark.skipif(not _grants(), reason="needs Linux 6.12 or later, x86-64 or ARM")


def in_a_thread(work):
    """What comes of it in a thread of its own, whose slices end with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def in_a_process(work):
    """What comes of it in a process of its own: a service in this one has asked for its thread."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def _short_in_a_thread():
    def work():
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, 5)
        asked = ask_for_short_slices()
        return asked, time_slice_ns(), in_a_thread(time_slice_ns), os.getpriority(0, me)

    return time_slice_ns(), in_a_thread(work), time_slice_ns()


@granted
def test_a_thread_gets_them_and_those_that_it_starts_and_nothing_else_changes():
    before, short, after = in_a_process(_short_in_a_thread)

    assert short == (True, SLICE_NS, SLICE_NS, 5)
    assert after == before != SLICE_NS


@granted
def test_another_policy_is_left_as_it_is():
    def work():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return ask_for_short_slices(), os.sched_getscheduler(0), time_slice_ns()

    assert in_a_thread(work) == (False, os.SCHED_BATCH, time_slice_ns())


@pytest.mark.parametrize("machine", ["", "sparc64"])
def test_where_the_call_is_not_known_nothing_happens(monkeypatch, machine):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert in_a_thread(ask_for_short_slices) is False
    assert time_slice_ns() is None


def test_a_thread_that_is_gone_has_none():
    assert time_slice_ns(in_a_thread(threading.get_native_id)) is None


@granted
def test_all_threads_of_the_service_have_them(tmp_path):
    with running_server(tmp_path / "data") as server:
        server.publish({"objectId": "o", "variable": "v", "value": 1}, token=server.token())
        threads = [int(each.name) for each in Path(f"/proc/{server.process.pid}/task").iterdir()]
        assert len(threads) > 1
        assert {time_slice_ns(each) for each in threads} == {SLICE_NS}
