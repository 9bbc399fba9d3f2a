# One image for the API, the relay and the workers; docker-compose.yml says which part a container plays.
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -c constraints.txt . \
    && useradd --create-home --uid 10001 topwork \
    && mkdir /data && chown topwork /data
USER topwork
EXPOSE 8000
