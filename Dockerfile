# Two images: `api` for the API, the relay and migrations; `worker`, which has torch besides. docker-compose.yml uses both.
FROM python:3.12.12-slim-bookworm AS api
WORKDIR /app
COPY . .
# Nothing else is installed here, whose packages those of the server could overwrite (setup.py).
ENV TOPWORK_IMAGE=1
RUN pip install --no-cache-dir -c constraints.txt ./client '.[s3]' \
    && useradd --create-home --uid 10001 topwork \
    && mkdir /data && chown topwork /data
USER topwork
EXPOSE 8000

FROM api AS worker
# torch comes with CUDA; its project has an index of builds for CPUs, a tenth of the size: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL
USER root
RUN pip install --no-cache-dir -c constraints.txt '.[s3,worker]'
USER topwork
