# The image of Footfall: the locked dependencies and the service, without build tools and embedded servers.
#
#     docker build -t footfall .
#     docker run --rm footfall --help
#
# Settings come from /etc/footfall/footfall.toml (mount it) and from the environment. The volume
# /var/lib/footfall holds the spool. deploy/compose.yaml adds Redis and PostgreSQL.

# deploy/pin-images.sh puts the digest of the day behind the tag; --build-arg takes another base that has Python.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/footfall
COPY requirements.lock /build/
RUN /opt/footfall/bin/pip install --only-binary=:all: --require-hashes -r /build/requirements.lock \
    && /opt/footfall/bin/pip uninstall --yes pip setuptools
# Footfall itself needs no build: Python, SQL, Lua and static files run from their source folders.
COPY service /opt/footfall/app/service
COPY sql /opt/footfall/app/sql
COPY LICENSE /opt/footfall/app/
RUN python -m compileall -q /opt/footfall/app

FROM ${PYTHON_IMAGE}
# A numeric id lets an orchestrator see, without the image's user list, that the user is not root.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin footfall \
    && install -d -o footfall -g footfall -m 0700 /var/lib/footfall
COPY --from=build /opt/footfall /opt/footfall
# Listening on all interfaces is safe here: `docker run --publish` decides which ports the outside reaches.
# Do not publish the ops listener (8081): it shows the metrics to every client.
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
# Batches wait here for Redis after their answer 202: without a lasting volume they are lost with the container.
VOLUME /var/lib/footfall
EXPOSE 8080
STOPSIGNAL SIGTERM
# 401 is healthy too: the process answers, and asks for the token of FOOTFALL_OPS_TOKEN.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import os, http.client as http; \
port = int(os.environ['FOOTFALL_OPS_LISTEN'].rpartition(':')[2]); \
ops = http.HTTPConnection('127.0.0.1', port, timeout=4); \
ops.request('GET', '/healthz'); \
raise SystemExit(ops.getresponse().status not in (200, 401))"]
ENTRYPOINT ["python", "-m", "footfall"]
CMD ["serve"]
