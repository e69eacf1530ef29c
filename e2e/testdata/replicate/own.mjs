// Steers Halcyon's own client of collections under node for the Go tests, in the way of ../clients/steer.mjs. What it keeps on the device
// is in memory, and survives that the client is opened again.
//
//   {id, do: "open"}                       opens the collection tasks, or opens it again as after a reload
//   {id, do: "insert", args: {title}}      gives the id
//   {id, do: "update", args: {id, ...fields}}
//   {id, do: "remove", args: {id}}
//   {id, do: "type", args: {id, text}}     text as the last paragraph of the note
//   {id, do: "rows"}                       what its user sees
//   {id, do: "status"}
//   {id, do: "refusals"}                   what the server refused: [{document, code}]

import { ConvexClient } from "convex/browser";
import { register } from "node:module";
import { createInterface } from "node:readline";
import * as Y from "yjs";

console.log = console.info = console.debug = console.warn = console.error;

// The client brings no yjs and no convex: it takes those that are here.
const resolve = `export const resolve = (name, context, next) => next(name, /^[a-z]/.test(name) ? { ...context, parentURL: ${JSON.stringify(import.meta.url)} } : context);`;
register(`data:text/javascript,${encodeURIComponent(resolve)}`);
const { memory, replicate } = await import("../../../web/replicate/dist/replicate.js");

const url = process.argv[2];
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const device = memory();
let client;
let tasks;

async function open() {
  const [before, connection] = [tasks, client];
  client = new ConvexClient(url, { unsavedChangesWarning: false });
  if (before) await before.close();
  void connection?.close();
  tasks = replicate({ client, collection: "tasks", prose: ["note"], persistence: device });
  await tasks.loaded;
  return null;
}

async function run({ do: verb, args }) {
  switch (verb) {
    case "open":
      return open();
    case "insert":
      return tasks.insert({ done: false, ...args });
    case "update": {
      const { id, ...fields } = args;
      return tasks.update(id, fields);
    }
    case "remove":
      return tasks.remove(args.id);
    case "type": {
      const note = tasks.hold(args.id).getMap("fields").get("note");
      const paragraph = new Y.XmlElement("paragraph");
      paragraph.insert(0, [new Y.XmlText(args.text)]);
      note.insert(note.length, [paragraph]);
      tasks.release(args.id);
      return null;
    }
    case "rows":
      return tasks.rows();
    case "status":
      return tasks.status();
    case "refusals":
      return tasks.refusals().map(({ document, code }) => ({ document, code }));
    default:
      throw new Error(`there is no verb ${verb}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  run(command).then(
    (value) => say({ id: command.id, value: value ?? null }),
    (error) => say({ id: command.id, error: { name: error.name, message: `${error.message}\n${error.stack}` } }),
  );
}
// What was said is out before the process ends.
process.exitCode = 0;
await Promise.race([tasks?.close(), new Promise((resolve) => setTimeout(resolve, 1000))]);
void client?.close();
