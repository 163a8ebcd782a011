# SPDX-License-Identifier: LGPL-2.1-or-later
"""SharedMemory in one process, against a private broker."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import pickle
import socket
import stat
import threading
import unittest
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

import shmbroker
from shmbroker import SharedMemory, _library

from .broker import Broker, left_out

broker = Broker()
EMPTY: Dict[str, Any] = {}


def setUpModule() -> None:
    broker.start()


def tearDownModule() -> None:
    broker.stop()


class Case(unittest.TestCase):
    """Closes and unlinks what a test has created, and looks for descriptors that it left."""

    def setUp(self) -> None:
        # The library's one connection stays.
        with self.assertRaises(FileNotFoundError):
            SharedMemory("no-such-block")
        descriptors = os.listdir("/proc/self/fd")
        self.addCleanup(
            lambda: self.assertEqual(len(os.listdir("/proc/self/fd")), len(descriptors))
        )

    def create(
        self, name: Optional[str] = None, size: int = 100, **arguments: Any
    ) -> SharedMemory:
        block = SharedMemory(name, create=True, size=size, **arguments)
        self.addCleanup(self.remove, block)
        return block

    def attach(self, name: str, **arguments: Any) -> SharedMemory:
        block = SharedMemory(name, **arguments)
        self.addCleanup(block.close)
        return block

    def remove(self, block: SharedMemory) -> None:
        block.close()
        try:
            block.unlink()
        except FileNotFoundError:
            pass

    def is_there(self, name: str) -> bool:
        try:
            os.close(_library.open(name, os.O_RDWR))
        except FileNotFoundError:
            return False
        return True


class Creating(Case):
    def test_has_its_size_and_zeroes_and_can_be_written(self) -> None:
        block = self.create("created", 5000)
        self.assertEqual((block.name, block.size, len(block.buf)), ("created", 5000, 5000))
        self.assertEqual(bytes(block.buf), bytes(5000))
        block.buf[4999] = 7
        self.assertEqual(self.attach("created").buf[4999], 7)

    def test_all_of_its_memory_is_there(self) -> None:
        block = self.create("reserved", 1000000)
        fd = _library.open(block.name, os.O_RDWR)
        self.addCleanup(os.close, fd)
        self.assertGreaterEqual(os.fstat(fd).st_blocks * 512, 1000000)

    def test_its_memory_is_had_in_pieces(self) -> None:
        # A signal takes back all of a call that it interrupts, on Linux 6.1 for instance.
        pieces: List[Tuple[int, int]] = []

        def reserve(fd: int, offset: int, length: int) -> None:
            pieces.append((offset, length))

        with mock.patch("os.posix_fallocate", reserve):
            self.create(size=2**20 + 1)
        self.assertEqual([offset for offset, _ in pieces], [n * 2**18 for n in range(5)])
        self.assertEqual([length for _, length in pieces], [2**18] * 4 + [1])

    def test_without_a_name_gets_one_of_its_own(self) -> None:
        names = {self.create().name for _ in range(10)}
        self.assertEqual(len(names), 10)
        for name in names:
            self.assertRegex(name, "^psm_[0-9a-f]{16}$")

    def test_a_random_name_that_is_taken_is_another(self) -> None:
        tokens = iter(["aa", "aa", "bb"])
        with mock.patch("secrets.token_hex", lambda size: next(tokens)):
            self.assertEqual([self.create().name, self.create().name], ["psm_aa", "psm_bb"])

    def test_a_name_that_is_taken_is_left_alone(self) -> None:
        first = self.create("taken")
        first.buf[0] = 1
        with self.assertRaises(FileExistsError) as caught:
            SharedMemory("taken", create=True, size=200)
        self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.EEXIST, "/taken"))
        self.assertEqual(self.attach("taken").buf[0], 1)

    def test_sizes_that_cant_be(self) -> None:
        for size in (0, -1):
            with self.assertRaises(ValueError):
                SharedMemory("sizes", create=True, size=size)
        with self.assertRaises(TypeError):
            SharedMemory("sizes", create=True, size=1.5)  # type: ignore[arg-type]
        for size in (2**63, 2**64 - 1, 2**64, 2**64 + 4096, 2**100):
            with self.assertRaises(OSError) as caught:
                SharedMemory("sizes", create=True, size=size)
            self.assertEqual(caught.exception.errno, errno.EFBIG)
        self.assertFalse(self.is_there("sizes"))

    def test_a_page_more_or_less_is_exact(self) -> None:
        for size in (1, mmap.PAGESIZE - 1, mmap.PAGESIZE, mmap.PAGESIZE + 1, 3 * 2**20 + 1):
            with self.subTest(size=size):
                block = self.create(size=size)
                self.assertEqual((block.size, len(block.buf)), (size, size))
                self.assertEqual(self.attach(block.name).size, size)

    def test_names(self) -> None:
        for name in ("/slash", "///slash"):
            block = self.create(name)
            self.assertEqual(block.name, "slash")
            self.assertEqual(self.attach(name).name, "slash")
            self.assertEqual(self.attach("slash").size, 100)
            self.remove(block)
        for name in ("a/b", "", ".", "..", ".shmbroker.x"):
            with self.assertRaises(OSError) as caught:
                SharedMemory(name, create=True, size=1)
            self.assertEqual(caught.exception.errno, errno.EINVAL)
        with self.assertRaises(OSError) as caught:
            SharedMemory("a" * 256, create=True, size=1)
        self.assertEqual(caught.exception.errno, errno.ENAMETOOLONG)
        self.assertEqual(self.create("a" * 255).name, "a" * 255)
        self.assertEqual(self.create("grün\udcff").name, "grün\udcff")
        for create in (True, False):
            with self.assertRaises(ValueError):
                SharedMemory("cut\0off", create=create, size=1)

    def test_mode_is_without_the_umask(self) -> None:
        umask = os.umask(0o027)
        try:
            block = self.create("moded", mode=0o666)
        finally:
            os.umask(umask)
        for block, mode in ((block, 0o640), (self.create("default"), 0o600)):
            fd = _library.open(block.name, os.O_RDONLY if broker.private else os.O_RDWR)
            self.assertEqual(stat.S_IMODE(os.fstat(fd).st_mode), mode)
            os.close(fd)

    def test_over_the_quota_there_is_no_name_and_no_memory_lost(self) -> None:
        if not broker.private:
            left_out(self, "quotas: no private pools here")
        self.create("small-first", 128 * 1024)
        for size in (256 * 1024, 2**30):  # more than is left, and than there ever was
            with self.assertRaises(OSError) as caught:
                SharedMemory("small-second", create=True, size=size)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            self.assertEqual(caught.exception.filename, "/small-second")
            self.assertFalse(self.is_there("small-second"))
        # While the exception is still there, and with it what its traceback leads to.
        self.create("small-second", 128 * 1024)

    def test_a_taken_name_costs_no_memory(self) -> None:
        if not broker.private:
            left_out(self, "quotas: no private pools here")
        self.create("small-taken", 64 * 1024)
        with self.assertRaises(FileExistsError):
            SharedMemory("small-taken", create=True, size=192 * 1024)
        self.create("small-other", 192 * 1024)

    def test_what_cant_be_mapped_has_no_name(self) -> None:
        with mock.patch("mmap.mmap", side_effect=OSError(errno.ENOMEM, "no room")):
            with self.assertRaises(OSError):
                SharedMemory("unmapped", create=True, size=1)
        self.assertFalse(self.is_there("unmapped"))

    def test_for_reading_alone_makes_no_sense(self) -> None:
        with self.assertRaises(ValueError):
            SharedMemory("created", create=True, size=1, readonly=True)
        self.assertFalse(self.is_there("created"))


class Attaching(Case):
    def test_needs_a_name(self) -> None:
        with self.assertRaises(ValueError):
            SharedMemory()

    def test_sees_what_is_written_whatever_size_it_gives(self) -> None:
        first = self.create("both")
        second = self.attach("both", size=7)
        self.assertEqual(second.size, 100)
        first.buf[:5] = b"hello"
        second.buf[5:11] = b" world"
        self.assertEqual(bytes(first.buf[:11]), b"hello world")

    def test_a_block_that_is_missing(self) -> None:
        with self.assertRaises(FileNotFoundError) as caught:
            SharedMemory("missing")
        self.assertEqual(caught.exception.filename, "/missing")

    def test_a_refusal_tells_the_rule(self) -> None:
        for arguments in {"create": True, "size": 1}, EMPTY, {"readonly": True}:
            with self.assertRaises(PermissionError) as caught:
                SharedMemory("secret-1", **arguments)
            self.assertIn('rule "not these"', str(caught.exception))
            self.assertIn("/secret-1", str(caught.exception))

    def test_a_failed_attach_unlinks_nothing(self) -> None:
        name = "failed-attach"
        fd = _library._library.shmb_shm_open(name.encode(), os.O_RDWR | os.O_CREAT, 0o600)
        self.addCleanup(_library.unlink, name)
        self.addCleanup(os.close, fd)
        for arguments in (EMPTY, {"sealed": True}) if broker.private else (EMPTY,):
            with self.assertRaises((ValueError, PermissionError)):
                SharedMemory(name, **arguments)
        self.assertTrue(self.is_there(name))
        # Now a length that can't be mapped.
        os.ftruncate(fd, 2**62)
        with self.assertRaises((OSError, OverflowError)):
            SharedMemory(name)
        self.assertTrue(self.is_there(name))

    def test_reading_alone_can_write_nowhere(self) -> None:
        if not broker.private:
            left_out(self, "read-only grants: no private pools here")
        self.create("read-only").buf[0] = 1
        before = set(os.listdir("/proc/self/fd"))
        block = self.attach("read-only", readonly=True)
        for kept in map(int, set(os.listdir("/proc/self/fd")) - before):
            self.assertEqual(fcntl.fcntl(kept, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY)
        self.assertTrue(block.buf.readonly)
        self.assertEqual(block.buf[0], 1)
        with self.assertRaises(TypeError):
            block.buf[0] = 2
        fd = _library.open("read-only", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        with self.assertRaises(PermissionError):
            mmap.mmap(fd, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        with self.assertRaises(OSError):
            os.open(f"/proc/self/fd/{fd}", os.O_RDWR)

    def test_a_block_that_isnt_sealed_is_refused_to_who_insists(self) -> None:
        if not broker.private:
            left_out(self, "read-only grants: no private pools here")
        self.create("unsealed")
        with self.assertRaises(PermissionError) as caught:
            SharedMemory("unsealed", sealed=True)
        self.assertIn("not sealed", str(caught.exception))


class Sealed(Case):
    def sealed(self, name: str, **arguments: Any) -> SharedMemory:
        try:
            return self.create(name, sealed=True, **arguments)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        left_out(self, "sealed blocks: this broker can't have them")

    def test_its_maker_alone_writes(self) -> None:
        maker = self.sealed("sealed", size=5000)
        maker.buf[0] = 1
        reader = self.attach("sealed", sealed=True)
        self.assertEqual((reader.size, reader.buf[0], reader.buf.readonly), (5000, 1, True))
        maker.buf[0] = 2
        self.assertEqual(reader.buf[0], 2)
        self.assertTrue(self.attach("sealed", readonly=True).buf.readonly)
        with self.assertRaises(PermissionError):
            SharedMemory("sealed")

    def test_nobody_changes_its_size(self) -> None:
        self.sealed("sealed-size")
        fd = _library.open("sealed-size", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        with self.assertRaises(OSError):
            os.ftruncate(fd, 1)
        with self.assertRaises(OSError):
            os.truncate(f"/proc/self/fd/{fd}", 1)

    def test_pickled_by_its_maker_it_is_read(self) -> None:
        maker = self.sealed("sealed-pickled")
        reader = pickle.loads(pickle.dumps(maker))
        self.addCleanup(reader.close)
        self.assertTrue(reader.buf.readonly)
        reader.buf[:1]
        self.assertIn("sealed=True", str(reader.__reduce__()[0]))

    def test_all_of_its_memory_is_there(self) -> None:
        self.sealed("sealed-memory", size=1000000)
        fd = _library.open("sealed-memory", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertGreaterEqual(os.fstat(fd).st_blocks * 512, 1000000)

    def test_a_list_has_its_items_when_it_is_seen(self) -> None:
        self.sealed("sealed-probe")
        maker = shmbroker.ShareableList([1, 2], name="sealed-list", sealed=True)
        self.addCleanup(self.remove, maker.shm)
        reader = pickle.loads(pickle.dumps(maker))
        self.addCleanup(reader.shm.close)
        maker[0] = 5
        self.assertEqual(list(reader), [5, 2])
        with self.assertRaises(TypeError):
            reader[0] = 1


class Ending(Case):
    def test_closing_twice_is_fine_and_leaves_the_block(self) -> None:
        block = self.create("closed")
        buf = block.buf
        block.close()
        block.close()
        with self.assertRaises(ValueError):
            buf[0]
        self.assertIsNone(block.buf)
        self.assertEqual((block.name, block.size), ("closed", 100))
        self.assertTrue(self.is_there("closed"))
        block.unlink()
        self.assertFalse(self.is_there("closed"))

    def test_closing_under_a_view_fails_and_can_be_repeated(self) -> None:
        block = self.create("viewed")
        view = memoryview(block.buf)
        with self.assertRaises(BufferError):
            block.close()
        view[0] = 1
        view.release()
        block.close()
        self.assertEqual(self.attach("viewed").buf[0], 1)
        reader = self.attach("viewed", readonly=broker.private)
        view = reader.buf[:1]
        with self.assertRaises(BufferError):
            reader.close()
        del view
        reader.close()

    def test_what_was_forgotten_goes_with_its_last_view(self) -> None:
        first = self.create("forgotten")
        view = SharedMemory("forgotten").buf[:10]
        view[0] = 1
        self.assertEqual(first.buf[0], 1)

    def test_after_unlink_those_who_have_it_keep_it(self) -> None:
        block = self.create("unlinked")
        other = self.attach("unlinked")
        block.unlink()
        other.buf[0] = 3
        self.assertEqual(block.buf[0], 3)
        with self.assertRaises(FileNotFoundError):
            SharedMemory("unlinked")
        with self.assertRaises(FileNotFoundError):
            block.unlink()
        self.assertEqual(bytes(self.create("unlinked").buf), bytes(100))

    def test_closing_an_attached_block_leaves_it(self) -> None:
        self.create("foreign")
        for arguments in EMPTY, {"track": True}, {"track": False}:
            SharedMemory("foreign", **arguments).close()
            SharedMemory("foreign", **arguments)
            self.assertTrue(self.is_there("foreign"))

    def test_repr(self) -> None:
        self.assertEqual(repr(self.create("shown")), "SharedMemory('shown', size=100)")


class Pickling(Case):
    def test_attaches_by_name(self) -> None:
        block = self.create("pickled")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(block, protocol))
            copy.buf[0] = protocol
            self.assertEqual((block.buf[0], copy.size), (protocol, 100))
            copy.close()
        self.assertTrue(self.is_there("pickled"))

    def test_reading_alone_stays_so(self) -> None:
        if not broker.private:
            left_out(self, "read-only grants: no private pools here")
        self.create("pickled-read-only")
        copy = pickle.loads(pickle.dumps(self.attach("pickled-read-only", readonly=True)))
        self.assertTrue(copy.buf.readonly)
        copy.close()


class Threads(Case):
    def test_many_at_once(self) -> None:
        wrong: List[object] = []

        def work(number: int) -> None:
            try:
                for turn in range(20):
                    name = f"thread-{number}"
                    block = SharedMemory(name, create=True, size=8)
                    block.buf[0] = turn
                    other = SharedMemory(name)
                    if other.buf[0] != turn:
                        wrong.append((number, turn))
                    other.close()
                    block.close()
                    block.unlink()
                    try:
                        SharedMemory(f"secret-{number}")
                    except PermissionError as error:
                        if f"secret-{number}" not in str(error) or "not these" not in str(error):
                            wrong.append(error)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_one_of_many_creates(self) -> None:
        made: List[SharedMemory] = []
        taken: List[FileExistsError] = []
        barrier = threading.Barrier(8)

        def work() -> None:
            barrier.wait()
            try:
                made.append(SharedMemory("contested", create=True, size=8))
            except FileExistsError as error:
                taken.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((len(made), len(taken)), (1, 7))
        self.remove(made[0])


class Brokers(unittest.TestCase):
    """Others than the module's own, and none."""

    def setUp(self) -> None:
        self.addCleanup(os.environ.__setitem__, "SHMBROKER_SOCKET", broker.socket)

    def test_without_one_the_connection_is_refused(self) -> None:
        os.environ["SHMBROKER_SOCKET"] = "/nonexistent/socket"
        with self.assertRaises(ConnectionRefusedError) as caught:
            SharedMemory("nobody", create=True, size=1)
        self.assertIn("/nonexistent/socket", str(caught.exception))

    def test_a_restart_goes_unnoticed(self) -> None:
        SharedMemory("before", create=True, size=1)
        SharedMemory("before")
        broker.end()
        for arguments in {"create": True, "size": 1}, EMPTY:
            with self.assertRaises(ConnectionRefusedError):
                SharedMemory("before", **arguments)
        broker.start()
        block = SharedMemory("after", create=True, size=1)
        SharedMemory("after")
        block.unlink()

    def test_one_that_ends_before_it_answers_is_asked_again(self) -> None:
        path = broker.socket + ".passing"
        os.environ["SHMBROKER_SOCKET"] = path
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as passing:
            passing.bind(path)
            passing.listen()

            def end() -> None:
                peer = passing.accept()[0]
                os.unlink(path)
                os.symlink(broker.socket, path)
                peer.close()

            thread = threading.Thread(target=end)
            thread.start()
            block = SharedMemory("asked-again", create=True, size=1)
            thread.join()
        os.unlink(path)
        block.close()
        block.unlink()
