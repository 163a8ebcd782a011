# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything but the version stands in pyproject.toml: that has its only home in configure.ac."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
PLACES = (
    (HERE / "PKG-INFO", r"^Version: (.+)$"),  # of a source distribution, which is only this folder
    (HERE.parent.parent / "configure.ac", r"^AC_INIT\(\[shmbroker\], \[(.+)\]\)$"),
)


def version():
    for place, pattern in PLACES:
        if place.exists():
            return re.search(pattern, place.read_text(), re.MULTILINE).group(1)
    raise SystemExit("the version is not known here: build in the project's own tree")


setup(version=version())
