# One image for every service of the mesh: `mesh router`, `mesh agent ...`, `mesh topics apply`. What it runs is the command after its name.
#
#   docker build -t agent-mesh .
#   docker run --rm agent-mesh --help
#
# The base image is pinned by the digest of its index, so it is the same for every build, on amd64 and arm64. For a newer one:
# `docker buildx imagetools inspect python:TAG` prints the digest. `--build-arg BASE=...` takes another base: a mirror's, say.

ARG BASE=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/mesh
# Dependencies first, so that a change of code does not fetch them again; each from the lock, by its hash.
COPY requirements.lock requirements-build.lock ./
RUN pip install --require-hashes --no-deps -r requirements-build.lock \
    && /opt/mesh/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY mesh mesh
COPY agents agents
COPY topics topics
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/mesh/bin/pip install --no-deps --no-index /tmp/wheel/*.whl \
    && /opt/mesh/bin/pip uninstall --yes --quiet setuptools pip

FROM ${BASE}
RUN groupadd --gid 10001 mesh \
    && useradd --uid 10001 --gid mesh --no-create-home --home-dir /var/lib/mesh --shell /usr/sbin/nologin mesh \
    && install --directory --owner mesh --group mesh /var/lib/mesh
COPY --from=build /opt/mesh /opt/mesh
# The agents that this image runs, under the names that the compose file gives them; the wheel itself owns `mesh` alone.
COPY agents /opt/agents/agents
COPY agents/issue_triage/routes /etc/mesh/routes
COPY agents/issue_triage/approvers.yaml /etc/mesh/approvers.yaml
ENV PATH=/opt/mesh/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/agents \
    MESH_DATA_DIR=/var/lib/mesh \
    MESH_ROUTES=/etc/mesh/routes \
    MESH_APPROVERS=/etc/mesh/approvers.yaml \
    MESH_LOG_FORMAT=json
USER 10001:10001
# Checkpoints, read models, an agent's own files: caches and the agents' memory. The log is the broker's.
WORKDIR /var/lib/mesh
VOLUME /var/lib/mesh
STOPSIGNAL SIGTERM
# The service's event loop touches a file; this fails when the loop hangs, never because the broker is away: who starts unhealthy
# containers again (Swarm, podman) must not do it then. Where readiness is meant (compose, the chart) it is `mesh health --ready`.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s --retries=3 CMD ["mesh", "health"]
ENTRYPOINT ["mesh"]
CMD ["--help"]
