# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private broker for the tests, and what they ask about a place.

SHMBROKERD names the daemon; the library is found as everywhere, by LD_LIBRARY_PATH for instance.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import unittest
from typing import List, NoReturn, Optional

from shmbroker import SharedMemory

PATIENCE_S = 60  # for what comes at once: only a hanging test waits so long

_CONFIGURATION = """
pools: {{
    blocks: {{ {blocks} }}
    small:  {{ {small} }}
}}
rules: (
    {{ name = "small is small"  names = "/small-*"  allow = "all"  pool = "small" }},
    {{ name = "not these"       names = "/secret-*" allow = [] }},
    {{ name = "everything"      names = "/*"  allow = "all"  pool = "blocks" }}
)
"""


def left_out(test: unittest.TestCase, why: str) -> NoReturn:
    """Skips a test that this place can't have; with CI=true that is an error."""
    if os.environ.get("CI") == "true":
        test.fail(f"left out: {why}")
    print(f"left out: {why}", flush=True)
    raise unittest.SkipTest(why)


class Broker:
    """Runs until stop(); its socket is SHMBROKER_SOCKET from start() on."""

    private = True  # its pools have quotas, and read-only grants

    def __init__(self) -> None:
        self._place = ""
        self._scratch: List[str] = []
        self._daemon: Optional[subprocess.Popen[bytes]] = None
        self.socket = ""

    def start(self) -> None:
        if not self._place:
            self._place = tempfile.mkdtemp(prefix="shmbroker-python.")
            os.chmod(self._place, 0o711)  # those of other ids have to reach the socket
            self.socket = os.path.join(self._place, "run", "socket")
            os.mkdir(os.path.dirname(self.socket))
        os.environ["SHMBROKER_SOCKET"] = self.socket
        if not self._scratch:
            self._configure('size = "16M"  objects = 256', 'size = "256K"  objects = 4')
            if self._run():
                return
            # No namespaces for private pools: directories of the machine's own tmpfs instead.
            self.private = False
            self._scratch = [
                tempfile.mkdtemp(prefix="shmbroker-python.", dir="/dev/shm") for _ in range(2)
            ]
            self._configure(*(f'path = "{path}"  access = "grant"' for path in self._scratch))
        if not self._run():
            raise RuntimeError("the broker did not start:\n" + self._log())

    def _configure(self, blocks: str, small: str) -> None:
        with open(os.path.join(self._place, "shmbroker.conf"), "w") as file:
            file.write(_CONFIGURATION.format(blocks=blocks, small=small))

    def _run(self) -> bool:
        command = [os.environ["SHMBROKERD"], f"--socket={self.socket}"]
        command.append(f"--config={self._place}/shmbroker.conf")
        if os.geteuid() != 0:
            command.append("--user")
        with open(os.path.join(self._place, "log"), "ab") as log:
            self._daemon = subprocess.Popen(command, stderr=log)
        until = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > until:
                self.end()
                return False
            time.sleep(0.01)
        return True

    def _answers(self) -> bool:
        try:
            SharedMemory("no-such-block")
        except FileNotFoundError:
            return True
        except (ConnectionRefusedError, ConnectionResetError):
            pass
        return False

    def _log(self) -> str:
        with open(os.path.join(self._place, "log")) as file:
            return file.read()

    def end(self) -> None:
        """The daemon alone: its place is kept for the next start()."""
        if self._daemon:
            self._daemon.terminate()
            self._daemon.wait()
            self._daemon = None

    def stop(self) -> None:
        self.end()
        for path in [self._place, *self._scratch]:
            shutil.rmtree(path)
