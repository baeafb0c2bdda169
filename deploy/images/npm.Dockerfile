# An MCP server from npm as a container image: SERVER is the package, VERSION what its lock file pins, COMMAND its
# executable. See compose.yaml beside this file.
ARG NODE_BASE=node:24-slim

FROM ${NODE_BASE} AS install
WORKDIR /server
COPY package.json package-lock.json ./
RUN --mount=type=secret,id=ca,required \
    --mount=type=cache,target=/root/.npm \
    if grep -q BEGIN /run/secrets/ca; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca; fi; \
    npm ci --omit=dev --ignore-scripts --no-audit --no-fund --no-update-notifier
ARG SERVER VERSION COMMAND
RUN test "$(node -p "require('./node_modules/$SERVER/package.json').version")" = "$VERSION" \
    && ln -s "node_modules/.bin/$COMMAND" mcp-server

FROM ${NODE_BASE}
COPY --from=install /server /server
ARG SERVER VERSION
LABEL org.opencontainers.image.title="${SERVER}" org.opencontainers.image.version="${VERSION}"
ENV NODE_ENV=production
USER 65532:65532
ENTRYPOINT ["/server/mcp-server"]
