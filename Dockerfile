# One target per process: operator, renderer, webhooks, courier, and postgres for evaluation.
# Everything that needs a network happens before the build: `make image-context` fills a folder with hash-checked wheels, and
#
#     docker build --target operator --tag unjucks-operator:dev "$(make --silent image-context)"
#
# builds from it. The RUN lines use no shell, so the base image needs none either.
#
# BASE_IMAGE must have a python3 for which the wheels were chosen (3.11 unless told otherwise).
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
# Must have PostgreSQL >= 15 in /usr/lib/postgresql/*/bin or on PATH, and a /bin/sh.
ARG POSTGRES_BASE_IMAGE=docker.io/library/postgres:15-bookworm
# Must have Redis >= 7 as redis-server on PATH, and a /bin/sh.
ARG REDIS_BASE_IMAGE=docker.io/library/redis:7-bookworm

# ---- base: Python, and no pip in the final images ----------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
RUN ["python3", "-c", "import glob, shutil; [shutil.rmtree(p) for n in ('pip', 'setuptools', 'wheel', 'ensurepip') for p in glob.glob(f'/usr/local/lib/python3*/site-packages/{n}*') + glob.glob(f'/usr/lib/python3*/{n}') + glob.glob(f'/usr/local/lib/python3*/{n}')]"]
ENV PATH=/app/own/bin:/app/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 65532:65532

# ---- build stages: dependencies change rarely, our own wheel often, so each has a stage and a layer of its own-------------------
FROM base AS build
USER 0:0
COPY docker/install.py /build/install.py

FROM build AS operator-dependencies
COPY wheels/pip /build/pip
COPY requirements/operator.txt /build/requirements.txt
COPY wheels/operator /build/wheels
RUN ["python3", "/build/install.py", "dependencies"]

FROM build AS operator-own
COPY wheels/own /build/own
RUN ["python3", "/build/install.py", "own", "operator"]

FROM build AS renderer-dependencies
COPY wheels/pip /build/pip
COPY requirements/renderer.txt /build/requirements.txt
COPY wheels/renderer /build/wheels
RUN ["python3", "/build/install.py", "dependencies"]

FROM build AS renderer-own
COPY wheels/own /build/own
RUN ["python3", "/build/install.py", "own", "renderer"]

FROM build AS webhooks-dependencies
COPY wheels/pip /build/pip
COPY requirements/webhooks.txt /build/requirements.txt
COPY wheels/webhooks /build/wheels
RUN ["python3", "/build/install.py", "dependencies"]

FROM build AS webhooks-own
COPY wheels/own /build/own
RUN ["python3", "/build/install.py", "own", "webhooks"]

FROM build AS courier-dependencies
COPY wheels/pip /build/pip
COPY requirements/courier.txt /build/requirements.txt
COPY wheels/courier /build/wheels
RUN ["python3", "/build/install.py", "dependencies"]

FROM build AS courier-own
COPY wheels/own /build/own
RUN ["python3", "/build/install.py", "own", "courier"]

# ---- operator ----------------------------------------------------------------------------------------------------------
FROM base AS operator
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="unjucks-operator" \
      org.opencontainers.image.description="Reconciles tenants, template registries and generation jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=operator-dependencies /app /app
COPY --from=operator-own /app/own /app/own
ENTRYPOINT ["unjucks-operator"]

# ---- renderer ----------------------------------------------------------------------------------------------------------
FROM base AS renderer
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="unjucks-renderer" \
      org.opencontainers.image.description="Renders templates of one tenant, in limited child processes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=renderer-dependencies /app /app
COPY --from=renderer-own /app/own /app/own
ENTRYPOINT ["unjucks-renderer"]

# ---- webhooks ----------------------------------------------------------------------------------------------------------
FROM base AS webhooks
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="unjucks-webhooks" \
      org.opencontainers.image.description="Checks objects before they are stored, and asks for approvals with a second factor" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=webhooks-dependencies /app /app
COPY --from=webhooks-own /app/own /app/own
ENTRYPOINT ["unjucks-webhooks"]

# ---- courier -----------------------------------------------------------------------------------------------------------
FROM base AS courier
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="unjucks-courier" \
      org.opencontainers.image.description="Fetches sources and publishes outputs of one tenant, with its own credentials" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=courier-dependencies /app /app
COPY --from=courier-own /app/own /app/own
ENTRYPOINT ["unjucks-courier"]

# ---- redis: for evaluation only; production brings its own server --------------------------------------------------------
FROM ${REDIS_BASE_IMAGE} AS redis
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="unjucks-redis" \
      org.opencontainers.image.description="Redis for evaluation, as user 65532, in memory only" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}"
COPY docker/passwd /etc/passwd
COPY docker/redis-entrypoint.sh /usr/local/bin/redis-entrypoint
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/bin/sh", "/usr/local/bin/redis-entrypoint"]

# ---- postgres: for evaluation only; production brings its own server -----------------------------------------------------
FROM ${POSTGRES_BASE_IMAGE} AS postgres
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="unjucks-postgres" \
      org.opencontainers.image.description="PostgreSQL for evaluation, as user 65532, data in /data" \
      org.opencontainers.image.licenses="PostgreSQL" \
      org.opencontainers.image.version="${VERSION}"
COPY docker/passwd /etc/passwd
COPY docker/postgres-entrypoint.sh /usr/local/bin/postgres-entrypoint
COPY docker/bootstrap.sql /usr/local/share/unjucks/bootstrap.sql
COPY docker/databases.sql /usr/local/share/unjucks/databases.sql
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/bin/sh", "/usr/local/bin/postgres-entrypoint"]
