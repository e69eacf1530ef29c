// Runs one scenario of signing in with the official Convex clients against the server at a URL:
//   node auth.mjs http://127.0.0.1:1234 "signIn ADMIN-KEY"
// It exits with 0 when the scenario went as it should. The server signs tokens for whoever asks.
import assert from "node:assert/strict";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";

const [url, given] = process.argv.slice(2);
const [name, adminKey] = given.split(" ");
const api = anyApi.u;

const opened = [];
function open() {
  const client = new ConvexClient(url, { logger: false });
  opened.push(client);
  return client;
}

async function token(sub, lasts = "1h") {
  const answer = await fetch(`${url}/http/token?sub=${sub}&lasts=${lasts}`);
  assert.equal(answer.status, 200);
  return answer.text();
}

// watch records what a query shows; until waits for a value.
function watch(client, query, args = {}) {
  const seen = [];
  let look = () => {};
  client.onUpdate(query, args, (value) => { seen.push(value); look(); }, (error) => { seen.push(error.message); look(); });
  const until = (wanted) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it never shows ${JSON.stringify(wanted)}; it showed ${JSON.stringify(seen)}`)), 120_000);
    look = () => {
      if (JSON.stringify(seen.at(-1)) !== JSON.stringify(wanted)) return;
      clearTimeout(timer);
      resolve();
    };
    look();
  });
  return { seen, until };
}

// signIn gives the client a user, and records what it is told of the sign-in.
function signIn(client, sub, lasts) {
  const states = [], fetches = [], got = [];
  let look = () => {};
  client.setAuth(async ({ forceRefreshToken }) => {
    fetches.push(forceRefreshToken);
    look();
    const text = await token(sub, lasts);
    setTimeout(() => { got.push(text); look(); }); // when the client has it
    return text;
  }, (signedIn) => { states.push(signedIn); look(); });
  const until = (holds) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`states ${states}, fetches ${fetches}`)), 120_000);
    look = () => {
      if (!holds()) return;
      clearTimeout(timer);
      resolve();
    };
    look();
  });
  return { states, fetches, got, until };
}

const scenarios = {
  // Nobody, a user, another one, nobody.
  async signIn() {
    const client = open();
    const me = watch(client, api.me);
    await me.until("nobody");
    const ann = signIn(client, "ann");
    await me.until("ann");
    await ann.until(() => ann.states.at(-1) === true);
    assert.equal(await client.mutation(api.note, { text: "a" }), "ann");
    assert.equal(await client.action(api.act, { text: "b" }), "ann ann");
    assert.equal((await client.query(api.viewer, {})).subject, "ann");
    const bob = signIn(client, "bob");
    await me.until("bob");
    // The client asks for a second token at once, and would sign in with it after it has signed out.
    await bob.until(() => bob.states.at(-1) === true && bob.got.length === 2);
    assert.equal(await client.mutation(api.note, { text: "c" }), "bob");
    client.client.clearAuth(); // signs out
    await me.until("nobody");
    assert.equal(await client.mutation(api.note, { text: "d" }), "nobody");
    assert.deepEqual(me.seen, ["nobody", "ann", "bob", "nobody"]);
  },

  // A token that lasts 12 s is renewed by the client after 2; keys rotate meanwhile. Nothing is shown again for it.
  async renewal() {
    const client = open();
    const me = watch(client, api.me);
    await me.until("nobody");
    const ann = signIn(client, "ann", "12s");
    await me.until("ann");
    console.log("rotate");
    await ann.until(() => ann.fetches.length >= 4); // the cached one, a fresh one, and two renewals
    assert.equal(await client.mutation(api.note, { text: "a" }), "ann");
    assert.deepEqual(me.seen, ["nobody", "ann"]);
    assert.ok(ann.states.every((s) => s === true), String(ann.states));
  },

  // The token ends although the client does not expect it: it fetches another one, and what it sent meanwhile happens, in order and once.
  async expiry() {
    const client = open();
    const me = watch(client, api.me), notes = watch(client, api.notes);
    await notes.until([]);
    const ann = signIn(client, "ann", "30m");
    await me.until("ann");
    await ann.until(() => ann.states.at(-1) === true && ann.fetches.length === 2);
    await client.mutation(api.note, { text: "before" });
    console.log("an hour later");
    const sent = [];
    for (let i = 0; i < 20; i++) sent.push(client.mutation(api.note, { text: `${i}` }));
    assert.deepEqual(await Promise.all(sent), Array(20).fill("ann"));
    const want = ["before", ...Array.from({ length: 20 }, (_, i) => `${i}`)].map((text) => `ann: ${text}`);
    await notes.until(want);
    await ann.until(() => ann.fetches.length > 2);
    assert.equal(ann.fetches[2], true);
    assert.ok(!me.seen.slice(me.seen.indexOf("ann")).includes("nobody"), "signed out in between: " + me.seen);
    assert.equal(ann.states.at(-1), true);
  },

  // A provider's token for somebody else's application: the client gives up and goes on for nobody.
  async refused() {
    const client = open();
    const me = watch(client, api.me);
    const states = [];
    let told;
    const changed = new Promise((resolve) => { told = resolve; });
    let n = 0;
    client.setAuth(async () => {
      const parts = (await token(`eve${n++}`)).split(".");
      parts[1] = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(parts[1], "base64url")), sub: "ann" })).toString("base64url");
      return parts.join(".");
    }, (ok) => { states.push(ok); told(); });
    await changed;
    assert.deepEqual(states, [false]);
    await me.until("nobody");
    assert.equal(await client.mutation(api.note, { text: "x" }), "nobody");
    assert.ok(!me.seen.includes("ann"));
  },

  async http() {
    const client = new ConvexHttpClient(url, { logger: false });
    assert.equal(await client.query(api.me, {}), "nobody");
    client.setAuth(await token("ann"));
    assert.equal(await client.query(api.me, {}), "ann");
    assert.equal(await client.mutation(api.note, { text: "a" }), "ann");
    assert.equal(await client.action(api.act, { text: "b" }), "ann ann");
    client.clearAuth();
    assert.equal(await client.query(api.me, {}), "nobody");
    client.setAuth(await token("ann", "-1h"));
    await assert.rejects(client.query(api.me, {}), /TokenExpired/);
    client.setAuth("x.y.z");
    await assert.rejects(client.mutation(api.note, { text: "c" }), /InvalidAuthHeader/);
    client.setAdminAuth(adminKey);
    assert.equal(await client.mutation(api.secretNote, { text: "d" }), "nobody");
    client.setAdminAuth(adminKey, { issuer: "i", subject: "dora", name: "Dora ☃" });
    assert.equal((await client.query(api.viewer, {})).name, "Dora ☃");
    client.setAdminAuth("ops|00");
    await assert.rejects(client.query(api.me, {}), /BadAdminKey/);
  },

  async admin() {
    const client = open();
    const secret = watch(client, api.secret), me = watch(client, api.me);
    await me.until("nobody");
    client.setAdminAuth(adminKey, { issuer: "i", subject: "dora", tokenIdentifier: "i|dora" });
    await me.until("dora");
    await secret.until([]);
    assert.equal(await client.mutation(api.secretNote, { text: "a" }), "dora");
    await secret.until(["dora: a"]);
  },
};

assert.ok(scenarios[name], `no scenario ${name}`);
await scenarios[name]();
await Promise.all(opened.map((client) => client.close()));
process.exit(0);
