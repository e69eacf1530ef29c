// Steers the official Convex clients for the Go tests: a command is a line of
// JSON on standard input, and so is what comes of it on standard output. Values
// are in Convex's encoded JSON, both ways. It ends with its standard input.
//
//   {id, do: "open", client, kind: "ws" | "http"}
//   {id, do: "query" | "mutation", client, path, args}
//   {id, do: "subscribe", client, path, args}      then {update: id, value | error} at each change
//   {id, do: "unsubscribe", client, subscription}
//   {id, do: "state" | "close", client}
//
// The answer to a command is {id, value} or {id, error: {name, message, data?}}.

import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { convexToJson, jsonToConvex, ConvexError } from "convex/values";
import { createInterface } from "node:readline";

// Standard output is for answers: what the clients log goes the other way.
console.log = console.error;

const url = process.argv[2];
const clients = new Map();
const subscriptions = new Map();

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const encode = (value) => (value === undefined ? null : convexToJson(value));

function describe(error) {
  const told = { name: error.name, message: error.message };
  if (error instanceof ConvexError) told.data = encode(error.data);
  return told;
}

async function run({ id, do: verb, client: name, kind, path, args, subscription }) {
  const client = clients.get(name);
  const f = path && makeFunctionReference(path);
  switch (verb) {
    case "open":
      clients.set(name, kind === "http" ? new ConvexHttpClient(url) : new ConvexClient(url, { unsavedChangesWarning: false }));
      return null;
    case "query":
      return encode(await client.query(f, jsonToConvex(args)));
    case "mutation":
      return encode(await client.mutation(f, jsonToConvex(args)));
    case "subscribe":
      subscriptions.set(
        id,
        client.onUpdate(
          f,
          jsonToConvex(args),
          (value) => say({ update: id, value: encode(value) }),
          (error) => say({ update: id, error: describe(error) }),
        ),
      );
      return null;
    case "unsubscribe":
      subscriptions.get(subscription)();
      return null;
    case "state":
      return client.connectionState();
    case "close":
      await client.close();
      return null;
    default:
      throw new Error(`there is no verb ${verb}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  run(command).then(
    (value) => say({ id: command.id, value }),
    (error) => say({ id: command.id, error: describe(error) }),
  );
}
// Not at once: what is written to a pipe may be on its way still.
process.stdout.write("", () => process.exit(0));
