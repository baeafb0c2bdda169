"""The privileged side: the only holder of the Docker socket.

A start request takes these hops, in this order::

    app.py        wires everything and listens
    http.py       request id, strict JSON, problem+json
    api.py        the routes: authenticates (auth.py), parses, answers
    admission.py  decides, with policy.py, whether a rule admits the request   (pure)
    servers.py    one lock per server: image → create → attach → start
    spec.py       builds the engine's create body, labels signed by identity.py (pure)
    engine.py     talks to the engine; the only module that knows aiodocker

A byte of stdio: attachment.py (the raw stream) ↔ stdio.py (the hub of one server) ↔ sessions.py (one WebSocket).
A reload: app.py, on SIGHUP → configuration.py reads policy_file.py, secrets and keys → api.py uses them from then on.
"""

from importlib.metadata import version

__version__ = version("doogie-proxy")
