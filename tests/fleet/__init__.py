"""The fleet of docker-compose.yml in real containers: base images made of Debian packages, services started by Docker.

Not part of `make test`, since it needs root and Docker: `make fleet`.
"""
