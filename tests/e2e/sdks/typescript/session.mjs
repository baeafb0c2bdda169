// A session of the TypeScript SDK over its own WebSocket transport, unmodified, on Node's own WebSocket.
//   session.mjs URL TOOL ARGUMENTS      prints what the server answered, as JSON
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";

const [url, tool, text] = process.argv.slice(2);
const client = new Client({ name: "doogie-test", version: "1" });
await client.connect(new WebSocketClientTransport(new URL(url)));
const answers = {
  initialize: { serverInfo: client.getServerVersion() },
  tools: await client.listTools(),
  call: await client.callTool({ name: tool, arguments: JSON.parse(text) }),
};
await client.close();
console.log(JSON.stringify(answers));
