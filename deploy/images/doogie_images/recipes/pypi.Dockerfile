# An MCP server from PyPI as a container image. `doogie-images build` asks for these stages, one after the other:
#
#   lock        what the file `requested` names, resolved with everything it needs: requirements.lock, or uv's answer
#   installed   which executables the packages bring
#   (the last)  the image: SERVER is the package, VERSION what the lock file pins, COMMAND its executable
#
# compose.yaml builds the last one alone, from lock files in this repository: LOCKED is the directory that has them.
# No code of a package runs in any of them unless SCRIPTS is `with`; then it does where it can reach no cache that
# another build reads. The syntax is that of Docker 20.10's BuildKit.
ARG PYTHON_BASE=python:3.13-slim
ARG SCRIPTS=without

FROM ${PYTHON_BASE} AS uv
RUN python3 -m venv /build && python3 -m venv --without-pip /server
COPY doogie_images/recipes/uv.lock /
RUN --mount=type=secret,id=ca,required --mount=type=cache,target=/root/.cache/pip \
    if grep -q BEGIN /run/secrets/ca; then export PIP_CERT=/run/secrets/ca; fi; \
    /build/bin/pip install --quiet --require-hashes -r /uv.lock
ENV PATH=/build/bin:$PATH
COPY doogie_images/recipes/pypi.sh doogie_images/recipes/executables.py /
WORKDIR /server
ARG SCRIPTS

FROM uv AS resolve-without-scripts
COPY requested /
ARG SERVER RESOLVED_AT
RUN --mount=type=secret,id=ca,required --mount=type=cache,target=/root/.cache/uv sh /pypi.sh resolve "$SERVER"

FROM uv AS resolve-with-scripts
COPY requested /
ARG SERVER RESOLVED_AT
RUN --mount=type=secret,id=ca,required sh /pypi.sh resolve "$SERVER"

FROM resolve-${SCRIPTS}-scripts AS resolve
RUN mkdir /answer && for file in requirements.lock answer.txt newest; do if [ -f $file ]; then cp $file /answer; fi; done

FROM scratch AS lock
COPY --from=resolve /answer /

FROM uv AS install-without-scripts
ARG LOCKED=.
COPY ${LOCKED}/requirements.lock ./
RUN --mount=type=secret,id=ca,required --mount=type=cache,target=/root/.cache/uv sh /pypi.sh install

FROM uv AS install-with-scripts
ARG LOCKED=.
COPY ${LOCKED}/requirements.lock ./
RUN --mount=type=secret,id=ca,required sh /pypi.sh install

FROM install-${SCRIPTS}-scripts AS install
RUN chmod -R a+rX,go-w . && python3 -I -S /executables.py lib/python3*/site-packages >/executables.json

FROM scratch AS installed
COPY --from=install /executables.json /

FROM install AS server
ARG SERVER VERSION COMMAND
RUN grep -q "^$SERVER==$VERSION " requirements.lock && ln -s "bin/$COMMAND" mcp-server

FROM ${PYTHON_BASE}
# What runs needs nothing that installs.
ARG SYSTEM_PACKAGES
RUN --mount=type=secret,id=ca,required \
    if [ -n "$SYSTEM_PACKAGES" ]; then \
      if grep -q BEGIN /run/secrets/ca; then set -- -o Acquire::https::CAInfo=/run/secrets/ca; fi; \
      apt-get "$@" update -qq && apt-get "$@" install -qq --yes --no-install-recommends $SYSTEM_PACKAGES >/dev/null \
      && rm -rf /var/lib/apt/lists/* || exit 1; \
    fi; \
    rm -rf /usr/share/python-wheels /usr/lib/python3*/ensurepip /usr/local/lib/python3*/ensurepip \
      /usr/local/lib/python3*/site-packages/pip /usr/local/lib/python3*/site-packages/pip-* /usr/local/bin/pip*
COPY --from=server /server /server
ARG SERVER VERSION
LABEL org.opencontainers.image.title="${SERVER}" org.opencontainers.image.version="${VERSION}"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/server/mcp-server"]
