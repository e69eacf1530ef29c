/** Who is visiting: one random id under one name of localStorage, or nobody who can be known again. */

import type { Browser } from "./browser.js";

/** The name under which the id is kept, as the original blog did. */
export const DEFAULT_KEY = "markdown_blog_session_id";

export interface Visitor {
  readonly id: string;
  /** The id again where it is stored, so that the visitor is known by it on the next page. */
  readonly named: string | undefined;
}

/**
 * The visitor of this page load; undefined when this browser is not to be counted. A page
 * opened with the fragment #halcyon-ignore sets that, and "ignore" is kept instead of an id;
 * with #halcyon-count it ends.
 */
export function identify(win: Browser, key: string, ignoreSignals: boolean): Visitor | undefined {
  const asked = /^#halcyon-(count|(ignore))$/.exec(win.location.hash);
  let stored = asked?.[2] as string | null | undefined;
  // The address of a blob ends with a random UUID of version 4, also on plain http, where
  // crypto.randomUUID is missing. The empty blob goes with the page.
  const id = win.URL.createObjectURL(new win.Blob()).slice(-36);
  let named: string | undefined;
  try {
    const storage = win.localStorage;
    if (!asked) stored = storage.getItem(key);
    // Whoever asks not to be tracked is counted as a view but never recognised again.
    if (stored === "ignore" || ignoreSignals || !(win.navigator.doNotTrack === "1" || win.navigator.globalPrivacyControl))
      storage.setItem(key, (named = stored || id));
    else storage.removeItem(key);
  } catch {
    // Storage is forbidden or full: the id lives as long as the page does.
    named = undefined;
  }
  if (stored !== "ignore") return { id: named || id, named };
}
