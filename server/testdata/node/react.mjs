// Runs the official React hooks against the server at a URL, in a document without a screen:
//   node react.mjs http://127.0.0.1:1234 pages
// It exits with 0 when the scenario went as it should.
import assert from "node:assert/strict";
import { mount as mountBy, window } from "./screen.mjs";

const { ConvexReactClient, useAction, useMutation, usePaginatedQuery, useQuery } = await import("convex/react");
const { anyApi } = await import("convex/server");
const { ConvexError } = await import("convex/values");
const { default: WebSocket } = await import("ws");

const [url, name] = process.argv.slice(2);
const api = anyApi.t;
const open = () => new ConvexReactClient(url, { logger: false, webSocketConstructor: WebSocket });
const client = open();

const mount = (component, options) => mountBy(component, { by: client, ...options });

// addOne is the optimistic update of api.increment and its kin.
function addOne(store, { channel }) {
  const n = store.getQuery(api.count, { channel });
  if (n !== undefined) store.setQuery(api.count, { channel }, n + 1n);
}

// numbers returns what a mounted counter has shown, and fails when it was ever without a number again, or went back.
function numbers(shown) {
  const all = shown.seen.map((text) => JSON.parse(text)[0]);
  const first = all.findIndex((n) => n !== "undefined");
  const found = all.slice(first).map(Number);
  assert.ok(found.every(Number.isInteger), "it lost its number: " + all);
  assert.deepEqual(found, [...found].sort((a, b) => a - b), "it went back: " + all);
  return found;
}

