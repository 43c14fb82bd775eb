# The image of workers, flow runs and servers: this checkout and its locked packages at /app, for a user without rights.
# docs/docker.md says how to build and run it.

# Any image with Python 3.11 to 3.13 and its venv module.
ARG BASE=python:3.13-slim-trixie
FROM ${BASE}

# The state folder belongs to the user, and so does a new volume that is mounted on it.
RUN useradd --uid 1000 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin dcgan \
    && install --directory --owner dcgan --group dcgan /state

WORKDIR /app

# Packages first: they are a layer of gigabytes, which another version of the code leaves as it is. All are wheels, so
# nothing is compiled and no second stage is needed. `LOCKS="gpu production"` adds CUDA's libraries.
ARG LOCKS=production
COPY requirements requirements
RUN python3 -m venv .venv \
    && for lock in ${LOCKS}; do \
         .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
           --requirement "requirements/$lock.txt" || exit; \
       done

# The code is compiled here, because its folder cannot be written where the image runs.
COPY . .
RUN .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-index \
      --editable . \
    && .venv/bin/python -m compileall -q dcgan flows operations tasks tracking \
    && .venv/bin/python -m operations.make_templates \
    && rm --recursive .state

# No telemetry, no pickles from a registry, and nothing written outside /state and /tmp.
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/tmp \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GIT_PYTHON_REFRESH=quiet \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
    DCGAN_HOME=/app \
    DCGAN_STATE=/state \
    PREFECT_HOME=/state/prefect

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dcgan" \
      org.opencontainers.image.description="An operated DCGAN training pipeline: Prefect flows, a Keras model, MLflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 1000:1000
VOLUME /state

# What a worker answers; a container that is no worker needs a check of its own, or none.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]

CMD ["dcgan", "worker", "--pool", "gpu", "--with-healthcheck"]
