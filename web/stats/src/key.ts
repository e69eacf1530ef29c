/**
 * The key that a server may ask for. It is kept for as long as the tab is open and travels
 * as an argument of the queries, never in an address: not in one that is asked for, and not
 * in one that other sites are told. A link may bring it after the # (/stats#key=...), which
 * browsers keep to themselves; it is taken out of the address at once.
 */

import { byID, setText } from "./dom.js";

/** The name of the key in sessionStorage. */
const STORED = "halcyon-stats-key";

/** The codes of the server's refusals. */
const KEY_REQUIRED = "StatsKeyRequired";
const OFF = "StatsOff";

let key: string | undefined;

/** The key as an argument of a query. */
export function keyArgument(): { key?: string } {
  return key === undefined ? {} : { key };
}

/** Takes the key out of the address, or finds the one that the tab had. Reports whether the address brought one. */
export function takeKey(): boolean {
  const given = new URLSearchParams(location.hash.slice(1));
  const brought = given.get("key");
  if (brought === null) {
    try {
      key = sessionStorage.getItem(STORED) ?? undefined;
    } catch {
      // Storage is forbidden: the key lasts as long as the page.
    }
    return false;
  }
  given.delete("key");
  const rest = given.toString();
  history.replaceState(null, "", location.pathname + location.search + (rest && "#" + rest));
  keep(brought);
  return true;
}

function keep(wanted: string | undefined): void {
  key = wanted || undefined;
  try {
    if (key === undefined) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, key);
  } catch {
    // As above.
  }
}

/** Has the page ask for the key when it needs one; `again` asks the server anew. */
export function startKey(again: () => void): void {
  byID("lock-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keep(byID<HTMLInputElement>("lock-key").value.trim());
    byID("lock").ariaBusy = "true";
    again();
  });
}

/** Whether an error says that the key is missing or wrong, or that nobody may look. The page says so then. */
export function refused(error: Error & { data?: unknown }): boolean {
  const { code, message } = (error.data ?? {}) as { code?: unknown; message?: unknown };
  if (code !== KEY_REQUIRED && code !== OFF) return false;
  const input = byID<HTMLInputElement>("lock-key");
  const locked = document.documentElement.classList.contains("locked");
  document.documentElement.classList.remove("early");
  document.documentElement.classList.add("locked");
  byID("lock").ariaBusy = "false";
  byID("lock-form").hidden = code === OFF;
  setText(byID("lock-said"), String(message));
  if (key !== undefined) {
    setText(byID("lock-wrong"), "That is not the key. Try again.");
    input.ariaInvalid = "true";
    keep(undefined);
    input.select();
  } else if (!locked) input.focus();
  return true;
}

/** Takes the question for the key away: an answer has come. */
export function granted(): void {
  const { classList } = document.documentElement;
  if (!classList.contains("locked")) return;
  classList.remove("locked");
  const input = byID<HTMLInputElement>("lock-key");
  input.value = "";
  input.ariaInvalid = null;
  setText(byID("lock-wrong"), "");
  byID("main").focus();
}
