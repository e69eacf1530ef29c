// Steers the providers of Yjs for the Go tests, as they are on npm: a command is a line of JSON on standard input, and so is what comes of it
// on standard output. It ends with its standard input.
//
//   {id, do: "open", client, kind: "y-websocket" | "hocuspocus", args: {document, collection, token?, socket?}}
//       socket names a connection that several clients of Hocuspocus share
//   {id, do: "insert", client, args: {text}}     at the end of the text "t"
//   {id, do: "delete", client, args: {at, n}}
//   {id, do: "show", client, args: {state}}      awareness
//   {id, do: "say", client, args: {payload}}     stateless
//   {id, do: "state" | "disconnect" | "connect" | "close", client}
//
// The answer to a command is {id, value} or {id, error: {name, message}}.

import { HocuspocusProvider, HocuspocusProviderWebsocket } from "@hocuspocus/provider";
import { WebsocketProvider } from "y-websocket";
import WebSocket from "ws";
import * as Y from "yjs";
import { createInterface } from "node:readline";

// Standard output is for answers: what the clients log goes the other way, and y-websocket says there what it is refused.
const warnings = [];
console.log = console.error;
console.warn = (...said) => warnings.push(said.join(" "));

const url = process.argv[2].replace(/^http/, "ws");
const clients = new Map();
const sockets = new Map();

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

function open(name, kind, { document, collection, token, socket }) {
  const doc = new Y.Doc();
  const client = { kind, doc, closed: [], stateless: [], denied: null, acked: 0, acks: 0 };
  const address = `${url}/yjs/${collection}`;
  if (kind === "y-websocket") {
    const params = token ? { token } : {};
    client.provider = new WebsocketProvider(address, document, doc, { params, WebSocketPolyfill: WebSocket, disableBc: true });
    client.provider.on("connection-close", (event) => event && client.closed.push(`${event.code} ${event.reason}`));
    client.provider.on("closed", () => (client.denied = "stays away"));
  } else {
    const configuration = {
      name: document,
      document: doc,
      token: token ?? null,
      onClose: ({ event }) => client.closed.push(`${event.code} ${event.reason}`),
      onStateless: ({ payload }) => client.stateless.push(payload),
      onAuthenticationFailed: ({ reason }) => (client.denied = reason),
      onUnsyncedChanges: ({ number }) => {
        if (number === 0) {
          client.acks++;
          client.acked = client.own ?? 0;
        }
      },
    };
    if (socket) {
      if (!sockets.has(socket)) sockets.set(socket, new HocuspocusProviderWebsocket({ url: address, WebSocketPolyfill: WebSocket, delay: 100, minDelay: 100 }));
      configuration.websocketProvider = sockets.get(socket);
      client.provider = new HocuspocusProvider(configuration);
      client.provider.attach();
    } else {
      client.provider = new HocuspocusProvider({ ...configuration, url: address, WebSocketPolyfill: WebSocket, delay: 100, minDelay: 100 });
    }
  }
  clients.set(name, client);
}

function state({ kind, doc, provider, closed, denied, stateless, acked, acks }) {
  const others = {};
  for (const [id, s] of provider.awareness.getStates()) if (id !== doc.clientID) others[id] = s;
  return {
    text: doc.getText("t").toString(),
    synced: provider.synced,
    unsynced: kind === "hocuspocus" ? provider.unsyncedChanges : 0,
    scope: provider.authorizedScope ?? "",
    connected: kind === "hocuspocus" ? provider.configuration.websocketProvider.status === "connected" : provider.wsconnected,
    pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null,
    self: String(doc.clientID),
    others,
    closed,
    denied: denied ?? "",
    stateless,
    acked,
    acks,
    warnings,
  };
}

function run({ do: verb, client: name, kind, args }) {
  const client = clients.get(name);
  switch (verb) {
    case "open":
      open(name, kind, args);
      return null;
    case "insert": {
      const text = client.doc.getText("t");
      client.own = (client.own ?? 0) + args.text.length;
      text.insert(text.length, args.text);
      return null;
    }
    case "delete":
      client.doc.getText("t").delete(args.at, args.n);
      return null;
    case "show":
      client.provider.awareness.setLocalState(args.state);
      return null;
    case "say":
      client.provider.sendStateless(args.payload);
      return null;
    case "state":
      return state(client);
    case "disconnect":
      client.provider.disconnect();
      return null;
    case "connect":
      client.provider.connect();
      return null;
    case "close":
      client.provider.destroy();
      clients.delete(name);
      return null;
    default:
      throw new Error(`no command ${verb}`);
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  try {
    say({ id: command.id, value: run(command) });
  } catch (error) {
    say({ id: command.id, error: { name: error.name, message: error.message } });
  }
});
// Not at once: what is written to a pipe may be on its way still.
lines.on("close", () => process.stdout.write("", () => process.exit(0)));
