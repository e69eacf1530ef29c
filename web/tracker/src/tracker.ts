/**
 * The tracker: tells the server which page a visitor opened and, while the page
 * is visible, that the visitor is still there. One call of `track` is one page load.
 *
 * Everything the browser offers is reached through the window given, so that the
 * tests can run it on a clock and a browser of their own.
 */

/** The least time between two unchanged beats of one browser, over all its tabs. */
const UNCHANGED_MS = 20_000;
/** Beats come every 30 seconds, give or take 5. */
const BEAT_MIN_MS = 25_000;
const BEAT_JITTER_MS = 10_000;
/** A beat that got no answer for so long is given up, so that the next one may go. */
const GIVE_UP_MS = 20_000;

const DEFAULT_KEY = "markdown_blog_session_id";

declare global {
  interface Window {
    /** Set once the tracker runs: a page that includes the script twice counts once. */
    halcyonTracker?: boolean;
  }
  interface Navigator {
    readonly globalPrivacyControl?: boolean;
  }
  interface Document {
    readonly prerendering?: boolean;
  }
}

export type Browser = Window & typeof globalThis;

/** The script tag, as far as the tracker reads it. */
export interface ScriptTag {
  readonly src: string;
  readonly dataset: { readonly key?: string };
}

/** Starts tracking the page of `win`; once a page, later calls do nothing. */
export function track(win: Browser, script: ScriptTag | null): void {
  if (win.halcyonTracker) return;
  win.halcyonTracker = true;

  const { document, history, location, navigator } = win;
  const key = script?.dataset.key || DEFAULT_KEY;
  // The server is where the script came from, which may be another site than the page.
  const endpoint = new win.URL("/api/mutation", script?.src || location.href).href;
  // Whoever asks not to be tracked is counted as a view but never recognised again.
  const unnamed = navigator.doNotTrack === "1" || navigator.globalPrivacyControl;

  // A random UUID of version 4. crypto.randomUUID would be missing on plain http.
  let sessionId = "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
    (+digit ^ (win.crypto.getRandomValues(new Uint8Array(1))[0]! & (15 >> (+digit / 4)))).toString(16),
  );
  try {
    const storage = win.localStorage;
    if (unnamed) storage.removeItem(key);
    else storage.setItem(key, (sessionId = storage.getItem(key) || sessionId));
  } catch {
    // Storage is forbidden or full: the id lives as long as the page does.
  }

  const send = (name: string, args: object): Promise<unknown> =>
    win
      .fetch(endpoint, {
        method: "POST",
        // A text body is text/plain, which foreign origins may send without asking first.
        body: JSON.stringify({ path: "stats:" + name, args: { ...args, sessionId }, format: "json" }),
        keepalive: true,
        credentials: "omit",
        signal: win.AbortSignal.timeout?.(GIVE_UP_MS) ?? null,
      })
      .catch(() => {});

  // The last beat of this browser as far as this tab knows. Time is the page's own
  // monotonic clock: a wall clock set back would silence the tracker.
  let beatAt = -UNCHANGED_MS;
  let beatPath: string | undefined;
  let waiting = false;
  let timer: number | undefined;
  let viewPath: string | undefined;
  let tabs: BroadcastChannel | undefined;

  const heard = (path: string): void => {
    beatAt = win.performance.now();
    beatPath = path;
  };

  // Tabs tell each other of their beats; nothing is stored for it. An open channel
  // keeps a page out of the back/forward cache, so it closes while the page is away.
  const listen = (): void => {
    if (unnamed || !win.BroadcastChannel) return;
    tabs = new win.BroadcastChannel(key);
    tabs.onmessage = (message) => heard(message.data);
  };

  // `arrived`: the visitor has just come to this page or tab, rather than the timer.
  // Then a path that differs from the last one beats whatever the time.
  const beat = (arrived: boolean): void => {
    win.clearTimeout(timer);
    if (document.hidden) return;
    timer = win.setTimeout(beat, BEAT_MIN_MS + win.Math.random() * BEAT_JITTER_MS, false);
    const path = location.pathname;
    const changed = arrived && path !== beatPath;
    if (waiting || (!changed && win.performance.now() - beatAt < UNCHANGED_MS)) return;
    waiting = true;
    heard(path);
    tabs?.postMessage(path);
    void send("heartbeat", { currentPath: path }).then(() => {
      waiting = false;
      if (location.pathname !== path) beat(true);
    });
  };
  const arrive = (): void => beat(true);

  const visit = (): void => {
    const path = location.pathname;
    if (path !== viewPath) {
      viewPath = path;
      const pageType = path === "/" ? "home" : path === "/stats" ? "stats" : "page";
      void send("recordPageView", { path, pageType });
    }
    arrive();
  };

  const start = (): void => {
    for (const name of ["pushState", "replaceState"] as const) {
      const original = history[name];
      history[name] = function (this: History, ...args) {
        original.apply(this, args);
        visit();
      };
    }
    win.addEventListener("popstate", visit);
    win.addEventListener("focus", arrive);
    document.addEventListener("visibilitychange", arrive);
    win.addEventListener("pagehide", () => {
      tabs?.close();
      tabs = undefined;
    });
    win.addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      // Back from the back/forward cache: to the visitor this is a page opened again.
      viewPath = undefined;
      listen();
      visit();
    });
    listen();
    visit();
  };

  // A page rendered ahead of a visit that may never come is not a view.
  if (document.prerendering) document.addEventListener("prerenderingchange", start, { once: true });
  else start();
}
