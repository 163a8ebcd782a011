# SPDX-License-Identifier: LGPL-2.1-or-later
"""ShareableList: a list of fixed length in a block of shared memory.

The standard library's can't be told to use another SharedMemory, so this is one of its own, with
the same interface and with this layout: a magic, the number N of items, N + 1 offsets of
slots from the block's beginning (the last: its end), then the slots. A slot is the kind of its value, the
length of its bytes, and room for them.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Callable, Generic, Iterable, Iterator, List, Optional, Tuple, TypeVar, Union

from ._shared_memory import SharedMemory

Item = Union[int, float, str, bytes, None]
T = TypeVar("T", bound=Item)

_MAGIC = b"shmblst1"
_HEAD = struct.Struct("=8sQ")
_SLOT = struct.Struct("=B3xI")
_ALIGNMENT = 8

_NONE, _BOOL, _INT, _FLOAT, _STR, _BYTES = range(6)
_FORMATS = {_NONE: "xxxxxx?x", _BOOL: "xxxxxxx?", _INT: "q", _FLOAT: "d"}


def _pack(value: object) -> Tuple[int, bytes]:
    """The kind of a value, and its bytes."""
    if value is None:
        return _NONE, b""
    if isinstance(value, bool):
        return _BOOL, struct.pack("=?", value)
    if isinstance(value, int):
        return _INT, struct.pack("=q", value)
    if isinstance(value, float):
        return _FLOAT, struct.pack("=d", value)
    if isinstance(value, str):
        return _STR, value.encode()
    if isinstance(value, bytes):
        return _BYTES, value
    raise TypeError(f"a ShareableList can't have items of type {type(value).__name__}")


def _unpack(kind: int, packed: bytes) -> Item:
    if kind == _NONE:
        return None
    if kind == _STR:
        return packed.decode()
    if kind == _BYTES:
        return packed
    value: Item = struct.unpack({_BOOL: "=?", _INT: "=q", _FLOAT: "=d"}[kind], packed)[0]
    return value


def _room(kind: int, packed: bytes) -> int:
    """What is set aside for a value, and for those that come in its place."""
    if kind in (_STR, _BYTES):
        return _ALIGNMENT * (len(packed) // _ALIGNMENT + 1)
    return _ALIGNMENT


class ShareableList(Generic[T]):
    """A list of int (of 64 bits), float, bool, str, bytes and None in shared memory, whose length
    doesn't change. A str or bytes can be replaced by one that fits in its room, which is its own size
    rounded up to the next 8 bytes: else ValueError.

    With a sequence, or without a name, it is created, and nobody sees it before its items are in it;
    with a name alone the one that is there is attached. The other arguments are SharedMemory's.
    There is no lock in it: who writes while others read tells them by other means.
    """

    shm: SharedMemory

    def __init__(
        self,
        sequence: Optional[Iterable[T]] = None,
        *,
        name: Optional[str] = None,
        track: bool = True,
        readonly: bool = False,
        sealed: bool = False,
        mode: int = 0o600,
    ) -> None:
        if sequence is None and name is not None:
            self.shm = SharedMemory(name, readonly=readonly, sealed=sealed)
            self._offsets = self._read_offsets()
            return
        if readonly:
            raise ValueError("a list is created for writing: 'readonly' is for attaching")
        packed = [_pack(item) for item in sequence or ()]
        offsets = [_HEAD.size + 8 * (len(packed) + 1)]
        for kind, value in packed:
            offsets.append(offsets[-1] + _SLOT.size + _room(kind, value))

        def fill(buf: memoryview) -> None:
            _HEAD.pack_into(buf, 0, _MAGIC, len(packed))
            struct.pack_into(f"={len(offsets)}Q", buf, _HEAD.size, *offsets)
            for offset, (kind, value) in zip(offsets, packed):
                _put(buf, offset, kind, value)

        self._offsets = offsets
        self.shm = SharedMemory._filled(name, offsets[-1], fill, track, sealed, mode)

    def _read_offsets(self) -> List[int]:
        """Once: they never change, and what others write later can't lead outside of the block."""
        buf = self.shm.buf
        if len(buf) >= _HEAD.size:
            magic, count = _HEAD.unpack_from(buf)
            if magic == _MAGIC and count < (len(buf) - _HEAD.size) // 8:
                offsets = list(struct.unpack_from(f"={count + 1}Q", buf, _HEAD.size))
                ends = offsets[1:]
                if offsets[-1] <= len(buf) and all(
                    end - begin >= _SLOT.size for begin, end in zip(offsets, ends)
                ):
                    return offsets
        raise ValueError(f"the block {self.shm.name!r} is not a ShareableList's")

    def _slot(self, position: int) -> Tuple[int, int]:
        """Where a slot begins, and the room for its value."""
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError("index out of range")
        begin, end = self._offsets[position : position + 2]
        return begin, end - begin - _SLOT.size

    def __getitem__(self, position: int) -> T:
        begin, room = self._slot(position)
        kind, length = _SLOT.unpack_from(self.shm.buf, begin)
        begin += _SLOT.size
        try:
            if length > room:
                raise ValueError
            value = _unpack(kind, bytes(self.shm.buf[begin : begin + length]))
        except (ValueError, KeyError, struct.error):
            raise ValueError(f"item {position} is no value: who writes it?") from None
        return value  # type: ignore[return-value]

    def __setitem__(self, position: int, value: T) -> None:
        begin, room = self._slot(position)
        kind, packed = _pack(value)
        if len(packed) > room:
            raise ValueError(f"{len(packed)} bytes don't fit in the item's {room}")
        _put(self.shm.buf, begin, kind, packed)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[T]:
        return (self[position] for position in range(len(self)))

    def __reduce__(self) -> Tuple[Callable[[], ShareableList[T]], Tuple[()]]:
        shm = self.shm
        attach = partial(
            self.__class__, name=shm.name, readonly=shm._readonly, sealed=shm._sealed
        )
        return attach, ()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({list(self)}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """The items in the terms of the struct module, as the standard library's list has it."""
        formats = []
        for position in range(len(self)):
            begin, room = self._slot(position)
            formats.append(_FORMATS.get(_SLOT.unpack_from(self.shm.buf, begin)[0], f"{room}s"))
        return "".join(formats)

    def count(self, value: object) -> int:
        """How many items are equal to the value."""
        return sum(value == item for item in self)

    def index(self, value: object) -> int:
        """The first position of an item that is equal to the value, or ValueError."""
        for position, item in enumerate(self):
            if value == item:
                return position
        raise ValueError(f"{value!r} is not in this list")


def _put(buf: memoryview, begin: int, kind: int, packed: bytes) -> None:
    _SLOT.pack_into(buf, begin, kind, len(packed))
    begin += _SLOT.size
    buf[begin : begin + len(packed)] = packed
