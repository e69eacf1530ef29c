/** Queries that are watched, and what is said about the connection and their failures. */

import type { ConvexClient } from "convex/browser";
import type { FunctionReference } from "convex/server";
import { byID, setText } from "./dom.js";
import { granted, keyArgument, refused } from "./key.js";
import { serverSaid } from "./model.js";

/** A connection lost for less than this is not worth a word. */
const RECONNECTING_AFTER_MS = 1_000;

/** Says how the connection is, once that has lasted long enough to matter. */
export function watchConnection(client: ConvexClient): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const say = (state: string, text: string): void => {
    const pill = byID("link");
    if (pill.dataset["state"] === state) return;
    pill.dataset["state"] = state;
    setText(byID("link-text"), text);
  };
  client.subscribeToConnectionState(({ isWebSocketConnected, hasEverConnected }) => {
    if (isWebSocketConnected) {
      clearTimeout(timer);
      timer = undefined;
      say("live", "Live");
    } else {
      timer ??= setTimeout(
        () => (hasEverConnected ? say("lost", "Reconnecting") : say("lost", "Trying to connect")),
        RECONNECTING_AFTER_MS,
      );
    }
  });
}

const troubles = new Map<string, string>();

/** A query that fails says so on the page; the next good result takes it back. */
function trouble(what: string, error: Error | undefined): void {
  if (error) troubles.set(what, serverSaid(error.message));
  else if (!troubles.delete(what)) return;
  const box = byID("trouble");
  box.hidden = troubles.size === 0;
  setText(box, [...troubles].map(([name, text]) => `${name} can’t be read just now. The server said: ${text}`).join("\n"));
}

/** One query of the page, asked anew when its arguments or the key change. What it showed stays until then. */
export class Live<Args extends Record<string, unknown>, Result> {
  static readonly #all: Live<never, never>[] = [];
  #args: Args | undefined;
  #asked: string | undefined;
  #stop: (() => void) | undefined;

  constructor(
    private readonly client: ConvexClient,
    private readonly query: FunctionReference<"query", "public", Args, Result>,
    private readonly what: string,
    private readonly show: (result: Result) => void,
  ) {
    Live.#all.push(this as unknown as Live<never, never>);
  }

  /** Asks all queries again, with another key. */
  static again(): void {
    for (const live of Live.#all) live.ask(live.#args);
  }

  ask(args: Args | undefined): void {
    this.#args = args;
    const keyed = args && { ...args, ...keyArgument() };
    const asked = keyed && JSON.stringify(keyed);
    if (asked === this.#asked) return;
    this.#asked = asked;
    this.#stop?.();
    this.#stop = undefined;
    trouble(this.what, undefined);
    if (!keyed) return;
    const current = (): boolean => asked === this.#asked;
    this.#stop = this.client.onUpdate(
      this.query,
      keyed as never,
      (result) => {
        if (!current()) return;
        granted();
        trouble(this.what, undefined);
        this.show(result as Result);
      },
      (error) => {
        if (!current()) return;
        // The same key is asked about again when it is typed again.
        if (refused(error)) this.#asked = undefined;
        else trouble(this.what, error);
      },
    );
  }
}
