# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls of libshmbroker that this package needs, by ctypes, with OSError for what fails.

They let other Python threads run while they wait. What is opened or unlinked by name goes through
the library's drop-ins, which bear threads, fork, changed ids and a restarted broker. A new object has
a connection of its own: what was not published goes with it.
"""

from __future__ import annotations

import ctypes
import os
from types import TracebackType
from typing import Optional, Type

_SONAME = "libshmbroker.so.0"

TEMPORARY = 1 << 0  # SHMB_TEMPORARY
UNPUBLISHED = 1 << 1  # SHMB_UNPUBLISHED
SEALED = 1 << 3  # SHMB_SEALED


class _How(ctypes.Structure):
    """struct shmb_how. Its size goes along, so a library that knows a longer one takes this, too."""

    _fields_ = [(field, ctypes.c_uint64) for field in ("oflag", "mode", "size", "flags")]


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_SONAME, use_errno=True)
    except OSError as error:
        raise ImportError(f"shmbroker needs its C library: {error}") from error
    name, connection = ctypes.c_char_p, ctypes.c_void_p
    for function, arguments in {
        "shmb_shm_open": (name, ctypes.c_int, ctypes.c_uint),
        "shmb_shm_unlink": (name,),
        "shmb_connect": (ctypes.POINTER(connection), ctypes.c_char_p),
        "shmb_disconnect": (connection,),
        "shmb_open_how": (connection, name, ctypes.POINTER(_How), ctypes.c_size_t),
        "shmb_publish": (connection, name, ctypes.c_uint),
        "shmb_reason": (connection,),
    }.items():
        getattr(library, function).argtypes = arguments
    library.shmb_disconnect.restype = None
    library.shmb_reason.restype = ctypes.c_char_p
    return library


_library = _load()


def _encode(name: str) -> bytes:
    # ctypes would end it there without a word.
    if "\0" in name:
        raise ValueError("embedded null character")
    return os.fsencode(name)


def failure(code: int, reason: str, name: str) -> OSError:
    """The OSError, of the class that belongs to errno, that says why."""
    text = os.strerror(code)
    return OSError(code, f"{text}: {reason}" if reason else text, "/" + name)


def _failed(code: int, connection: Optional[ctypes.c_void_p], name: str) -> OSError:
    return failure(code, os.fsdecode(_library.shmb_reason(connection)), name)


def open(name: str, flags: int) -> int:
    """A descriptor of an object that is there."""
    fd: int = _library.shmb_shm_open(_encode(name), flags, 0)
    if fd < 0:
        raise _failed(ctypes.get_errno(), None, name)
    return fd


def unlink(name: str) -> None:
    if _library.shmb_shm_unlink(_encode(name)) < 0:
        raise _failed(ctypes.get_errno(), None, name)


class Unpublished:
    """A new object that has no name yet, on a connection of its own: for one thread.

    Leaving it without publish() leaves nothing of it.
    """

    fd = -1

    def __init__(self, name: str, size: int, flags: int, mode: int) -> None:
        self._connection = ctypes.c_void_p()
        self._name = name
        self._encoded = _encode(name)
        # A size that doesn't fit is one that the library refuses, not what is left of its bits.
        how = _How(os.O_RDWR | os.O_CREAT, mode & 0o777, min(size, 2**64 - 1), flags | UNPUBLISHED)
        try:
            try:
                self._open(how)
            except ConnectionResetError:
                # The broker was restarted meanwhile, and nothing has been made.
                self.close()
                self._open(how)
        except BaseException:
            self.close()
            raise

    def _open(self, how: _How) -> None:
        result: int = _library.shmb_connect(ctypes.byref(self._connection), None)
        if result < 0:
            raise _failed(-result, None, self._name)
        result = _library.shmb_open_how(
            self._connection, self._encoded, ctypes.byref(how), ctypes.sizeof(how)
        )
        if result < 0:
            raise _failed(-result, self._connection, self._name)
        self.fd = result

    def publish(self) -> None:
        """Gives it its name; FileExistsError if that is taken."""
        result: int = _library.shmb_publish(self._connection, self._encoded, 0)
        if result < 0:
            raise _failed(-result, self._connection, self._name)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        _library.shmb_disconnect(self._connection)
        self._connection = ctypes.c_void_p()

    def __enter__(self) -> Unpublished:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
