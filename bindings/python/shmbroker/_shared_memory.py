# SPDX-License-Identifier: LGPL-2.1-or-later
"""SharedMemory: one block of shared memory, created or attached."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
from functools import partial
from typing import Callable, Optional, Tuple

from . import _library

# As multiprocessing.shared_memory's, so that an administrator's rule can speak of both.
_RANDOM_PREFIX = "psm_"

# In one call: a signal takes back all that the call it interrupts has got so far.
_RESERVE_BYTES = 256 * 1024

_F_GET_SEALS = 1024 + 10
_SIZE_SEALS = 0x2 | 0x4  # F_SEAL_SHRINK, F_SEAL_GROW
_WRITE_SEALS = 0x8 | 0x10  # F_SEAL_WRITE, F_SEAL_FUTURE_WRITE


def _reserve(fd: int, size: int, name: str) -> None:
    """Has all of its memory there, charged to this process, so that no access is a SIGBUS."""
    try:
        for offset in range(0, size, _RESERVE_BYTES):
            os.posix_fallocate(fd, offset, min(_RESERVE_BYTES, size - offset))
    except OSError as error:
        raise _library.failure(
            error.errno or errno.EIO, "there is not enough memory for all of it", name
        ) from None


def _is_sealed(fd: int) -> bool:
    try:
        seals = fcntl.fcntl(fd, _F_GET_SEALS)
    except OSError:
        return False
    return seals & _SIZE_SEALS == _SIZE_SEALS and seals & _WRITE_SEALS != 0


def _has_views(mapped: mmap.mmap) -> bool:
    """mmap tells it nobody but by what it refuses: resizing, and to this size in any case."""
    try:
        mapped.resize(-1)
    except BufferError:
        return True
    except (ValueError, TypeError, SystemError, OSError):
        pass
    return False


class SharedMemory:
    """A block of shared memory that processes find by its name.

    name: one component, without a slash but at its beginning, where it doesn't count. None: a
    random one, beginning with "psm_", for a block that is created.
    create: makes a new block of `size` bytes, all zero; FileExistsError if the name is taken. It
    appears whole: it has its size and all of its memory before it has its name, or there is no
    block. Without, the block that is there is attached, whose size is its own.

    track: a block that is created is temporary: its name goes when this process ends, however it
    ends. Without, it stays until somebody unlinks it. A block that was attached is never touched.
    readonly: attaches for reading alone, which nobody can change afterwards.
    sealed: a block that is created can never change its size and never be written by others; this
    object alone goes on writing. Attaching, it insists on such a block (else PermissionError), and
    reads alone: no access can then be a SIGBUS. A sealed block can't be attached without
    readonly or sealed.
    mode: the permission bits of a block that is created, without the umask's.

    What fails is an OSError of the class that belongs to its errno: FileNotFoundError,
    PermissionError with the rule that decided, ConnectionRefusedError without a broker, ENOSPC over
    a quota. A block without bytes, as others can make them, is a ValueError.
    """

    _mmap: Optional[mmap.mmap]
    _buf: Optional[memoryview]

    def __init__(
        self,
        name: Optional[str] = None,
        create: bool = False,
        size: int = 0,
        *,
        track: bool = True,
        readonly: bool = False,
        sealed: bool = False,
        mode: int = 0o600,
    ) -> None:
        if size < 0:
            raise ValueError("'size' must not be negative")
        if create:
            if readonly:
                raise ValueError("a block is created for writing: 'readonly' is for attaching")
            self._create(name, size, track, sealed, mode)
        elif name is None:
            raise ValueError("'name' can only be None with create=True")
        else:
            self._attach(name, readonly, sealed)

    @classmethod
    def _filled(
        cls,
        name: Optional[str],
        size: int,
        fill: Callable[[memoryview], None],
        track: bool,
        sealed: bool,
        mode: int,
    ) -> SharedMemory:
        """A created block in which nobody ever sees anything but what `fill` has put there."""
        block = cls.__new__(cls)
        block._create(name, size, track, sealed, mode, fill)
        return block

    def _create(
        self,
        name: Optional[str],
        size: int,
        track: bool,
        sealed: bool,
        mode: int,
        fill: Optional[Callable[[memoryview], None]] = None,
    ) -> None:
        if size == 0:
            raise ValueError("'size' must be positive with create=True")
        flags = _library.TEMPORARY if track else 0
        if sealed:
            flags |= _library.SEALED
        if name is not None:
            self._make(name.lstrip("/"), size, flags, mode, fill)
        else:
            while True:
                try:
                    self._make(_RANDOM_PREFIX + secrets.token_hex(8), size, flags, mode, fill)
                    break
                except FileExistsError:
                    continue
        self._readonly = False
        self._sealed = sealed

    def _make(
        self,
        name: str,
        size: int,
        flags: int,
        mode: int,
        fill: Optional[Callable[[memoryview], None]],
    ) -> None:
        with _library.Unpublished(name, size, flags, mode) as new:
            _reserve(new.fd, size, name)
            # Before it is published: a sealed one can't be mapped for writing later.
            mapped = mmap.mmap(new.fd, size)
            try:
                if fill:
                    with memoryview(mapped) as view:
                        fill(view)
                new.publish()
            except BaseException:
                # Now, not when the last one who keeps the exception has let go of it.
                mapped.close()
                raise
        self._keep(name, mapped)

    def _attach(self, name: str, readonly: bool, sealed: bool) -> None:
        name = name.lstrip("/")
        readonly = readonly or sealed
        fd = _library.open(name, os.O_RDONLY if readonly else os.O_RDWR)
        try:
            if sealed and not _is_sealed(fd):
                raise _library.failure(errno.EACCES, "it is not sealed", name)
            if os.fstat(fd).st_size == 0:
                raise ValueError(f"the block {name!r} has no bytes")
            access = mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE
            mapped = mmap.mmap(fd, 0, access=access)
        finally:
            os.close(fd)
        self._readonly = readonly
        self._sealed = sealed
        self._keep(name, mapped)

    def _keep(self, name: str, mapped: mmap.mmap) -> None:
        self._name = name
        self._mmap = mapped
        self._size = len(mapped)
        self._buf = memoryview(mapped)

    def __reduce__(self) -> Tuple[Callable[[], SharedMemory], Tuple[()]]:
        """Pickled, it attaches to the block of that name, with no more rights than here."""
        attach = partial(
            self.__class__, self._name, readonly=self._readonly, sealed=self._sealed
        )
        return attach, ()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview:
        """The memory; one that can't be written where the block was attached so. After close() None,
        which its type doesn't say: each use would have to ask."""
        return self._buf  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """The block's name, without a slash."""
        return self._name

    @property
    def size(self) -> int:
        """The block's size in bytes, exactly as it was created."""
        return self._size

    def close(self) -> None:
        """Gives up this access to the memory; the block stays. BufferError while a view of buf is
        still in use: it can be called again later. An array of numpy's that is no view in this
        sense stays good, and the memory is let go with it. Closing twice is fine, and not closing
        at all, too: then it goes with this object and all views."""
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            if _has_views(self._mmap):
                raise BufferError("views of the block are still in use")
            # mmap.close() would take the memory from under numpy.ndarray(buffer=...), which keeps
            # the mmap itself, and no view of it.
            self._mmap = None

    def unlink(self) -> None:
        """Removes the name. Whoever has the block open keeps it, and nobody else can have it."""
        _library.unlink(self._name)
