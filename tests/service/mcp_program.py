"""An MCP server as a program of one argument, for what real servers do not do on purpose.

``SERVER`` is given to ``python3 -c`` in a container. A tool's name says what it does; see ``call`` in it. It is of the
handshake era, and of 2026-07-28 with the further argument ``modern``.
"""

from textwrap import dedent

TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

SERVER = dedent(
    """\
    import json, os, socket, sys, threading, time

    PNG = "@PNG@"
    NAMES = ["text", "where", "hang", "slow", "calls", "cancelled", "die", "fail", "refuse", "mixed", "nonsense",
             "a__b", "files/read", "x" * 80, "looks_h0123456789ab", "\\u00fcml", ""]
    calls, cancelled, out = {}, [], threading.Lock()

    def send(**message):
        line = json.dumps({"jsonrpc": "2.0", **message})
        with out:
            sys.stdout.write(line + "\\n")
            sys.stdout.flush()

    def text(value):
        return {"content": [{"type": "text", "text": value}]}

    def call(id, name, arguments, params):
        match name:
            case "text":
                return text(arguments["text"])
            case "where":
                return text(socket.gethostname())
            case "hang":
                return None
            case "slow":
                time.sleep(arguments["s"])
                return text("slow")
            case "calls":
                return text(json.dumps(calls))
            case "cancelled":
                return text(json.dumps(cancelled))
            case "die":
                sys.stderr.write("last words: " + arguments.get("words", "") + os.environ.get("GREETING", "") + "\\n")
                sys.stderr.flush()
                os._exit(arguments.get("code", 3))
            case "fail":
                return {**text("it went wrong"), "isError": True}
            case "refuse":
                return send(id=id, error={"code": -32602, "message": "not like this", "data": {"why": ["because", 1]}})
            case "rounds" if "requestState" not in params:
                return {"resultType": "input_required", "requestState": "second"}
            case "rounds":
                return text("after " + params["requestState"])
            case "asks":
                ask = {"method": "elicitation/create", "params": {"mode": "form", "message": "who?",
                       "requestedSchema": {"type": "object", "properties": {}}}}
                return {"resultType": "input_required", "inputRequests": {"who": ask}}
            case "nonsense":
                return {"content": "text that is no list"}
            case "mixed":
                uri = "file:///a.txt"
                return {
                    "content": [
                        {"type": "text", "text": "one"},
                        {"type": "image", "data": PNG, "mimeType": "image/png", "annotations": {"priority": 0.5}},
                        {"type": "audio", "data": "AAEC", "mimeType": "audio/wav"},
                        {"type": "resource", "resource": {"uri": uri, "mimeType": "text/plain", "text": "two"}},
                        {"type": "resource", "resource": {"uri": uri, "mimeType": "image/png", "blob": PNG}},
                        {"type": "resource_link", "uri": uri, "name": "a", "description": "a link"},
                    ],
                    "structuredContent": {"big": 2**60 + 1, "nested": [None, 1.5, "\\u2028"]},
                    "_meta": {"example.org/trace": "abc"},
                }
        return text("called " + name)

    def run(message):
        params = message["params"]
        result = call(message["id"], params["name"], params.get("arguments") or {}, params)
        if result is not None:
            send(id=message["id"], result={"resultType": "complete", **result} if "modern" in sys.argv else result)

    for line in sys.stdin:
        message = json.loads(line)
        match message["method"]:
            case "server/discover" if "modern" in sys.argv:
                send(id=message["id"], result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                     "resultType": "complete", "ttlMs": 0, "cacheScope": "public"})
            case "initialize":
                info = {"name": "test", "version": "1"}
                result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
                send(id=message["id"], result=result)
            case "tools/list":
                schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {}}}
                start = int((message.get("params") or {}).get("cursor", 0))
                tools = [{"name": name, "description": "does " + name, "inputSchema": schema} for name in NAMES]
                page = {"tools": tools[start : start + 7]}
                if start + 7 < len(tools):
                    page["nextCursor"] = str(start + 7)
                send(id=message["id"], result=page)
            case "tools/call":
                name = message["params"]["name"]
                calls[name] = calls.get(name, 0) + 1
                threading.Thread(target=run, args=(message,), daemon=True).start()
            case "notifications/cancelled":
                cancelled.append(message["params"]["requestId"])
            case _ if "id" in message:
                send(id=message["id"], error={"code": -32601, "message": "no such method"})
    """
).replace("@PNG@", TINY_PNG)
