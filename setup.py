"""The server is folders of a checkout, or an image: it never goes into a site-packages that others share."""

from __future__ import annotations

import os

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel

ALLOWED = "TOPWORK_IMAGE"  # the Dockerfile sets it: nothing else is installed there


class Refusing(bdist_wheel):
    """A wheel would put the names api, cli, core, migrations and worker beside, and over, those of other packages."""

    def run(self) -> None:
        if not os.environ.get(ALLOWED):
            raise SystemExit(
                "Topwork's server is not installed as a package, which would overwrite others named api, core, cli, "
                "worker or migrations. In a checkout: make venv, or pip install -e ./client -e '.[dev]'. Elsewhere: "
                "the image (docker compose up --build). The client alone: pip install ./client"
            )
        super().run()


setup(cmdclass={"bdist_wheel": Refusing})
