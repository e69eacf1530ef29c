/**
 * Watching a visitor: says which page was opened and, while it is visible, that the
 * visitor is still there. One call of `watch` is one page load.
 *
 * The tabs of one browser are one visitor, who is on the page of the tab that had the
 * focus last. They talk over a BroadcastChannel, and nothing is stored for it:
 *
 *   [CLAIM, rank, ask]   I am about to beat for the visitor; who has a lower rank goes first
 *   [BEAT, url, at, who] the visitor was told to be at url; who had the focus last is gone,
 *                        somebody, or me
 *   [GONE, who]          the tab that had the focus last was closed or hidden, or one was closed
 *
 * A tab that is closed says so to the server unless another was heard of a moment ago: the
 * visitor is still there.
 */

import type { Browser } from "./browser.js";
import type { Visitor } from "./identity.js";

/** The least time between two unchanged beats of one browser, over all its tabs. */
const UNCHANGED_MS = 20_000;
/** Beats come every 30 seconds, give or take 5. */
const BEAT_MIN_MS = 25_000;
const BEAT_JITTER_MS = 10_000;
/** The least time between two beats of one visitor whose page changes. */
const CHANGED_MS = 1_000;
/** How long a tab waits for what the others have to say before it beats. */
const CLAIM_MS = 50;

/** For how long a tab that said something is taken to be there. One in view claims whenever its beat may be due. */
const HEARD_MS = 40_000;

const CLAIM = 0;
const BEAT = 1;
const GONE = 2;
const NOBODY = 0;
const SOMEBODY = 1;
const ME = 2;
type Who = typeof NOBODY | typeof SOMEBODY | typeof ME;
type Message =
  | [kind: typeof CLAIM, rank: number, ask: boolean, none?: undefined]
  | [kind: typeof BEAT, url: string, at: number, who: Who]
  | [kind: typeof GONE, who?: typeof ME, none?: undefined, none?: undefined];

/** Where what the tracker finds out goes. */
export interface Sink {
  /** The page at `url` was opened from `referrer`. */
  view(url: string, referrer: string): unknown;
  /** The visitor is at `url`. Until the promise ends the next beat waits, at most the unchanged window. */
  beat(url: string): Promise<unknown>;
  /** The page at `url` was closed, and no other tab of the visitor is known to be there. */
  leave(url: string): unknown;
}

export interface Settings {
  /** The name of the id in localStorage, and of the channel between tabs. */
  readonly key: string;
  /** Whether the fragment names the page, as in https://site.example/#/about. */
  readonly hash?: boolean;
  /** Ends it all when aborted. Without it the tracker runs until the page goes. */
  readonly signal?: AbortSignal;
}

