# An MCP server from PyPI as a container image: SERVER is the package, VERSION what its lock file pins, COMMAND its
# console script. See compose.yaml beside this file.
ARG PYTHON_BASE=python:3.13-slim

FROM ${PYTHON_BASE} AS install
RUN python3 -m venv /build && python3 -m venv --without-pip /server
COPY requirements.lock /
RUN --mount=type=secret,id=ca,required \
    --mount=type=cache,target=/root/.cache/pip \
    if grep -q BEGIN /run/secrets/ca; then export PIP_CERT=/run/secrets/ca; fi; \
    /build/bin/pip --python /server/bin/python install --quiet --require-hashes -r /requirements.lock
ARG SERVER VERSION COMMAND
RUN grep -q "^$SERVER==$VERSION " /requirements.lock && ln -s "$COMMAND" /server/bin/mcp-server

FROM ${PYTHON_BASE}
COPY --from=install /server /server
ARG SERVER VERSION
LABEL org.opencontainers.image.title="${SERVER}" org.opencontainers.image.version="${VERSION}"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/server/bin/mcp-server"]
