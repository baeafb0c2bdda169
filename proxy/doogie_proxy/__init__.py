"""The privileged side: the only holder of the Docker socket.

A start request takes these hops, in this order::

    app.py        wires everything and listens
    http.py       request id, strict JSON, problem+json
    api.py        the routes: authenticates (auth.py), parses, answers
    admission.py  decides, with policy.py, whether a rule admits the request   (pure)
    servers.py    the servers' lives as the API asks for them; registry.py holds them, with one lock for each
    starting.py   image (→ pulls.py, where the rule says so) → create → attach → start
    spec.py       builds the engine's create body, labels signed by identity.py (pure)
    engine.py     talks to the engine; the only module that knows aiodocker

An end: ending.py, for a stop, a lease or an event of the engine; reconciler.py follows those, sweeps, and finds what
adoption.py takes charge of.
A change: registry.py moves a name from state to state by the table of states.py → changes.py → event_stream.py.

A byte of stdio: attachment.py (the raw stream) ↔ stdio.py (the hub of one server) ↔ sessions.py (one WebSocket);
streams.py opens the former for the latter.
A reload: app.py, on SIGHUP → configuration.py reads policy_file.py, secrets and keys → api.py uses them from then on.
"""

from importlib.metadata import version

__version__ = version("doogie-proxy")