/** Tells the sink of the page of `win`. Returns what hands on the page's address, as it is sent, once the page is seen. */
export function watch(win: Browser, visitor: Visitor, settings: Settings, sink: Sink): (to: (url: string) => void) => void {
  const { document, history, location } = win;
  // By the wall clock, which tabs share. One set back must not silence the tracker, so
  // a time ahead of it is as old as one behind it.
  const age = (): number => Math.abs(win.Date.now() - at);

  let url: string | undefined; // of the last beat of this browser, as far as this tab knows
  let at = 0;
  let heard = 0; // when another tab that is still there said something
  let who: Who = NOBODY; // had the focus last, as far as this tab knows
  let waiting = false;
  let claim: number | undefined;
  let rank = 0;
  let timer: number | undefined;
  let viewed: string | undefined;
  let tabs: BroadcastChannel | undefined;

  const here = (): string =>
    location.origin +
    (settings.hash ? location.pathname.replace(/\/?$/, "/") + (location.hash.split(/^#!?\/?|\?/)[1] || "") : location.pathname);
  const post = (...message: Message): void => tabs?.postMessage(message);
  const drop = (): void => win.clearTimeout(claim);

  // Says where the visitor is, if that is due.
  const beat = (): void => {
    drop();
    // With nobody else who says where the visitor is, it is here.
    who ||= ME;
    const to = who === ME ? here() : url!;
    // What has changed while a beat waits for its answer follows it. An answer that does
    // not come is given up.
    if (age() < UNCHANGED_MS && (to === url || waiting)) return;
    if (age() < CHANGED_MS) {
      claim = win.setTimeout(arrive, CHANGED_MS - age());
      return;
    }
    waiting = true;
    url = to;
    at = win.Date.now();
    post(BEAT, to, at, who);
    const answered = (): void => {
      waiting = false;
      if (who === ME && here() !== url) arrive();
    };
    sink.beat(to).then(answered, answered);
  };

  // The visitor has come to this page or tab, or gone on inside of it, or is still here.
  const arrive = (): void => {
    if (document.hidden || settings.signal?.aborted) return away();
    drop();
    win.clearTimeout(timer);
    timer = win.setTimeout(arrive, BEAT_MIN_MS + win.Math.random() * BEAT_JITTER_MS);
    if (document.hasFocus()) who = ME;
    // What is not news is for one tab only to say, and perhaps has been said.
    if (tabs && !(who === ME && url && here() !== url)) {
      rank = win.Math.random() - who;
      claim = win.setTimeout(beat, CLAIM_MS);
      post(CLAIM, rank, !url);
    } else beat();
  };

  const hear = ({ data: [kind, first, second, third] }: MessageEvent<Message>): void => {
    heard = win.Date.now();
    if (kind === CLAIM) {
      if ((first as number) < rank) drop();
      if (second && url) post(BEAT, url, at, who && SOMEBODY);
    } else if (kind === BEAT) {
      if ((second as number) >= at || third === ME) {
        url = first as string;
        at = second as number;
      }
      who = third === ME ? SOMEBODY : who || third!;
    } else {
      heard = 0;
      if (first) who = NOBODY;
      arrive();
    }
  };

  // An open channel keeps a page out of the back/forward cache, so it closes while the
  // page is away.
  const listen = (): void => {
    if (visitor.named && win.BroadcastChannel) (tabs = new win.BroadcastChannel(settings.key)).onmessage = hear;
  };

  const away = (): void => {
    drop();
    win.clearTimeout(timer);
    if (who === ME) {
      post(GONE, ME);
      who = NOBODY;
    }
  };
  const close = (): void => {
    away();
    post(GONE);
    tabs?.close();
    tabs = undefined;
  };

  const visit = (): void => {
    const now = here();
    if (now !== viewed) {
      // Only what says where a visitor came from is told of the query, and only once.
      const from = (!viewed && location.search.match(/[?&](utm_\w+|ref|source)=[^&]*/g)) || [];
      sink.view(now + from.join("").replace(/^./, "?"), viewed ?? document.referrer);
      viewed = now;
    }
    arrive();
  };

  const on = (target: EventTarget, event: string, run: (event: never) => void): void =>
    target.addEventListener(event, run as EventListener, settings as AddEventListenerOptions);

  const start = (): void => {
    for (const name of ["pushState", "replaceState"] as const) {
      const original = history[name];
      history[name] = (...args) => {
        original.apply(history, args);
        visit();
      };
    }
    on(win, "popstate", visit); // also when a link changes the fragment
    on(win, "focus", arrive);
    on(document, "visibilitychange", arrive);
    on(win, "pagehide", () => {
      // The visitor stays in the other tabs.
      if (win.Date.now() - heard > HEARD_MS) sink.leave(here());
      close();
    });
    on(win, "pageshow", (event: PageTransitionEvent) => {
      if (!event.persisted) return;
      // Back from the back/forward cache: to the visitor this is a page opened again.
      viewed = url = undefined;
      listen();
      visit();
    });
    settings.signal?.addEventListener("abort", close);
    listen();
    visit();
  };

  // A page rendered ahead of a visit that may never come is not a view.
  const seen = (run: () => void): void => (document.prerendering ? on(document, "prerenderingchange", run) : run());
  seen(start);
  return (to) => seen(() => to(here()));
}
