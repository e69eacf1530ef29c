// Runs one scenario of signing in with the official React components against the server at a URL:
//   node reactauth.mjs http://127.0.0.1:1234 provider
// It exits with 0 when the scenario went as it should. The server signs tokens for whoever asks.
import assert from "node:assert/strict";
import { Window } from "happy-dom";

const window = new Window();
globalThis.window = window;
globalThis.document = window.document;
if (!globalThis.navigator) globalThis.navigator = window.navigator;
const { createElement: h, useCallback, useMemo, useSyncExternalStore } = await import("react");
const { createRoot } = await import("react-dom/client");
const { Authenticated, AuthLoading, ConvexProviderWithAuth, ConvexReactClient, Unauthenticated, useConvexAuth, useMutation, useQuery } = await import("convex/react");
const { anyApi } = await import("convex/server");
const { default: WebSocket } = await import("ws");

const [url, given] = process.argv.slice(2);
const [name] = given.split(" ");
const api = anyApi.u;
const client = new ConvexReactClient(url, { logger: false, webSocketConstructor: WebSocket });

// account is who is signed in with the provider, as its own library keeps it.
const account = {
  user: null,
  spoiled: false,
  fetches: 0,
  watchers: new Set(),
  set(user) {
    account.user = user;
    for (const tell of account.watchers) tell();
  },
};

function useAuth() {
  const user = useSyncExternalStore(
    useCallback((tell) => { account.watchers.add(tell); return () => account.watchers.delete(tell); }, []),
    () => account.user,
  );
  const fetchAccessToken = useCallback(async () => {
    if (user === null) return null;
    account.fetches++;
    look();
    const text = await (await fetch(`${url}/http/token?sub=${user}&lasts=1h`)).text();
    return account.spoiled ? text.slice(0, -4) + "AAAA" : text;
  }, [user]);
  return useMemo(() => ({ isLoading: false, isAuthenticated: user !== null, fetchAccessToken }), [user, fetchAccessToken]);
}

let note;
function Inside() {
  note = useMutation(api.note);
  return "in:" + useQuery(api.me);
}

const shown = [];
let look = () => {};
function Page() {
  const { isLoading, isAuthenticated } = useConvexAuth();
  return h("p", {}, `${isLoading} ${isAuthenticated} `, h(AuthLoading, {}, "loading"), h(Unauthenticated, {}, "out"), h(Authenticated, {}, h(Inside)));
}

const container = document.createElement("div");
new window.MutationObserver(() => {
  const text = container.textContent;
  if (text !== shown.at(-1)) shown.push(text);
  look();
}).observe(container, { childList: true, subtree: true, characterData: true });
const root = createRoot(container);
root.render(h(ConvexProviderWithAuth, { client, useAuth }, h(Page)));

const until = (wanted, also = () => true) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`it never shows ${wanted}; it showed ${shown.join("\n")}`)), 120_000);
  look = () => {
    if (container.textContent !== wanted || !also()) return;
    clearTimeout(timer);
    resolve();
  };
  look();
});

const scenarios = {
  async provider() {
    await until("false false out");
    account.set("ann");
    await until("false true in:ann");
    assert.equal(await note({ text: "a" }), "ann");
    account.set("bob");
    await until("false true in:bob");
    assert.equal(await note({ text: "b" }), "bob");
    account.set(null);
    await until("false false out");
    // Inside of Authenticated no query ever ran for nobody, and none showed ann to bob.
    assert.ok(!shown.some((text) => text.includes("nobody")), shown.join("\n"));
    assert.ok(!shown.slice(shown.findIndex((text) => text.includes("bob"))).some((text) => text.includes("ann")), shown.join("\n"));
  },

  // The token is not good: the page stays outside.
  async refused() {
    account.spoiled = true;
    await until("false false out");
    account.set("ann");
    await until("false false out", () => account.fetches >= 3); // it tries again with fresh ones
    assert.ok(!shown.some((text) => text.includes("in:")), shown.join("\n"));
  },
};

assert.ok(scenarios[name], `no scenario ${name}`);
await scenarios[name]();
root.unmount();
await client.close();
process.exit(0);
