# Two images: `api` for the API, the relay and migrations; `worker`, which has torch besides. docker-compose.yml uses both.
FROM python:3.12.12-slim-bookworm AS api
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[s3]' \
    && useradd --create-home --uid 10001 topwork \
    && mkdir /data && chown topwork /data
USER topwork
EXPOSE 8000

FROM api AS worker
# Where torch for a CPU is, a tenth of the size; https://pypi.org/simple has the one for GPUs.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
USER root
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "$TORCH_INDEX" '.[s3,worker]'
USER topwork
