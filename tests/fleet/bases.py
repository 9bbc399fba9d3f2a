"""Base images made of Debian packages, named as Dockerfile and docker-compose.yml name them: for where no registry is.

What pip needs on this machine (a certificate, wheels in a folder) is put into that of Python, since builds run inside.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEBIAN = "topwork-debian:bookworm"
PYTHON = """
FROM {debian}
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pip /pip
ENV {environment}
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/* \\
    && ln -s python3 /usr/bin/python && pip install --no-cache-dir --upgrade pip
CMD ["python"]
"""
POSTGRES = """
FROM {debian}
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/* \\
    && mkdir -p /var/lib/postgresql/data && chown postgres /var/lib/postgresql/data \\
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
COPY entrypoint /entrypoint
VOLUME /var/lib/postgresql/data
USER postgres
ENTRYPOINT ["sh", "/entrypoint"]
CMD ["postgres"]
"""
# What the published image's own entrypoint does with the variables that the compose file sets.
POSTGRES_ENTRYPOINT = r"""
set -e
export PGDATA=/var/lib/postgresql/data
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb --encoding UTF8 --locale C.UTF-8 --username "$POSTGRES_USER" --pwfile /tmp/password \
        --auth-host scram-sha-256 > /dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
    pg_ctl --wait --options "-c listen_addresses= -c unix_socket_directories=/tmp" start > /dev/null
    createdb --host /tmp --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait stop > /dev/null
fi
exec "$@"
"""
REDIS = r"""
FROM {debian}
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
WORKDIR /data
RUN chown redis /data
USER redis
ENTRYPOINT ["sh", "-c", "exec \"$@\" --protected-mode no", "redis"]
CMD ["redis-server"]
"""


def named(pattern: str) -> str:
    """The image that Dockerfile or compose file names."""
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "docker-compose.yml").read_text()
    found = re.search(rf"(?:FROM|image:) ({pattern}:\S+)", text)
    assert found, pattern
    return found[1]


def docker(*words: str, stdin: bytes | None = None) -> str:
    """Run a command of Docker; what it prints."""
    done = subprocess.run(["docker", *words], input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(words[:3])}: {done.stderr.decode(errors='replace')[-3000:]}")
    return done.stdout.decode().strip()


def there(image: str) -> bool:
    """Whether the image is on this machine."""
    return bool(docker("images", "--quiet", image))


def make_debian() -> None:
    """A minimal Debian by debootstrap."""
    with tempfile.TemporaryDirectory() as folder:
        include = "--include=ca-certificates"
        subprocess.run(
            ["debootstrap", "--variant=minbase", include, "bookworm", folder], check=True, stdout=subprocess.DEVNULL
        )
        packed = subprocess.run(["tar", "-C", folder, "-c", "."], check=True, stdout=subprocess.PIPE).stdout
    docker("import", "-", DEBIAN, stdin=packed)


def build(image: str, file: str, **files: str | Path) -> None:
    """Build an image of the text of a Dockerfile, beside files and folders."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(file)
        for name, content in files.items():
            if isinstance(content, Path):
                shutil.copytree(content, Path(folder) / name)
            else:
                (Path(folder) / name).write_text(content)
        docker("build", "--quiet", "--tag", image, folder)


def pip_here(target: Path) -> str:
    """Copy what pip is told here, but for more indices, into `target`; the variables that say so inside."""
    target.mkdir()
    said = dict(
        line.split("=", 1) for line in subprocess.check_output(["pip", "config", "list"], text=True).splitlines()
    )
    options = {name.partition(".")[2]: value.strip("'") for name, value in said.items()}
    variables = {}
    certificate = options.get("cert") or os.environ.get("SSL_CERT_FILE")
    if certificate and Path(certificate).exists():
        shutil.copy(certificate, target / "certificates.pem")
        variables |= {"PIP_CERT": "/pip/certificates.pem", "SSL_CERT_FILE": "/pip/certificates.pem"}
    for folder in options.get("find-links", "").split():
        shutil.copytree(folder, target / "wheels", dirs_exist_ok=True)
        variables["PIP_FIND_LINKS"] = "/pip/wheels"
    variables |= {"PIP_INDEX_URL": options["index-url"]} if "index-url" in options else {}
    return " ".join(f"{name}={value}" for name, value in {"TOPWORK_PIP": "1", **variables}.items())


def make() -> None:
    """Make what is not there yet."""
    if not there(DEBIAN):
        make_debian()
    if not there(image := named("python")):
        with tempfile.TemporaryDirectory() as folder:
            variables = pip_here(Path(folder) / "pip")
            build(image, PYTHON.format(debian=DEBIAN, environment=variables), pip=Path(folder) / "pip")
    if not there(image := named("postgres")):
        build(image, POSTGRES.format(debian=DEBIAN), entrypoint=POSTGRES_ENTRYPOINT)
    if not there(image := named("redis")):
        build(image, REDIS.format(debian=DEBIAN))


if __name__ == "__main__":
    make()
