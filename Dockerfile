# The service alone: no compiler, no tests, not root. Build: docker build -t hotpath .
FROM python:3.13-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake libssl-dev pkg-config swig \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE setup.py ./
COPY qel qel
COPY hotpath hotpath
RUN python -m venv /opt/hotpath \
    && /opt/hotpath/bin/pip install --no-cache-dir '.[cluster]' \
    && /opt/hotpath/bin/pip uninstall --yes pip

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="hotpath" \
      org.opencontainers.image.description="A filtered, live feed of industrial data" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin hotpath \
    && install -d -o hotpath -g hotpath -m 0700 /data
COPY --from=build /opt/hotpath /opt/hotpath
ENV PATH=/opt/hotpath/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOTPATH_DATA_DIR=/data \
    HOTPATH_HTTP=0.0.0.0:8080 \
    HOTPATH_AMQP=0.0.0.0:5672 \
    HOTPATH_LOG_JSON=1
USER hotpath
VOLUME /data
EXPOSE 8080 5672
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["hotpath", "health", "--ready"]
ENTRYPOINT ["hotpath"]
CMD ["serve"]
