# Two images: `api` for the API, the relay and migrations; `worker`, which has torch besides. docker-compose.yml uses both.
# What they need comes first, so that a change of the code installs none of it again.
ARG REQUIRED="import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*p['dependencies'], *(one for extra in sys.argv[1:] for one in p['optional-dependencies'][extra]), sep='\\n')"
FROM python:3.12.12-slim-bookworm AS api-packages
RUN useradd --create-home --uid 10001 topwork && mkdir -p /data/models && chown -R topwork /data
WORKDIR /app
COPY constraints.txt pyproject.toml ./
ARG REQUIRED
RUN python -c "$REQUIRED" s3 > /tmp/packages && pip install --no-cache-dir -c constraints.txt -r /tmp/packages

# Nothing else is installed here, whose packages those of the server could overwrite (setup.py).
ENV TOPWORK_IMAGE=1

FROM api-packages AS worker-packages
# torch comes with CUDA; its project has an index of builds for CPUs, a tenth of the size: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL
ARG REQUIRED
RUN python -c "$REQUIRED" s3 worker > /tmp/packages && pip install --no-cache-dir -c constraints.txt -r /tmp/packages

FROM api-packages AS api
COPY . .
RUN pip install --no-cache-dir --no-deps ./client .
USER topwork
EXPOSE 8000

FROM worker-packages AS worker
COPY . .
RUN pip install --no-cache-dir --no-deps ./client .
USER topwork
