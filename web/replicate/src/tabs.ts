/** How the tabs of a browser that show one collection act as one. */

/** What tabs tell each other. */
export interface Tabs {
  /** Sends to all other tabs. */
  post(message: unknown): void;
  /** Calls once, when this tab is the one that speaks with the server. It is that until it is closed. */
  lead(begin: () => void): void;
  close(): void;
}

export type JoinTabs = (name: string, hear: (message: unknown) => void) => Tabs;

/** For what is in one place only. */
export const alone: JoinTabs = () => {
  let closed = false;
  return {
    post: () => {},
    lead: (begin) => queueMicrotask(() => closed || begin()),
    close: () => (closed = true),
  };
};

/**
 * Tabs over a BroadcastChannel, led by the one that has a Web Lock: the browser gives it to the
 * next when a tab is closed or dies. Where there are no locks, which is on pages that are neither
 * https nor of the same machine, every tab speaks with the server for itself.
 */
export const browserTabs: JoinTabs = (name, hear) => {
  const channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(name);
  if (channel) channel.onmessage = (event) => hear(event.data);
  const locks = typeof navigator === "undefined" ? undefined : (navigator.locks as LockManager | undefined);
  const closing = new AbortController();
  let release = (): void => {};
  return {
    post: (message) => channel?.postMessage(message),
    lead: (begin) => {
      if (!locks) {
        queueMicrotask(() => closing.signal.aborted || begin());
        return;
      }
      const held = new Promise<void>((resolve) => (release = resolve));
      locks
        .request(name, { signal: closing.signal }, () => {
          if (closing.signal.aborted) return undefined;
          begin();
          return held;
        })
        .catch(() => {}); // closed before it was its turn
    },
    close: () => {
      closing.abort();
      release();
      channel?.close();
    },
  };
};
