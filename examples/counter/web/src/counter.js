// The page of the counter, with the official client, unmodified.

import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";

const { click, count } = anyApi.counter;
const button = { button: "page" };
const client = new ConvexClient(location.origin);
const shown = document.getElementById("count");
const press = document.getElementById("click");
const link = document.getElementById("link");

client.onUpdate(count, button, (n) => {
  shown.textContent = n;
  press.disabled = false;
});

// What is pressed counts on this screen at once, and is replaced by the server's number when that has it.
function optimisticUpdate(store, args) {
  const n = store.getQuery(count, args);
  if (n !== undefined) store.setQuery(count, args, n + 1);
}

press.addEventListener("click", () => {
  client.mutation(click, button, { optimisticUpdate }).catch((error) => (link.textContent = error.message));
});

client.subscribeToConnectionState(({ isWebSocketConnected, hasEverConnected }) => {
  link.textContent = isWebSocketConnected ? "Live" : hasEverConnected ? "Reconnecting…" : "Connecting…";
});
