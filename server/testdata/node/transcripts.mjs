// Plays one scenario for a transcript, with the official Convex clients against the recording proxy at a URL:
//   node transcripts.mjs http://127.0.0.1:1234 sync
// Nothing in it depends on time: each step waits for what it brings about, and the proxy for all that was asked to be answered, before the
// next step begins.
import assert from "node:assert/strict";

const [url, name] = process.argv.slice(2);

async function tell(path, parameters = {}) {
  const answer = await fetch(`${url}/transcript/${path}?${new URLSearchParams(parameters)}`, { method: "POST" });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

// step ends one step and begins the next. What a client asks for by itself, when nobody waits for it, belongs to the step before: querySet is
// the version that its query set comes to.
const step = (name, querySet = 0) => tell("step", { name, querySet });

// watch records what a query shows; until waits for a value.
function watch(client, query, args) {
  const seen = [];
  let look = () => {};
  const shows = (value) => { seen.push(value); look(); };
  const stop = client.onUpdate(query, args, shows, (error) => shows(`error: ${error.data?.code}`));
  const until = (wanted) => new Promise((resolve) => {
    look = () => JSON.stringify(seen.at(-1), text) === JSON.stringify(wanted, text) && resolve();
    look();
  });
  return { seen, until, stop };
}
const text = (_, v) => (typeof v === "bigint" ? `${v}n` : v);

const scenarios = {
  // Queries, mutations and actions that go well and that do not, a query that is asked once, values of all kinds, and a query that is not
  // watched any more.
  async sync({ open, t }) {
    const client = open();
    const list = watch(client, t.list, { channel: "general" }), fails = watch(client, t.fails, {});
    await Promise.all([list.until([]), fails.until("error: NoLuck")]);
    await step("a mutation");
    await client.mutation(t.send, { channel: "general", body: "hello" });
    await list.until(["hello"]);
    await step("a mutation that changes nothing that is watched");
    assert.equal(await client.mutation(t.increment, { channel: "elsewhere" }), 1n);
    await step("a mutation that fails");
    await assert.rejects(client.mutation(t.fail, {}), /It did not work/);
    await step("a mutation without its arguments");
    await assert.rejects(client.mutation(t.send, { channel: "general" }), /ArgumentValidationError/);
    await step("an action");
    await client.action(t.relay, { channel: "general", body: "by an action" });
    await list.until(["hello", "by an action"]);
    await step("an action that fails");
    await assert.rejects(client.action(t.relayFailure, {}), /It did not work/);
    await step("a query that is asked once");
    assert.equal(await client.query(t.count, { channel: "elsewhere" }), 1n);
    await step("a function that does not exist", 3);
    await assert.rejects(client.query(t.missing, {}), /Could not find/);
    await step("values", 5);
    await client.query(t.echo, { big: -(2n ** 63n), bytes: new Uint8Array([0, 1, 255]).buffer, nan: NaN, zero: -0, list: [null, true, "żółć </script>"] });
    await step("not watched any more", 7);
    list.stop();
    await step("a mutation that nobody watches", 8);
    await client.mutation(t.send, { channel: "general", body: "unseen" });
    await step("watched again");
    await watch(client, t.list, { channel: "general" }).until(["hello", "by an action", "unseen"]);
  },

  // The response of a mutation is lost with the connection, and another mutation is made while there is none.
  async reconnect({ open, t }) {
    const client = open();
    const count = watch(client, t.count, { channel: "a" });
    await count.until(0n);
    await step("a mutation whose response is lost");
    await tell("lose");
    assert.equal(await client.mutation(t.increment, { channel: "a" }), 1n);
    await count.until(1n);
    await step("a mutation without a connection");
    await tell("cut");
    assert.equal(await client.mutation(t.increment, { channel: "a" }), 2n);
    await count.until(2n);
    await step("another one");
    assert.equal(await client.mutation(t.increment, { channel: "a" }), 3n);
    await count.until(3n);
  },

  // A user signs in, gets a fresh token, comes back on another connection, is refused and tries again, and signs out.
  async auth({ open, u }) {
    const client = open();
    const me = watch(client, u.me, {});
    await me.until("nobody");
    await step("a user signs in");
    const states = [];
    let look = () => {}, forged = 0;
    const fetchToken = () => tell("token", { sub: "ann", forged: forged-- > 0 ? "1" : "" });
    client.setAuth(fetchToken, (signedIn) => { states.push(signedIn); look(); });
    const until = (n) => new Promise((resolve) => { look = () => states.length >= n && resolve(); look(); });
    await until(2); // with the first token, and with the fresh one that the client asks for at once
    await me.until("ann");
    await step("a mutation of that user");
    assert.equal(await client.mutation(u.note, { text: "a" }), "ann");
    await step("another connection");
    await tell("cut");
    assert.equal(await client.mutation(u.note, { text: "b" }), "ann");
    await step("a token that is refused");
    forged = 1;
    client.setAuth(fetchToken, (signedIn) => { states.push(signedIn); look(); });
    await until(3);
    assert.equal(await client.mutation(u.note, { text: "c" }), "ann");
    await step("the user signs out");
    client.client.clearAuth();
    await me.until("nobody");
    await step("a mutation of nobody");
    assert.equal(await client.mutation(u.note, { text: "d" }), "nobody");
    assert.ok(states.every((s) => s), String(states));
  },

  // More results than a client should have to wait for in one message.
  async large({ open, t }) {
    const client = open(), channels = Array.from({ length: 24 }, (_, i) => `${i}`);
    const shown = channels.map((channel) => watch(client, t.big, { channel }));
    await Promise.all(shown.map((s) => s.until("0".repeat(256 << 10))));
    await step("one of them changes");
    await client.mutation(t.increment, { channel: "7" });
    await shown[7].until("1".repeat(256 << 10));
  },

  // usePaginatedQuery: the first page, more, a line between those that are shown, a page that is split, lines that go, another connection, and
  // the end of the component.
  async pages({ t }) {
    const { mount, window } = await import("./screen.mjs");
    const { ConvexReactClient, usePaginatedQuery } = await import("convex/react");
    const { default: WebSocket } = await import("ws");
    const client = new ConvexReactClient(url, { logger: false, webSocketConstructor: WebSocket });
    const change = (f, ...bodies) => client.mutation(f, { channel: "list", bodies });
    await change(t.sendAll, "b", "d", "f", "h", "j");
    await step("the first page");
    let more;
    const list = mount(() => {
      const { results, status, loadMore } = usePaginatedQuery(t.page, { channel: "list" }, { initialNumItems: 2 });
      more = loadMore;
      return [results.join(" "), status];
    }, { by: client });
    const shows = (text, status) => list.until(JSON.stringify([text, status]));
    await shows("b d", "CanLoadMore");
    await step("more");
    more(10);
    await shows("b d f h j", "Exhausted");
    await step("a line in the first page");
    await change(t.sendAll, "c");
    await shows("b c d f h j", "Exhausted");
    await step("the first page is split");
    await change(t.sendAll, "ba", "bb");
    await shows("b ba bb c d f h j", "Exhausted");
    await step("lines go", 6);
    await change(t.removeAll, "b", "ba", "f");
    await shows("bb c d h j", "Exhausted");
    await step("another connection");
    await tell("cut");
    await change(t.sendAll, "e");
    await shows("bb c d e h j", "Exhausted");
    await step("the component is gone");
    list.unmount();
    await step("a mutation that nobody watches", 4);
    await change(t.sendAll, "z");
    await client.close();
    await window.happyDOM.close();
  },
};

const { anyApi } = await import("convex/server");
const opened = [];
async function clients() {
  const { ConvexClient } = await import("convex/browser");
  return () => {
    opened.push(new ConvexClient(url, { logger: false }));
    return opened.at(-1);
  };
}
await scenarios[name]({ open: name === "pages" ? undefined : await clients(), t: anyApi.t, u: anyApi.u });
await step("end");
await Promise.all(opened.map((client) => client.close()));
process.exit(0);
