# Footfall as an image: the locked dependencies, the service, and nothing that builds or embeds anything.
#
#     docker build -t footfall .
#     docker run --rm footfall --help
#
# Settings come from /etc/footfall/footfall.toml (mount it) and from the environment; the spool is the volume
# /var/lib/footfall. deploy/compose.yaml shows it with Redis and PostgreSQL beside it.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/footfall
COPY requirements.lock /build/
RUN /opt/footfall/bin/pip install --only-binary=:all: --require-hashes -r /build/requirements.lock \
    && /opt/footfall/bin/pip uninstall --yes pip setuptools
# Footfall itself needs no build: Python, SQL, Lua and static files are read from where they are.
COPY service /opt/footfall/app/service
COPY sql /opt/footfall/app/sql
COPY LICENSE /opt/footfall/app/
RUN python -m compileall -q /opt/footfall/app

FROM python:${PYTHON_VERSION}-slim
# A number, so that an orchestrator can see that it is not root without asking the image.
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin footfall \
    && install -d -o footfall -g footfall -m 0700 /var/lib/footfall
COPY --from=build /opt/footfall /opt/footfall
# Within a container every interface is its own; what of it the outside reaches is said where it is run.
# The ops listener (8081) shows metrics to whoever reaches it: do not publish it.
ENV PATH=/opt/footfall/bin:$PATH \
    PYTHONPATH=/opt/footfall/app/service \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FOOTFALL_CONFIG=/etc/footfall/footfall.toml \
    FOOTFALL_DATA_DIR=/var/lib/footfall \
    FOOTFALL_LISTEN=0.0.0.0:8080 \
    FOOTFALL_OPS_LISTEN=0.0.0.0:8081
USER 10001:10001
WORKDIR /var/lib/footfall
# Batches that wait here for Redis have been answered 202: without a lasting volume they end with the container.
VOLUME /var/lib/footfall
EXPOSE 8080
STOPSIGNAL SIGTERM
# 401 is healthy too: the process answers, and only wants the token of FOOTFALL_OPS_TOKEN.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import os, http.client as http; \
port = int(os.environ['FOOTFALL_OPS_LISTEN'].rpartition(':')[2]); \
ops = http.HTTPConnection('127.0.0.1', port, timeout=4); \
ops.request('GET', '/healthz'); \
raise SystemExit(ops.getresponse().status not in (200, 401))"]
ENTRYPOINT ["python", "-m", "footfall"]
CMD ["serve"]
