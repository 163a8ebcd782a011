# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shared memory between processes, opened by a broker.

SharedMemory and ShareableList have the interface of multiprocessing.shared_memory's. What they name
is opened by shmbroker, by its policy and within its quotas: a program that can't reach /dev/shm has
them, too, and a block that was opened for reading alone stays so for good.

The C library libshmbroker.so.0 is needed, and nothing else.
"""

from ._shareable_list import ShareableList
from ._shared_memory import SharedMemory

__all__ = ["SharedMemory", "ShareableList"]
