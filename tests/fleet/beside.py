"""Images of what the tests need besides those of the compose file, of Debian's and PyPI's packages."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

from tests.fleet.bases import DEBIAN, ROOT, build, named, there

HERE = Path(__file__).parent
# What .env says of the S3 server.
STORAGE = {"TOPWORK_STORAGE_URL": "s3://topwork/fleet", "AWS_ENDPOINT_URL": "http://s3:5000"}
STORAGE |= {"AWS_ACCESS_KEY_ID": "fleet", "AWS_SECRET_ACCESS_KEY": "fleet", "AWS_DEFAULT_REGION": "us-east-1"}
S3 = """
FROM {python}
RUN pip install --no-cache-dir 'moto[s3]' flask flask-cors
CMD ["moto_server", "--host", "0.0.0.0", "--port", "5000"]
"""
NGINX = """
FROM {debian}
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*
COPY nginx /etc/nginx/nginx.conf
CMD ["nginx", "-g", "daemon off;"]
"""
# Our image under a clock that libfaketime sets: FAKETIME=+3600.
CLOCK = """
FROM {ours}
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libfaketime && rm -rf /var/lib/apt/lists/* \\
    && ln -s /usr/lib/*/faketime/libfaketime.so.1 /usr/local/lib/
ENV LD_PRELOAD=/usr/local/lib/libfaketime.so.1 DONT_FAKE_MONOTONIC=1
USER topwork
"""
# Our image as a version to come, whose schema has one table more.
NEWER = """
FROM {ours}
USER root
COPY newer /tmp/newer
RUN for folder in /app $(python -P -c 'import migrations; print(migrations.__path__[0] + "/..")'); do \\
    cp /tmp/newer "$folder/migrations/versions/9999_newer.py"; done
USER topwork
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999_newer", {newest!r}


def upgrade() -> None:
    op.create_table("newer", sa.Column("id", sa.String, primary_key=True))
"""


def make() -> None:
    """Make what is not there yet; images that stand on ours, which may have changed, are made anew."""
    if not there("topwork-s3"):
        build("topwork-s3", S3.format(python=named("python")))
    build("topwork-nginx", NGINX.format(debian=DEBIAN), nginx=(HERE / "nginx.conf").read_text())
    newer = MIGRATION.format(newest=ScriptDirectory(str(ROOT / "migrations")).get_current_head())
    for name in ("topwork-api", "topwork-worker"):
        build(f"{name}-clock", CLOCK.format(ours=name))
        build(f"{name}-newer", NEWER.format(ours=name), newer=newer)
