# An MCP server from npm as a container image. `doogie-images build` asks for these stages, one after the other:
#
#   lock        what the file `requested` names, resolved with everything it needs: package-lock.json, or npm's answer
#   installed   which executables the packages bring that were asked for
#   (the last)  the image: SERVER is the package, VERSION what the lock file pins, COMMAND its executable
#
# compose.yaml builds the last one alone, from lock files in this repository: LOCKED is the directory that has them.
# No code of a package runs in any of them unless SCRIPTS is `with`; then it does where it can reach no cache that
# another build reads. The syntax is that of Docker 20.10's BuildKit.
ARG NODE_BASE=node:24-slim
ARG SCRIPTS=without

FROM ${NODE_BASE} AS npm
COPY doogie_images/recipes/npm.sh doogie_images/recipes/executables.mjs /
WORKDIR /server

FROM npm AS resolve
COPY requested /
ARG SERVER RESOLVED_AT
RUN --mount=type=secret,id=ca,required --mount=type=cache,target=/root/.npm sh /npm.sh resolve "$SERVER"

FROM scratch AS lock
COPY --from=resolve /server /

FROM npm AS install-without-scripts
ARG LOCKED=.
COPY ${LOCKED}/package.json ${LOCKED}/package-lock.json ./
RUN --mount=type=secret,id=ca,required --mount=type=cache,target=/root/.npm sh /npm.sh install

FROM install-without-scripts AS install-with-scripts
RUN --mount=type=secret,id=ca,required sh /npm.sh scripts

FROM install-${SCRIPTS}-scripts AS install
RUN chmod -R a+rX,go-w . && node /executables.mjs >/executables.json

FROM scratch AS installed
COPY --from=install /executables.json /

FROM install AS server
ARG SERVER VERSION COMMAND
RUN test "$(node -p "require('./node_modules/$SERVER/package.json').version")" = "$VERSION" \
    && ln -s "node_modules/.bin/$COMMAND" mcp-server

FROM ${NODE_BASE}
# What runs needs nothing that installs.
ARG SYSTEM_PACKAGES
RUN --mount=type=secret,id=ca,required \
    if [ -n "$SYSTEM_PACKAGES" ]; then \
      if grep -q BEGIN /run/secrets/ca; then set -- -o Acquire::https::CAInfo=/run/secrets/ca; fi; \
      apt-get "$@" update -qq && apt-get "$@" install -qq --yes --no-install-recommends $SYSTEM_PACKAGES >/dev/null \
      && rm -rf /var/lib/apt/lists/* || exit 1; \
    fi; \
    rm -rf /usr/local/lib/node_modules /opt/yarn* && cd /usr/local/bin && rm -f npm npx corepack yarn yarnpkg
COPY --from=server /server /server
ARG SERVER VERSION
LABEL org.opencontainers.image.title="${SERVER}" org.opencontainers.image.version="${VERSION}"
ENV NODE_ENV=production
USER 65532:65532
ENTRYPOINT ["/server/mcp-server"]
