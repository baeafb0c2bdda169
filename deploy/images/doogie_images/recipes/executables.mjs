// Which executables the packages bring that /server/package.json asks for: {"package": {"executable": "file"}}.
import { readFileSync } from "node:fs";

const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const found = {};
for (const name of Object.keys(read("/server/package.json").dependencies)) {
  const { bin = {} } = read(`/server/node_modules/${name}/package.json`);
  found[name] = typeof bin === "string" ? { [name.split("/").at(-1)]: bin } : bin;
}
console.log(JSON.stringify(found));
