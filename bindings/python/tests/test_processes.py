# SPDX-License-Identifier: LGPL-2.1-or-later
"""SharedMemory between processes: numpy's arrays, fork, spawn, and ends of any kind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import unittest
from typing import Any, Callable, Tuple

from shmbroker import ShareableList, SharedMemory, _library

from .broker import PATIENCE_S, Broker, left_out

numpy: Any
try:
    import numpy
except ImportError:
    numpy = None

broker = Broker()


def setUpModule() -> None:
    broker.start()


def tearDownModule() -> None:
    broker.stop()


def double(shm: SharedMemory, shape: Tuple[int, ...]) -> None:
    array = numpy.ndarray(shape, dtype=numpy.float64, buffer=shm.buf)
    array *= 2


def read_array(shm: SharedMemory, shape: Tuple[int, ...]) -> None:
    array = numpy.ndarray(shape, dtype=numpy.float64, buffer=shm.buf)
    assert not array.flags.writeable
    assert array.sum() == 2 * sum(range(10000))


def use_after_fork(shm: SharedMemory, name: str) -> None:
    shm.buf[0] = 1
    shm.close()
    created = SharedMemory(name, create=True, size=1, track=False)
    attached = SharedMemory(name)
    attached.buf[0] = 2
    assert created.buf[0] == 2


def change_list(items: ShareableList[int]) -> None:
    items[0] = items[1] + items[2]


class Case(unittest.TestCase):
    def create(self, name: str, size: int = 100) -> SharedMemory:
        block = SharedMemory(name, create=True, size=size)
        self.addCleanup(block.unlink)
        self.addCleanup(block.close)
        return block

    def run_in(self, method: str, target: Callable[..., None], *arguments: Any) -> None:
        process: Any = multiprocessing.get_context(method)
        process = process.Process(target=target, args=arguments)
        process.start()
        process.join(PATIENCE_S)
        self.assertEqual(process.exitcode, 0)


class Multiprocessing(Case):
    def test_an_array_in_two_processes(self) -> None:
        if numpy is None:
            left_out(self, "arrays over shared memory: no numpy here")
        for method in ("fork", "spawn"):
            with self.subTest(method=method):
                shm = self.create(f"array-{method}", 8 * 10000)
                array = numpy.ndarray((100, 100), dtype=numpy.float64, buffer=shm.buf)
                array[:] = numpy.arange(10000).reshape((100, 100))
                self.run_in(method, double, shm, (100, 100))
                self.assertEqual(array[99, 99], 2 * 9999)
                self.assertEqual(array.sum(), 2 * sum(range(10000)))
                if broker.private:
                    reader = SharedMemory(shm.name, readonly=True)
                    self.run_in("spawn", read_array, reader, (100, 100))
                    reader.close()

    def test_an_array_outlives_its_closed_block(self) -> None:
        if numpy is None:
            left_out(self, "arrays over shared memory: no numpy here")
        shm = self.create("outlived", 80000)
        other = SharedMemory("outlived")
        array = numpy.ndarray((10000,), dtype=numpy.float64, buffer=other.buf)
        view = numpy.frombuffer(other.buf)
        with self.assertRaises(BufferError):
            other.close()
        del view
        other.close()
        del other
        array[9999] = 1
        self.assertEqual(shm.buf[-1], 0x3F)

    def test_a_child_uses_what_it_inherited_and_asks_for_itself(self) -> None:
        shm = self.create("inherited")
        self.run_in("fork", use_after_fork, shm, "from-a-child")
        self.assertEqual(shm.buf[0], 1)
        block = SharedMemory("from-a-child")
        self.assertEqual(block.buf[0], 2)
        block.close()
        block.unlink()

    def test_a_list_in_two_processes(self) -> None:
        for method in ("fork", "spawn"):
            with self.subTest(method=method):
                items = ShareableList([0, 1, 2])
                self.addCleanup(items.shm.unlink)
                self.addCleanup(items.shm.close)
                self.run_in(method, change_list, items)
                self.assertEqual(list(items), [3, 1, 2])


ATTACHES = """
import sys, shmbroker
block = shmbroker.SharedMemory(sys.argv[1])
block.buf[0] += 1
try:
    shmbroker.SharedMemory("missing")
except FileNotFoundError:
    pass
assert "multiprocessing.resource_tracker" not in sys.modules
if sys.argv[2] == "stays":
    print("ready", flush=True)
    sys.stdin.read()
"""
CREATES = """
import sys, shmbroker
blocks = [shmbroker.SharedMemory("tracked", create=True, size=1),
          shmbroker.SharedMemory("untracked", create=True, size=1, track=False)]
print("ready", flush=True)
sys.stdin.read()
"""


class Ending(Case):
    def begin(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdin and child.stdout
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stdin.close)
        return child

    def begun(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout
        self.assertEqual(child.stdout.readline(), b"ready\n")

    def test_who_attached_takes_nothing_along(self) -> None:
        block = self.create("stays")
        self.assertEqual(self.begin(ATTACHES, "stays", "ends").wait(), 0)
        killed = self.begin(ATTACHES, "stays", "stays")
        self.begun(killed)
        killed.kill()
        killed.wait()
        self.assertEqual(block.buf[0], 2)
        SharedMemory("stays").close()

    def test_killed_its_maker_takes_a_tracked_block_alone(self) -> None:
        for kill in (True, False):
            with self.subTest(kill=kill):
                maker = self.begin(CREATES)
                self.begun(maker)
                kept = SharedMemory("tracked")
                if kill:
                    maker.kill()
                else:
                    assert maker.stdin
                    maker.stdin.close()
                maker.wait()
                until = time.monotonic() + PATIENCE_S
                with self.assertRaises(FileNotFoundError):
                    while time.monotonic() < until:
                        SharedMemory("tracked").close()
                        time.sleep(0.01)
                kept.buf[0] = 1
                kept.close()
                untracked = SharedMemory("untracked")
                untracked.close()
                untracked.unlink()

    def test_whose_ids_change_is_asked_anew(self) -> None:
        self.create("as-before")
        gid, uid = os.getegid(), os.geteuid()
        try:
            os.setegid(65532)
            os.seteuid(65532)
            block = SharedMemory("as-another", create=True, size=1)
        except OSError as error:
            if os.geteuid() == 65532:
                raise
            left_out(self, f"other ids: {error.strerror}")
        finally:
            os.seteuid(uid)
            os.setegid(gid)
        fd = _library.open("as-another", os.O_RDWR)
        self.assertEqual(os.fstat(fd).st_uid, 65532)
        os.close(fd)
        block.close()
        block.unlink()
