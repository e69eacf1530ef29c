// Plays random scripts with the official Convex client for the Go tests. A script is a line of JSON on standard input, and what its clients
// saw is one on standard output. Many are played at once. It ends with its standard input.
//
//   {name, url, space, clients, ops: [{client, do, ...}], tokens: {user: [token, token]}, patience (ms)}
//
//   {client, do: "subscribe", id, path, args} | {client, do: "paginate", id, size} | {client, do: "more", id, size}
//   {client, do: "unsubscribe", id}
//   {client, do: "mutate", path, args}                            not waited for
//   {client, do: "sign in", user, wait}                           user is null to sign out
//   {client, do: "break"}                                         the connection
//   {client, do: "settle"}                                        until all its mutations are done
//   {client, do: "pause", ms}
//
// The answer is {name, trace} or {name, error, trace}. A trace is all that happened, in order:
//
//   {client, sees: {id: value | {error} | "gone"}}                at each change of what the client shows; values of the same moment
//   {client, sent: mark} {client, done: mark, value | error}
//   {client, user} {client, ended: id} {client, refused: true} {client, end: true, connections}

import { ConvexClient } from "convex/browser";
import { makeFunctionReference } from "convex/server";
import { ConvexError } from "convex/values";
import { createInterface } from "node:readline";

console.log = console.error; // standard output is for answers

const reference = makeFunctionReference;
const told = (error) => (error instanceof ConvexError ? error.data.code : error.message);

class Actor {
  constructor(script, index, trace) {
    Object.assign(this, { script, index, trace, subscriptions: new Map(), pending: new Set(), shown: new Map(), signedIn: Promise.resolve() });
    this.client = new ConvexClient(script.url, { logger: false, unsavedChangesWarning: false });
    this.client.client.addOnTransitionHandler(() => this.look());
    // What a browser does when it is online again: so the scripts need not wait for the delays of the client.
    this.online = setInterval(() => this.client.client.webSocketManager.tryReconnectImmediately(), 40);
  }

  note(what) {
    this.trace.push({ client: this.index, ...what });
  }

  // look notes what has changed on the screen.
  look() {
    const sees = {};
    for (const [id, read] of this.subscriptions) {
      let value;
      try {
        value = read();
      } catch (error) {
        value = { error: told(error) };
      }
      const text = JSON.stringify(value);
      if (text === this.shown.get(id)) continue;
      sees[id] = text === undefined ? "gone" : value;
      this.shown.set(id, text);
    }
    if (Object.keys(sees).length > 0) this.note({ sees });
  }

  async run(op) {
    const { client, script } = this;
    switch (op.do) {
      case "subscribe": {
        const stop = client.onUpdate(reference(op.path), op.args, () => {}, () => {});
        this.subscriptions.set(op.id, () => stop.getCurrentValue());
        this.subscriptions.get(op.id).stop = stop;
        return; // what it may show before the next Transition is that of an equal one that has ended
      }
      case "paginate": {
        const stop = client.onPaginatedUpdate_experimental(reference("script:page"), { space: script.space }, { initialNumItems: op.size }, () => {}, () => {});
        const read = () => {
          const value = stop.getCurrentValue();
          return value && { results: value.results, status: value.status };
        };
        read.stop = stop;
        // Only of what a Transition has brought. Until then the client shows the pages of an equal subscription that has ended, and would ask for the
        // page after theirs, while the first page of this one may end elsewhere. (usePaginatedQuery gives each subscription an id of its own.)
        read.more = (n) => this.shown.get(op.id) !== undefined && stop.getCurrentValue()?.loadMore(n);
        this.subscriptions.set(op.id, read);
        return;
      }
      case "more":
        this.subscriptions.get(op.id)?.more(op.size);
        return;
      case "unsubscribe":
        this.note({ ended: op.id });
        this.subscriptions.get(op.id).stop();
        this.subscriptions.delete(op.id);
        this.shown.delete(op.id);
        return;
      case "mutate": {
        const { mark } = op.args;
        this.note({ sent: mark });
        const call = client.mutation(reference(op.path), op.args).then(
          (value) => this.note({ done: mark, value }),
          (error) => this.note({ done: mark, error: told(error) }),
        );
        this.pending.add(call);
        call.finally(() => this.pending.delete(call));
        return;
      }
      case "sign in":
        if (op.user === null) {
          // The client asks for a second token at once, and would sign in with it after it has signed out.
          await this.signedIn;
          this.note({ user: "nobody" });
          client.client.clearAuth();
          return;
        }
        this.note({ user: op.user });
        this.signedIn = new Promise((resolve) => {
          const tokens = script.tokens[op.user];
          let n = 0;
          client.setAuth(async () => {
            n++;
            if (n === 2) setTimeout(resolve); // when the client has the second one
            return tokens[n % tokens.length];
          }, (good) => {
            if (!good) this.note({ refused: true });
          });
          this.superseded?.();
          this.superseded = resolve;
        });
        if (op.wait) await this.signedIn;
        return;
      case "break":
        client.client.webSocketManager.socket.ws?.close();
        return;
      case "settle":
        await this.settled();
        return;
      case "pause":
        await new Promise((resolve) => setTimeout(resolve, op.ms));
        return;
      default:
        throw new Error(`there is no ${op.do}`);
    }
  }

  async settled() {
    while (this.pending.size > 0) await Promise.all(this.pending);
  }

  // catchUp waits until the client has come to the newest state.
  async catchUp(last) {
    await this.signedIn;
    while ((await this.client.query(reference("script:last"), { space: this.script.space })) < last);
    this.look();
    this.note({ end: true, connections: this.client.connectionState().connectionCount });
  }

  close() {
    clearInterval(this.online);
    return this.client.close();
  }
}

async function play(script) {
  const trace = [];
  const actors = Array.from({ length: script.clients }, (_, i) => new Actor(script, i, trace));
  const all = async () => {
    for (const op of script.ops) await actors[op.client].run(op);
    await Promise.all(actors.map((a) => a.settled()));
    const last = Math.max(0, ...trace.map((e) => e.value?.seq ?? 0));
    await Promise.all(actors.map((a) => a.catchUp(last)));
  };
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it has not ended after ${script.patience} ms: ${JSON.stringify(actors.map((a) => a.client.connectionState()))}`)), script.patience);
  });
  let error;
  try {
    await Promise.race([all(), late]);
  } catch (e) {
    error = e.message;
  }
  clearTimeout(timer);
  await Promise.all(actors.map((a) => a.close()));
  return { name: script.name, trace, error };
}

// What a client throws in a callback, such as a FatalError, would otherwise end the process.
const thrown = [];
process.on("uncaughtException", (error) => thrown.push(error.message));
process.on("unhandledRejection", (error) => thrown.push(String(error?.message ?? error)));

const width = Number(process.argv[2]);
const waiting = [];
let running = 0, ended = () => {};

function next() {
  while (running < width && waiting.length > 0) {
    running++;
    play(JSON.parse(waiting.shift())).then((answer) => {
      if (thrown.length > 0) answer.thrown = thrown.splice(0);
      process.stdout.write(JSON.stringify(answer) + "\n");
      running--;
      next();
      if (running === 0 && waiting.length === 0) ended();
    });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  waiting.push(line);
  next();
}
if (running > 0) await new Promise((resolve) => { ended = resolve; });
process.stdout.end(() => process.exit(0)); // not before all has been written
