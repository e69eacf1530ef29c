/** The tracker as a script tag: settings from the tag, messages to the server it came from. */

import type { Browser, Halcyon } from "./browser.js";
import { DEFAULT_KEY, identify } from "./identity.js";
import { watch } from "./tracker.js";

/** The script tag, as far as the tracker reads it. */
export interface ScriptTag {
  readonly src: string;
  readonly dataset: {
    /** The name of the id in localStorage. */
    readonly key?: string;
    /** Where messages go, when not to /api/event of the server that the script came from. */
    readonly api?: string;
    /** The site to count for, when not the page's host name. */
    readonly domain?: string;
    /** Present when the fragment names the page. */
    readonly hash?: string;
    /** "ignore" counts also those as visitors who ask not to be tracked. */
    readonly signals?: string;
  };
}

/** Starts tracking the page of `win`; once a page, later calls do nothing. */
export function track(win: Browser, script: ScriptTag | null): void {
  if (win.halcyonTracker) return;
  win.halcyonTracker = true;

  const { key = DEFAULT_KEY, api = "/api/event", domain, hash, signals } = script?.dataset ?? {};
  const visitor = identify(win, key, !!signals);
  // The server may be another site than the page.
  const endpoint = new win.URL(api, script?.src || win.location.href);

  const body = (name: string, url: string, visitor?: string, more?: object): string => JSON.stringify({ name, url, domain, visitor, ...more });
  const send = (text: string): Promise<unknown> =>
    win
      .fetch(endpoint, {
        method: "POST",
        // A text body is text/plain, which foreign origins may send without asking first.
        body: text,
        keepalive: true,
        credentials: "omit",
      })
      .catch(() => {});

  // With `named`, nobody is made a unique visitor who will not be known again.
  const tell = visitor && watch(win, visitor, { key, hash: hash != null }, {
    view: (url, referrer) => send(body("pageview", url, visitor.named, { referrer })),
    beat: (url) => send(body("heartbeat", url, visitor.id)),
    leave: (url) => win.navigator.sendBeacon?.(endpoint, body("leave", url, visitor.id)),
  });

  const halcyon: Halcyon = (name, options) => {
    tell?.((url) => send(body(name, url, visitor!.named, { props: options?.props })));
  };
  for (const call of win.halcyon?.q || []) halcyon(...call);
  win.halcyon = halcyon;
}