const scenarios = {
  // A list of pages grows, splits, shrinks and is read to its end, and never shows a line twice or leaves one out.
  async pages() {
    const add = (...bodies) => client.mutation(api.sendAll, { channel: "list", bodies });
    await add("b", "d", "f", "h", "j");
    let more;
    const list = mount(() => {
      const { results, status, loadMore } = usePaginatedQuery(api.page, { channel: "list" }, { initialNumItems: 2 });
      more = loadMore;
      return [results.join(" "), status];
    });
    const shows = (text, status) => list.until(JSON.stringify([text, status]));
    await shows("b d", "CanLoadMore");
    more(2);
    await shows("b d f h", "CanLoadMore");
    more(2);
    await shows("b d f h j", "Exhausted");
    // Inside of a page, between two, at the very end.
    await add("c");
    await shows("b c d f h j", "Exhausted");
    await add("e");
    await shows("b c d e f h j", "Exhausted");
    await add("z");
    await shows("b c d e f h j z", "Exhausted");
    // More than twice what a page had: it is split, and shows the same.
    await add("ba", "bb", "bc", "bd");
    await shows("b ba bb bc bd c d e f h j z", "Exhausted");
    await add("be");
    await shows("b ba bb bc bd be c d e f h j z", "Exhausted");
    await client.mutation(api.removeAll, { channel: "list", bodies: ["b", "ba", "bb", "bc", "bd", "be", "c", "d"] });
    await shows("e f h j z", "Exhausted");
    for (const text of list.seen) {
      const shown = JSON.parse(text)[0].split(" ");
      assert.deepEqual(shown, [...new Set(shown)].sort(), "out of order, or twice: " + shown);
    }
  },

  // Two lists of the same query have pages of their own.
  async twoLists() {
    await client.mutation(api.sendAll, { channel: "list", bodies: ["a", "b", "c", "d"] });
    const lists = mount(() => [1, 3].map((n) =>
      usePaginatedQuery(api.page, { channel: "list" }, { initialNumItems: n }).results.join("")));
    await lists.until(JSON.stringify(["a", "abc"]));
    await client.mutation(api.sendAll, { channel: "list", bodies: ["aa"] });
    await lists.until(JSON.stringify(["a", "aaabc"]));
  },

  // A cursor of another database: the hook begins anew.
  async invalidCursor() {
    await client.mutation(api.sendAll, { channel: "list", bodies: ["a", "b"] });
    await assert.rejects(client.query(api.page, { channel: "list", paginationOpts: { numItems: 1, cursor: "nobody made this" } }), /InvalidCursor/);
    let forged = false, more;
    const list = mount(() => {
      const r = usePaginatedQuery(api.pageForged, { channel: "list", forged: false }, { initialNumItems: 1 });
      more = r.loadMore;
      return [r.results.join(""), r.status];
    });
    await list.until(JSON.stringify(["a", "CanLoadMore"]));
    assert.equal(forged, false);
    more(1); // its cursor is one that the server does not know
    await list.until(JSON.stringify(["", "LoadingFirstPage"]));
    await list.until(JSON.stringify(["a", "CanLoadMore"]));
  },

  // useQuery and useMutation with an optimistic update: no wrong number is ever shown.
  async counter() {
    let add;
    const shown = mount(() => {
      const n = useQuery(api.count, { channel: "c" });
      add = useMutation(api.increment).withOptimisticUpdate(addOne);
      return [String(n)];
    });
    await shown.until(JSON.stringify(["0"]));
    await Promise.all(Array.from({ length: 20 }, () => add({ channel: "c" })));
    await shown.until(JSON.stringify(["20"]));
    numbers(shown);
  },

  // Three clients add to one number at once. Each screen goes up to the sum, never back and never past it, and what a client has settled is on
  // its own screen.
  async concurrent() {
    const each = 25;
    const screens = [client, open(), open()].map((by) => {
      const screen = { by };
      screen.shown = mount(() => {
        const n = useQuery(api.count, { channel: "c" });
        screen.add = useMutation(api.increment).withOptimisticUpdate(addOne);
        return [String(n)];
      }, { by });
      return screen;
    });
    await Promise.all(screens.map((s) => s.shown.until(JSON.stringify(["0"]))));
    const results = await Promise.all(screens.map(async ({ by, add }) => {
      const own = [];
      let last = add({ channel: "c" });
      for (let sent = 1; sent <= each; sent++) {
        const next = sent < each ? add({ channel: "c" }) : undefined; // one is under way while the other is settled
        own.push(await last);
        assert.ok(by.watchQuery(api.count, { channel: "c" }).localQueryResult() >= own.at(-1), "its own write is not on its screen");
        last = next;
      }
      return own;
    }));
    const total = 3 * each;
    await Promise.all(screens.map((s) => s.shown.until(JSON.stringify([String(total)]))));
    for (const { shown } of screens) assert.equal(numbers(shown).at(-1), total);
    for (const own of results) assert.deepEqual(own, [...own].sort((a, b) => Number(a - b)), "a client's mutations changed places");
    assert.equal(new Set(results.flat()).size, total, "two mutations saw the same number");
    await Promise.all(screens.slice(1).map((s) => s.by.close()));
  },

  // What is sent in one breath arrives in that order, on this screen and on another one, and nothing is there twice.
  async ordering() {
    const reader = open();
    const list = () => (useQuery(api.list, { channel: "o" }) ?? ["nothing yet"]).join(" ");
    let send;
    const mine = mount(() => {
      send = useMutation(api.send).withOptimisticUpdate((store, { channel, body }) => {
        const bodies = store.getQuery(api.list, { channel });
        if (bodies !== undefined) store.setQuery(api.list, { channel }, [...bodies, body]);
      });
      return list();
    });
    const theirs = mount(list, { by: reader });
    await Promise.all([mine, theirs].map((s) => s.until('""')));
    const bodies = Array.from({ length: 40 }, (_, i) => `m${i}`);
    await Promise.all(bodies.map((body) => send({ channel: "o", body })));
    for (const { seen, until } of [mine, theirs]) {
      await until(JSON.stringify(bodies.join(" ")));
      for (const text of seen.slice(seen.indexOf('""'))) {
        const shown = JSON.parse(text).split(" ").filter(Boolean);
        assert.deepEqual(shown, bodies.slice(0, shown.length));
      }
    }
    await reader.close();
  },

  // What is seen belongs to the arguments of now, also when they change all the time, and "skip" asks for nothing.
  async switching() {
    for (const channel of ["a", "b"]) await client.mutation(api.send, { channel, body: channel });
    const shown = mount(({ channel }) => {
      const bodies = useQuery(api.list, channel ? { channel } : "skip");
      return [channel ?? "none", bodies ?? "loading"];
    });
    await shown.until(JSON.stringify(["none", "loading"]));
    for (const channel of ["a", "b", "a", undefined, "b"]) {
      shown.render({ channel });
      await shown.until(JSON.stringify(channel ? [channel, [channel]] : ["none", "loading"]));
    }
    for (const channel of ["a", "b", "a", "b", "a"]) shown.render({ channel });
    await shown.until(JSON.stringify(["a", ["a"]]));
    for (const text of shown.seen) {
      const [channel, bodies] = JSON.parse(text);
      assert.ok(bodies === "loading" || bodies[0] === channel, text);
    }
  },

  // A query that fails throws where it is rendered, with the data of its error. A mutation that fails takes its optimistic update with it.
  async errors() {
    const failing = mount(() => [useQuery(api.fails, {})], { caught: (e) => [e instanceof ConvexError, e.data] });
    await failing.until(JSON.stringify([true, { code: "NoLuck", data: { attempt: 1 }, message: "It did not work." }]));
    const refused = mount(() => [useQuery(api.list, {}) ?? "loading"], { caught: (e) => [/ArgumentValidationError: (.*)/.exec(e.message)?.[1]] });
    await refused.until(JSON.stringify(
      ["Object is missing the required field `channel`. Consider wrapping the field validator in `v.optional(...)` if this is expected."]));
    let fail, wrong;
    const shown = mount(() => {
      const n = useQuery(api.count, { channel: "e" });
      const optimistic = (store) => addOne(store, { channel: "e" });
      fail = useMutation(api.fail).withOptimisticUpdate(optimistic);
      wrong = useMutation(api.send).withOptimisticUpdate(optimistic);
      return [String(n)];
    });
    await shown.until(JSON.stringify(["0"]));
    const failed = await fail().catch((e) => e);
    assert.ok(failed instanceof ConvexError);
    assert.deepEqual(failed.data, { code: "NoLuck", message: "It did not work." });
    await shown.until(JSON.stringify(["0"]));
    const refusal = await wrong({ channel: "e" }).catch((e) => e);
    assert.ok(!(refusal instanceof ConvexError));
    assert.match(refusal.message, /^\[CONVEX M\(t:send\)\] .*ArgumentValidationError: Object is missing the required field `body`\./s);
    await shown.until(JSON.stringify(["0"]));
    assert.deepEqual(shown.seen.filter((text) => !/undefined|0|1/.test(text)), []);
  },

  // useAction settles with its result, and what it did is on the screen; its failure has the data.
  async actions() {
    let relay, fail;
    const shown = mount(() => {
      relay = useAction(api.relay);
      fail = useAction(api.relayFailure);
      return useQuery(api.list, { channel: "a" }) ?? ["loading"];
    });
    await shown.until("[]");
    const ids = await Promise.all(["x", "x", "x"].map((body) => relay({ channel: "a", body })));
    assert.equal(new Set(ids).size, 3);
    await shown.until(JSON.stringify(["x", "x", "x"]));
    const failed = await fail().catch((e) => e);
    assert.ok(failed instanceof ConvexError);
    assert.deepEqual(failed.data, { code: "NoLuck", message: "It did not work." });
  },

  // What a mutation schedules happens later, and a screen that watches it sees each of its states once.
  async scheduled() {
    let later, cancel;
    const list = mount(() => {
      later = useMutation(api.later);
      cancel = useMutation(api.cancel);
      return useQuery(api.list, { channel: "s" }) ?? ["loading"];
    });
    await list.until("[]");
    const watch = (job) => mount(() => [useQuery(api.job, { job })?.state.kind ?? "loading"]);
    const soon = watch(await later({ channel: "s", body: "hello", function: "send", after: 300 }));
    await soon.until(JSON.stringify(["success"]));
    await list.until(JSON.stringify(["hello"]));
    assert.deepEqual(soon.seen.map((text) => JSON.parse(text)[0]), ["loading", "pending", "success"]);
    const job = await later({ channel: "s", body: "never", function: "send", after: 60_000 });
    const never = watch(job);
    await never.until(JSON.stringify(["pending"]));
    await cancel({ job });
    await never.until(JSON.stringify(["canceled"]));
    assert.deepEqual(list.seen.at(-1), JSON.stringify(["hello"]));
  },

  // The test drops the connection while a mutation runs: the screen keeps its number, with the optimistic updates in it, and ends with the right one.
  async reconnect() {
    let add, held;
    const shown = mount(() => {
      const n = useQuery(api.count, { channel: "a" });
      add = useMutation(api.increment).withOptimisticUpdate(addOne);
      held = useMutation(api.held).withOptimisticUpdate(addOne);
      return [String(n)];
    });
    await shown.until(JSON.stringify(["0"]));
    const both = [held({ channel: "a" }), add({ channel: "a" })];
    await shown.until(JSON.stringify(["2"])); // before anything has happened
    assert.deepEqual(await Promise.all(both), [1n, 2n]);
    await shown.until(JSON.stringify(["2"]));
    assert.equal(numbers(shown).at(-1), 2);
    assert.ok(client.connectionState().connectionCount > 1, "the connection was not lost");
  },
};

await scenarios[name]();
await client.close();
await window.happyDOM.close();
process.exit(0);
