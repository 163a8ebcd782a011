# SPDX-License-Identifier: LGPL-2.1-or-later
"""ShareableList, against a private broker."""

from __future__ import annotations

import pickle
import struct
import unittest
from typing import Any, List
from unittest import mock

from shmbroker import ShareableList, SharedMemory, _library

from .broker import Broker, left_out

broker = Broker()
ITEMS: List[Any] = [1, -(2**63), 2.5, True, False, None, "", "grün", "x\0", b"", b"\0\0", "a" * 100]


def setUpModule() -> None:
    broker.start()


def tearDownModule() -> None:
    broker.stop()


class Lists(unittest.TestCase):
    def make(self, *arguments: Any, **named: Any) -> ShareableList[Any]:
        items: ShareableList[Any] = ShareableList(*arguments, **named)
        self.addCleanup(items.shm.unlink)
        self.addCleanup(items.shm.close)
        return items

    def attach(self, name: str, **named: Any) -> ShareableList[Any]:
        items: ShareableList[Any] = ShareableList(name=name, **named)
        self.addCleanup(items.shm.close)
        return items

    def test_gives_back_what_is_put_in(self) -> None:
        items = self.make(ITEMS)
        for seen in (items, self.attach(items.shm.name)):
            self.assertEqual(list(seen), ITEMS)
            self.assertEqual([type(item) for item in seen], [type(item) for item in ITEMS])
            self.assertEqual((len(seen), seen[-1]), (len(ITEMS), "a" * 100))

    def test_empty_ones(self) -> None:
        for items in (self.make(), self.make([]), self.make((), name="empty")):
            self.assertEqual((len(items), list(items), items.format), (0, [], ""))
            with self.assertRaises(IndexError):
                items[0]

    def test_items_can_be_replaced_by_what_fits(self) -> None:
        items = self.make([0, "seven77", b""])
        other = self.attach(items.shm.name)
        for position in range(3):
            for value in (5, 0.25, "8 bytes!", b"\0" * 8, None, True):
                items[position] = value
                self.assertEqual(other[position], value)
                self.assertIs(type(other[position]), type(value))
            with self.assertRaises(ValueError):
                items[position] = "9 bytes.."
            self.assertIs(other[position], True)
        self.assertEqual(len(self.make(["8 bytes!"])[0]), 8)
        items[-1] = "last"
        self.assertEqual(other[2], "last")

    def test_positions_and_values_that_cant_be(self) -> None:
        items = self.make([1, 2])
        for position in (2, -3):
            with self.assertRaises(IndexError):
                items[position]
            with self.assertRaises(IndexError):
                items[position] = 1
        for value in ([], 1j):
            with self.assertRaises(TypeError):
                items[0] = value
            with self.assertRaises(TypeError):
                self.make([value], name="never")
        with self.assertRaises(struct.error):
            items[0] = 2**63
        with self.assertRaises(FileNotFoundError):
            SharedMemory("never")
        self.assertEqual(list(items), [1, 2])

    def test_looking_for_items(self) -> None:
        items = self.make([1, "a", 1, None])
        self.assertEqual((items.count(1), items.count("b")), (2, 0))
        self.assertEqual((items.index("a"), items.index(None)), (1, 3))
        with self.assertRaises(ValueError):
            items.index("b")
        self.assertIn("a", items)

    def test_format_and_repr(self) -> None:
        items = self.make([1, 2.5, True, None, "abc", b"12345678"], name="shown")
        self.assertEqual(items.format, "qdxxxxxxx?xxxxxx?x8s16s")
        self.assertEqual(
            repr(items), "ShareableList([1, 2.5, True, None, 'abc', b'12345678'], name='shown')"
        )

    def test_pickled_it_is_the_same_list(self) -> None:
        items = self.make([1, 2])
        copy = pickle.loads(pickle.dumps(items))
        copy[0] = 5
        self.assertEqual(items[0], 5)
        copy.shm.close()

    def test_nobody_sees_it_without_its_items(self) -> None:
        seen: List[List[int]] = []
        publish = _library.Unpublished.publish

        def watched(new: _library.Unpublished) -> None:
            publish(new)
            seen.append(list(self.attach("filled")))

        with mock.patch.object(_library.Unpublished, "publish", watched):
            self.make([1, 2], name="filled")
        self.assertEqual(seen, [[1, 2]])

    def test_a_name_that_is_taken(self) -> None:
        self.make([1], name="list")
        with self.assertRaises(FileExistsError):
            ShareableList([1], name="list")

    def test_reading_alone(self) -> None:
        with self.assertRaises(ValueError):
            ShareableList([1], name="list", readonly=True)
        if not broker.private:
            left_out(self, "read-only grants: no private pools here")
        self.make([1, "a"], name="list")
        items = self.attach("list", readonly=True)
        for value in (2, "b"):
            with self.assertRaises(TypeError):
                items[0] = value
        self.assertEqual(list(items), [1, "a"])
        copy = pickle.loads(pickle.dumps(items))
        self.assertTrue(copy.shm.buf.readonly)
        copy.shm.close()

    def test_what_is_no_list(self) -> None:
        good = self.make([1, 2])
        begin = bytes(good.shm.buf)
        count = struct.pack("=Q", 2**61)
        offsets = [struct.pack("=3Q", *ends) for ends in ((40, 56, 73), (40, 30, 72), (56, 40, 72))]
        wrong = [b"\0", bytes(100), begin[:8], begin[:40], begin[:8] + count + begin[16:]]
        wrong += [begin[:16] + ends + begin[40:] for ends in offsets]
        for number, content in enumerate(wrong):
            with self.subTest(number=number):
                block = SharedMemory("no-list", create=True, size=len(content))
                block.buf[:] = content
                with self.assertRaises(ValueError):
                    ShareableList(name="no-list")
                block.close()
                block.unlink()

    def test_what_is_no_item(self) -> None:
        items = self.make(["text"])
        for slot in (b"\6\0\0\0\4\0\0\0", b"\4\0\0\0\11\0\0\0", b"\2\0\0\0\4\0\0\0"):
            items.shm.buf[32:40] = slot
            with self.assertRaises(ValueError):
                items[0]
        items.shm.buf[32:41] = b"\4\0\0\0\1\0\0\0\xff"
        with self.assertRaises(ValueError):
            items[0]
        items[0] = "again"
        self.assertEqual(items[0], "again")
