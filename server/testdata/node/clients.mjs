// Runs one scenario with the official Convex clients against the server at a URL:
//   node clients.mjs http://127.0.0.1:1234 live
// It exits with 0 when the scenario went as it should.
import assert from "node:assert/strict";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError } from "convex/values";

const [url, name] = process.argv.slice(2);
const api = anyApi.t;

// opened holds the clients to close at the end.
const opened = [];

function open(options = {}) {
  const client = new ConvexClient(url, { logger: false, ...options });
  opened.push(client);
  return client;
}

// watch subscribes and records every value that a screen would show.
function watch(client, query, args) {
  const seen = [];
  const waiting = [];
  const check = () => {
    for (const w of [...waiting]) {
      if (w.holds(seen.at(-1))) {
        waiting.splice(waiting.indexOf(w), 1);
        w.resolve();
      }
    }
  };
  client.onUpdate(query, args, (value) => {
    seen.push(value);
    check();
  }, (error) => {
    seen.push(error);
    check();
  });
  const until = (holds) => new Promise((resolve) => {
    waiting.push({ holds, resolve });
    if (seen.length > 0) check();
  });
  return { seen, until };
}

const scenarios = {
  // Pages of a list keep their ends, also over a new connection.
  async pages() {
    const client = open();
    const add = (...bodies) => client.mutation(api.sendAll, { channel: "list", bodies });
    await add("b", "d", "f");
    const seen = [];
    let look = () => {}, more;
    client.onPaginatedUpdate_experimental(api.page, { channel: "list" }, { initialNumItems: 2 }, (result) => {
      more = result.loadMore;
      seen.push(`${(result.page ?? result.results).join("")} ${result.status}`);
      look();
    });
    const until = (wanted) => new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`it never shows ${wanted}; it showed ${seen.join(", ")}`)), 120_000);
      look = () => {
        if (seen.at(-1) !== wanted) return;
        clearTimeout(timer);
        resolve();
      };
      look();
    });
    await until("bd CanLoadMore");
    await add("a", "c", "e");
    await until("abcd CanLoadMore");
    more(1);
    await until("abcde CanLoadMore");
    client.client.webSocketManager.socket.ws.close(); // the connection breaks
    await add("aa");
    await until("aaabcde CanLoadMore");
  },

  // A live query follows this client's writes and those of another one.
  async live() {
    const one = open(), two = open();
    const list = watch(one, api.list, { channel: "general" });
    await list.until((v) => v?.length === 0);
    const id = await one.mutation(api.send, { channel: "general", body: "first" });
    assert.equal(typeof id, "string");
    // Read your writes: when the mutation is settled, the screen has it.
    assert.deepEqual(list.seen.at(-1), ["first"]);
    await two.mutation(api.send, { channel: "general", body: "second" });
    await list.until((v) => v.length === 2);
    assert.deepEqual(list.seen, [[], ["first"], ["first", "second"]]);
    await two.mutation(api.send, { channel: "elsewhere", body: "third" });
    assert.equal(await two.query(api.count, { channel: "elsewhere" }), 0n);
    assert.equal(list.seen.length, 3);
  },

  // An optimistic counter goes up by one for each mutation, never by two and
  // never back.
  async optimistic() {
    const client = open(), other = open();
    const count = watch(client, api.count, { channel: "a" });
    await count.until((v) => v === 0n);
    let started = 0n;
    const optimisticUpdate = (store, args) => {
      const value = store.getQuery(api.count, args);
      if (value !== undefined) store.setQuery(api.count, args, value + 1n);
    };
    for (let i = 0; i < 10; i++) {
      started++;
      // The other client's mutations make Transitions of their own.
      const noise = other.mutation(api.increment, { channel: "noise" });
      await client.mutation(api.increment, { channel: "a" }, { optimisticUpdate });
      assert.equal(count.seen.at(-1), started);
      await noise;
    }
    const burst = [];
    for (let i = 0; i < 20; i++) {
      started++;
      burst.push(client.mutation(api.increment, { channel: "a" }, { optimisticUpdate }));
    }
    assert.deepEqual(await Promise.all(burst), Array.from({ length: 20 }, (_, i) => BigInt(11 + i)));
    await count.until((v) => v === started);
    const shown = count.seen.filter((v) => v !== undefined);
    assert.deepEqual(shown, [...shown].sort((a, b) => Number(a - b)), "the counter went back");
    assert.ok(shown.every((v) => v <= started), "the counter went too far");
  },

  async errors() {
    const client = open();
    const fails = watch(client, api.fails, {});
    await fails.until((e) => e instanceof Error);
    const shown = fails.seen[0];
    assert.ok(shown instanceof ConvexError);
    assert.deepEqual(shown.data, { code: "NoLuck", message: "It did not work.", data: { attempt: 1 } });
    const failed = await client.mutation(api.fail, {}).catch((e) => e);
    assert.ok(failed instanceof ConvexError);
    assert.deepEqual(failed.data, { code: "NoLuck", message: "It did not work." });
    assert.match(failed.message, /\[CONVEX M\(t:fail\)\] \[Request ID: [0-9a-f]{16}\] Server Error\nUncaught ConvexError/);
    const missing = await client.query(api.missing, {}).catch((e) => e);
    assert.ok(missing instanceof Error && !(missing instanceof ConvexError));
    assert.match(missing.message, /Could not find public function for 't:missing'/);
    const action = await client.action(api.nothingHere, {}).catch((e) => e);
    assert.match(action.message, /Could not find public function for 't:nothingHere'/);
    const wrong = await client.query(api.count, { channel: 5 }).catch((e) => e);
    assert.match(wrong.message, /ArgumentValidationError: /);
    // All that harms nothing else.
    assert.equal(await client.mutation(api.increment, { channel: "a" }), 1n);
  },

  async values() {
    const client = open();
    const given = {
      big: -(2n ** 63n),
      bytes: new Uint8Array([0, 1, 2, 255]).buffer,
      text: "żółć \u{1F600} \u2028 </script> \"\\",
      nested: { list: [1, [2n, null, true], {}], zero: -0 },
      nan: NaN,
      infinity: -Infinity,
      small: 5e-324,
      large: 2 ** 53 + 2,
      exponent: 1e21,
    };
    for (const call of [client.query(api.echo, given), client.mutation(api.nothing, given)]) {
      const got = await call;
      assert.deepEqual(got, given);
      assert.ok(Object.is(got.nested.zero, -0));
      assert.ok(got.bytes instanceof ArrayBuffer);
    }
    const big = { text: "x".repeat(1 << 20) };
    assert.deepEqual(await client.query(api.echo, big), big);
  },

  // Results that are more than 5 MB together come in parts, and are one moment's all the same.
  async large() {
    const client = open(), channels = Array.from({ length: 24 }, (_, i) => `${i}`);
    const shown = channels.map((channel) => watch(client, api.big, { channel }));
    await Promise.all(shown.map((s) => s.until((v) => v === "0".repeat(256 << 10))));
    let moment = 0;
    client.client.addOnTransitionHandler(({ queries }) => {
      if (queries.length > 0) moment++;
    });
    client.client.webSocketManager.socket.ws.close(); // everything comes again
    await Promise.all(channels.map((channel) => client.mutation(api.increment, { channel })));
    await Promise.all(shown.map((s) => s.until((v) => v === "1".repeat(256 << 10))));
    assert.ok(moment > 0);
  },

  async oneOff() {
    const client = open();
    for (let i = 0; i < 5; i++) {
      assert.equal(await client.query(api.count, { channel: "a" }), BigInt(i));
      await client.mutation(api.increment, { channel: "a" });
    }
    const counts = await Promise.all(Array.from({ length: 20 }, () => client.query(api.count, { channel: "a" })));
    assert.ok(counts.every((n) => n === 5n));
  },

  // The test drops the connection while the mutation runs.
  async reconnect() {
    const client = open();
    const count = watch(client, api.count, { channel: "a" });
    await count.until((v) => v === 0n);
    const first = client.mutation(api.held, { channel: "a" });
    const second = client.mutation(api.increment, { channel: "a" });
    assert.equal(await first, 1n);
    assert.equal(await second, 2n);
    await count.until((v) => v === 2n);
    assert.ok(client.connectionState().connectionCount > 1, "the connection was not lost");
    assert.equal(await client.query(api.count, { channel: "a" }), 2n);
  },

  // The test shuts the server down and starts another one for the same app.
  async restart() {
    const client = open();
    const count = watch(client, api.count, { channel: "a" });
    await count.until((v) => v === 0n);
    console.log("ready");
    for (let i = 1n; client.connectionState().connectionCount < 2; i++) {
      assert.equal(await client.mutation(api.increment, { channel: "a" }), i);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const total = await client.query(api.count, { channel: "a" });
    await count.until((v) => v === total);
    // The result that was shown last may be shown again by the new connection; none goes back.
    assert.deepEqual(count.seen, [...count.seen].sort((a, b) => Number(a - b)));
  },

  async consistent() {
    const client = new ConvexHttpClient(url, { logger: false });
    assert.equal(await client.consistentQuery(api.count, { channel: "a" }), 0n);
    assert.equal(await client.mutation(api.increment, { channel: "a" }), 1n);
    // The client asks for one timestamp, and reads everything at it.
    assert.equal(await client.consistentQuery(api.count, { channel: "a" }), 0n);
    assert.equal(await client.query(api.count, { channel: "a" }), 1n);
  },
  async http() {
    const client = new ConvexHttpClient(url, { logger: false });
    assert.equal(await client.query(api.count, { channel: "a" }), 0n);
    assert.equal(await client.mutation(api.increment, { channel: "a" }), 1n);
    const both = [client.mutation(api.increment, { channel: "a" }), client.mutation(api.increment, { channel: "a" })];
    assert.deepEqual(await Promise.all(both), [2n, 3n]);
    const given = { big: 5n, bytes: new Uint8Array([9]).buffer, nan: NaN };
    assert.deepEqual(await client.query(api.echo, given), given);
    const failed = await client.mutation(api.fail, {}).catch((e) => e);
    assert.ok(failed instanceof ConvexError);
    assert.deepEqual(failed.data, { code: "NoLuck", message: "It did not work." });
    const missing = await client.query(api.missing, {}).catch((e) => e);
    assert.match(missing.message, /Could not find public function for 't:missing'/);
    const action = await client.action(api.nothingHere, {}).catch((e) => e);
    assert.match(action.message, /Could not find public function for 't:nothingHere'/);
    client.setAuth("eyJhbGciOiJub25lIn0.e30.x");
    const refused = await client.query(api.count, { channel: "a" }).catch((e) => e);
    assert.match(refused.message, /NoAuthProvider/);
  },

  // A token is refused, the client learns that it has no user, and goes on.
  async auth() {
    const client = open();
    const part = (o) => Buffer.from(JSON.stringify(o)).toString("base64url");
    let n = 0;
    const states = [];
    const changed = new Promise((resolve) => {
      client.setAuth(async () => [part({ alg: "none" }), part({ sub: "u", iat: 1, exp: 4e9, n: n++ }), "s"].join("."), (ok) => {
        states.push(ok);
        resolve(ok);
      });
    });
    assert.equal(await changed, false);
    assert.deepEqual(states, [false]);
    assert.equal(await client.mutation(api.increment, { channel: "a" }), 1n);
  },

  // Actions settle beside each other, over both clients.
  async actions() {
    const client = open(), http = new ConvexHttpClient(url, { logger: false });
    const list = watch(client, api.list, { channel: "a" });
    for (const caller of [client, http]) {
      const id = await caller.action(api.relay, { channel: "a", body: "hello" });
      assert.equal(typeof id, "string");
      const failed = await caller.action(api.relayFailure, {}).catch((e) => e);
      assert.ok(failed instanceof ConvexError);
      assert.deepEqual(failed.data, { code: "NoLuck", message: "It did not work." });
      const wrong = await caller.action(api.relay, {}).catch((e) => e);
      assert.match(wrong.message, /ArgumentValidationError: Object is missing the required field `body`/);
      const kind = await caller.action(api.send, { channel: "a", body: "x" }).catch((e) => e);
      assert.match(kind.message, /Trying to execute t:send as Action, but it is defined as Mutation\./);
    }
    await list.until((v) => v.length === 2);
    const many = Array.from({ length: 50 }, (_, i) => client.action(api.relay, { channel: "b", body: `${i}` }));
    assert.equal(new Set(await Promise.all(many)).size, 50);
  },

  // What is scheduled happens, and its state is seen to change.
  async scheduled() {
    const client = open();
    const list = watch(client, api.list, { channel: "a" });
    const states = (job) => {
      const w = watch(client, api.job, { job: job });
      return { ...w, kinds: () => [...new Set(w.seen.map((f) => f.state.kind))], is: (kind) => w.until((f) => f.state.kind === kind) };
    };
    for (const call of [client.mutation.bind(client, api.later), client.action.bind(client, api.laterByAction)]) {
      const before = Date.now();
      const job = states(await call({ channel: "a", body: "hello", function: "send", after: 300 }));
      await job.is("success");
      assert.deepEqual(job.kinds(), ["pending", "success"]);
      const f = job.seen.at(-1);
      assert.equal(f.name, "t.js:send");
      assert.deepEqual(f.args, [{ channel: "a", body: "hello" }]);
      assert.ok(f.scheduledTime >= before + 300 - 1 && f.completedTime >= f.scheduledTime, JSON.stringify(f));
    }
    await list.until((v) => v.length === 2);

    const never = await client.mutation(api.later, { channel: "a", body: "never", function: "send", after: 60_000 });
    await client.mutation(api.cancel, { job: never });
    const canceled = states(never);
    await canceled.is("canceled");

    const action = states(await client.mutation(api.later, { channel: "a", body: "twice", function: "relayTwice", after: 0 }));
    await action.is("failed");
    assert.match(action.seen.at(-1).state.error, /Server Error\nUncaught ConvexError: \{"code":"NoLuck"/);
    await list.until((v) => v.length === 4);
    assert.deepEqual(list.seen.at(-1), ["hello", "hello", "twice", "twice"]);
  },

  // The test drops the connection while the action runs.
  async lostAction() {
    const client = open();
    const count = watch(client, api.count, { channel: "a" });
    await count.until((v) => v === 0n);
    const lost = await client.action(api.heldAction, { channel: "a" }).catch((e) => e);
    assert.match(lost.message, /Connection lost while action was in flight/);
    console.log("lost");
    await count.until((v) => v === 1n); // the action went on, once
    assert.equal(await client.query(api.count, { channel: "a" }), 1n);
  },

  async burst() {
    const client = open();
    const list = watch(client, api.list, { channel: "b" });
    const sent = Array.from({ length: 300 }, (_, i) => `message ${i}`);
    await Promise.all(sent.map((body) => client.mutation(api.send, { channel: "b", body })));
    await list.until((v) => v.length === sent.length);
    assert.deepEqual(list.seen.at(-1), sent);
  },
};

process.on("unhandledRejection", (e) => {
  console.error(e);
  process.exit(1);
});
await scenarios[name]();
await Promise.all(opened.map((client) => client.close()));
process.exit(0);
