/** The tracker as a React hook, under the name and with the calls of the original blog's. */

import { useConvex } from "convex/react";
import { makeFunctionReference } from "convex/server";
import { useEffect } from "react";
import type { Browser } from "./browser.js";
import { DEFAULT_KEY, identify } from "./identity.js";
import { watch } from "./tracker.js";

const recordPageView = makeFunctionReference<"mutation", { path: string; pageType: string; sessionId: string }, null>(
  "stats:recordPageView",
);
const heartbeat = makeFunctionReference<"mutation", { sessionId: string; currentPath: string }, null>("stats:heartbeat");

export interface PageTracking {
  /** The name of the id in localStorage. The default is the original's. */
  readonly key?: string;
  /** Whether the fragment names the page. */
  readonly hash?: boolean;
  /** Counts also those as visitors who ask not to be tracked. */
  readonly ignoreSignals?: boolean;
}

/** The tracker that runs, how many mounted components want it to, and the client that it calls: the one that was given last. */
let users = 0;
let running: AbortController | undefined;
let current: ReturnType<typeof useConvex>;

/**
 * Tracks the page for as long as a component that calls this is mounted, once however many
 * do. The mount, unmount and mount of StrictMode is one mount to it. The first component
 * to be mounted decides about the settings, the last about the client.
 */
export function usePageTracking({ key = DEFAULT_KEY, hash = false, ignoreSignals = false }: PageTracking = {}): void {
  const client = useConvex();
  useEffect(() => {
    users++;
    current = client;
    running ??= begin();
    return () => {
      users--;
      // StrictMode and a change of the route mount again in the same turn.
      setTimeout(() => {
        if (users > 0) return;
        running?.abort();
        running = undefined;
      });
    };

    function begin(): AbortController {
      const running = new AbortController();
      const win = window as Browser;
      const visitor = identify(win, key, ignoreSignals);
      if (!visitor) return running;
      const sessionId = visitor.id;
      // Nobody is made a unique visitor who will not be known again.
      const named = visitor.named ?? "";
      const path = (url: string): string => new URL(url).pathname;
      // Errors are swallowed: a page does not fail because it could not be counted. A client
      // that is closed throws at once.
      const call = async (run: () => Promise<unknown>): Promise<void> => {
        try {
          if (!running.signal.aborted) await run();
        } catch {}
      };
      watch(win, visitor, { key, hash, signal: running.signal }, {
        view: (url) => call(() => current.mutation(recordPageView, { path: path(url), pageType: pageType(path(url)), sessionId: named })),
        beat: (url) => call(() => current.mutation(heartbeat, { currentPath: path(url), sessionId })),
        leave: () => {},
      });
      return running;
    }
  }, [client, key, hash, ignoreSignals]);
}

/** The original's types: home, stats and page. */
function pageType(path: string): string {
  return path === "/" ? "home" : path === "/stats" ? "stats" : "page";
}
