// Steers one client of npm @trestleinc/replicate for the Go tests, in the way of ../clients/steer.mjs: the client knows one collection in a
// process.
//
//   {id, do: "open", args: {documents}}         documents: what it has stored, base64 by name, as "stored" returns it
//   {id, do: "stored"}                          what a client that keeps its documents would find after a reload
//   {id, do: "insert", args: row}
//   {id, do: "update", args: {id, ...fields}}
//   {id, do: "delete", args: {id}}
//   {id, do: "rows"}                            what its user sees, by id
//   {id, do: "type", args: {id, text}}          text at the end of the note
//   {id, do: "subscribe"}                       subscribes to collection.session, then {update: id, value} at each change
//   {id, do: "join", args: {id}}                makes the client present at a document
//   {id, do: "calls"}                           how often it has called each function
//   {id, do: "failures"}                        what its user was told has failed, and undone

import { collection, persistence } from "@trestleinc/replicate/client";
import { schema } from "@trestleinc/replicate/server";
import { ConvexClient } from "convex/browser";
import { anyApi, getFunctionName } from "convex/server";
import { v } from "convex/values";
import { createInterface } from "node:readline";
import * as Y from "yjs";

console.log = console.info = console.debug = console.warn = console.error;

const url = process.argv[2];
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const client = new ConvexClient(url, { unsavedChangesWarning: false });
const calls = {};
for (const verb of ["query", "mutation"]) {
  const original = client[verb].bind(client);
  client[verb] = (f, ...rest) => {
    const name = getFunctionName(f);
    calls[name] = (calls[name] ?? 0) + 1;
    return original(f, ...rest);
  };
}

let tasks;
const failures = [];

const docs = new Map();

async function open({ documents }) {
  documents ??= {};
  const made = collection.create({
    schema: schema.define({
      version: 1,
      shape: v.object({ id: v.string(), title: v.string(), done: v.boolean(), note: v.optional(schema.prose()) }),
    }),
    persistence: async () => ({
      ...persistence.memory.create(),
      listDocuments: async () => Object.keys(documents),
      createDocPersistence(name, doc) {
        const id = name.slice(name.indexOf(":") + 1);
        docs.set(id, doc);
        if (documents[id]) Y.applyUpdateV2(doc, Buffer.from(documents[id], "base64"));
        return { whenSynced: Promise.resolve(), destroy() {} };
      },
    }),
    config: () => ({ convexClient: client, api: anyApi.tasks, getKey: (row) => row.id }),
  });
  await made.init();
  tasks = made.get();
  await tasks.preload();
}

// done notes the outcome of a transaction, which the user does not wait for.
function done(transaction) {
  transaction.isPersisted.promise.catch((error) => failures.push(String(error)));
}

async function run({ id, do: verb, args }) {
  switch (verb) {
    case "open":
      return open(args ?? {});
    case "insert":
      return void done(tasks.insert(args));
    case "update":
      return void done(tasks.update(args.id, (draft) => Object.assign(draft, args)));
    case "delete":
      return void done(tasks.delete(args.id));
    case "rows":
      return Object.fromEntries(tasks.toArray.map((row) => [row.id, row]));
    case "stored":
      return Object.fromEntries([...docs].map(([id, doc]) => [id, Buffer.from(Y.encodeStateAsUpdateV2(doc)).toString("base64")]));
    case "failures":
      return failures;
    case "type": {
      const binding = await tasks.utils.prose(args.id, "note");
      const last = binding.fragment.get(binding.fragment.length - 1);
      const text = last?.get?.(0) ?? last;
      text.insert(text.length, args.text);
      return null;
    }
    case "subscribe":
      tasks.session.subscribe((value) => say({ update: id, value }));
      return null;
    case "join":
      tasks.doc(args.id).presence.join();
      return null;
    case "calls":
      return calls;
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
// Not at once: what is written to a pipe may be on its way still.
process.stdout.write("", () => process.exit(0));
