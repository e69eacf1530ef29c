import type { Browser } from "../src/browser.js";

/** When the world begins, by the wall clock. */
const EPOCH = Date.UTC(2026, 0, 1);

/** One message a tracker sent. */
export interface Sent {
  at: number;
  tab: string;
  name: string;
  /** The page, without its origin. */
  path: string;
  /** The visitor's id, or undefined when the message is nobody's. */
  visitor?: string;
  /** What else it says. */
  more: { referrer?: string; domain?: string; props?: unknown };
}

interface Timer {
  due: number;
  id: number;
  run: () => void;
}

/**
 * A world stands in for the clock, the network and one browser profile, that is
 * local storage and the channel between tabs. Time moves only in `pass`.
 */
export class World {
  now = 0;
  /** What Math.random gives: 0.5 makes every interval exactly 30 seconds. */
  random: number | ((tab: string) => number) = 0.5;
  /** How long the server takes; Infinity never answers. */
  latency = 0;
  /** How far the wall clock is off what has passed. */
  clockError = 0;
  /** Whether calls fail, as they do offline. */
  offline = false;
  readonly sent: Sent[] = [];
  readonly urls = new Set<string>();
  readonly stored = new Map<string, string>();
  /** The greatest number of heartbeats of one tab that were under way at once. */
  heartbeatsAtOnceMax = 0;
  readonly channels = new Set<Channel>();
  readonly tabs: Tab[] = [];

  #timers: Timer[] = [];
  #timerID = 0;

  after(ms: number, run: () => void): number {
    this.#timers.push({ due: this.now + ms, id: ++this.#timerID, run });
    return this.#timerID;
  }

  cancel(id: number | undefined): void {
    this.#timers = this.#timers.filter((timer) => timer.id !== id);
  }

  /** Lets time pass, running every timer in order, promises included. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    await settle();
    for (;;) {
      this.#timers.sort((a, b) => a.due - b.due || a.id - b.id);
      const next = this.#timers[0];
      if (!next || next.due > end) break;
      this.#timers.shift();
      this.now = Math.max(this.now, next.due);
      next.run();
      await settle();
    }
    this.now = end;
  }

  /** The heartbeats sent so far, as "seconds path", cut to tenths. */
  beats(): string[] {
    return this.#list("heartbeat");
  }

  /** The page views sent so far, as "seconds path". */
  views(): string[] {
    return this.#list("pageview");
  }

  /** The messages of closed pages, as "seconds path". */
  leaves(): string[] {
    return this.#list("leave");
  }

  #list(name: string): string[] {
    return this.sent.filter((s) => s.name === name).map((s) => `${Math.floor(s.at / 100) / 10} ${s.path}`);
  }
}

/** Lets every promise that can settle do so. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

class Channel {
  onmessage: ((message: { data: unknown }) => void) | null = null;
  closed = false;

  constructor(
    readonly world: World,
    readonly name: string,
  ) {
    world.channels.add(this);
  }

  postMessage(data: unknown): void {
    if (this.closed) throw new Error("post on a closed channel");
    for (const other of this.world.channels) {
      if (other === this || other.name !== this.name) continue;
      this.world.after(0, () => other.closed || other.onmessage?.({ data }));
    }
  }

  close(): void {
    this.closed = true;
    this.world.channels.delete(this);
  }
}

class Emitter {
  readonly #listeners: { event: string; run: (event: object) => void }[] = [];

  addEventListener(event: string, run: (event: object) => void): void {
    this.#listeners.push({ event, run });
  }

  emit(event: string, details: object = {}): void {
    for (const listener of [...this.#listeners]) if (listener.event === event) listener.run(details);
  }
}

export interface TabOptions {
  path?: string;
  hidden?: boolean;
  prerendering?: boolean;
  doNotTrack?: string;
  globalPrivacyControl?: boolean;
  /** What storage does: refuses to write, or is not there to be asked. */
  storage?: "full" | "blocked";
  referrer?: string;
  /** Whether the window is in front. The last tab that was opened is, unless told otherwise. */
  unfocused?: boolean;
  noChannel?: boolean;
}

/** One page load in one tab of the world's browser. */
export class Tab {
  readonly window = new Emitter();
  readonly document: Emitter & { hidden: boolean; prerendering: boolean; referrer: string; hasFocus: () => boolean };
  readonly location: { origin: string; pathname: string; href: string; hash: string; search: string };
  focused: boolean;
  readonly browser: Browser;
  #heartbeats = 0;

  constructor(
    readonly world: World,
    readonly name: string,
    options: TabOptions = {},
  ) {
    this.location = { origin: "https://site.example", pathname: "", href: "https://site.example", hash: "", search: "" };
    this.#move(options.path ?? "/");
    this.focused = !options.hidden && !options.unfocused;
    if (this.focused) for (const other of world.tabs) other.focused = false;
    world.tabs.push(this);
    this.document = Object.assign(new Emitter(), {
      hidden: options.hidden ?? false,
      prerendering: options.prerendering ?? false,
      referrer: options.referrer ?? "",
      hasFocus: () => this.focused,
    });
    const go = (_state: unknown, _title: string, url?: string): void => {
      if (url !== undefined) this.#move(url);
    };
    const storage = {
      getItem: (key: string) => world.stored.get(key) ?? null,
      setItem: (key: string, value: string) => {
        if (options.storage === "full") throw new Error("QuotaExceededError");
        world.stored.set(key, value);
      },
      removeItem: (key: string) => world.stored.delete(key),
    };
    const window = Object.defineProperties(this.window, Object.getOwnPropertyDescriptors({
      document: this.document,
      location: this.location,
      history: { pushState: go, replaceState: go },
      navigator: {
        doNotTrack: options.doNotTrack ?? null,
        globalPrivacyControl: options.globalPrivacyControl,
        sendBeacon: (url: URL, body: string) => this.#take(url.href, body),
      },
      get localStorage() {
        if (options.storage === "blocked") throw new Error("SecurityError");
        return storage;
      },
      URL: globalThis.URL,
      Blob: globalThis.Blob,
      Math: { random: () => (typeof world.random === "function" ? world.random(name) : world.random) },
      Date: { now: () => EPOCH + world.now + world.clockError },
      setTimeout: (run: () => void, ms: number) => world.after(ms, run),
      clearTimeout: (id: number | undefined) => world.cancel(id),
      fetch: (url: URL, init: { body: string }) => this.#fetch(url.href, init.body),
      ...(options.noChannel
        ? {}
        : {
            BroadcastChannel: class extends Channel {
              constructor(channel: string) {
                super(world, channel);
              }
            },
          }),
    }));
    this.browser = window as unknown as Browser;
  }

  push(url: string): void {
    this.browser.history.pushState(null, "", url);
  }

  replace(url: string): void {
    this.browser.history.replaceState(null, "", url);
  }

  /** The back button inside one document. */
  back(url: string): void {
    this.#move(url);
    this.window.emit("popstate");
  }

  /** A link to a fragment. */
  hash(fragment: string): void {
    this.#move(fragment);
    this.window.emit("popstate");
  }

  hide(): void {
    this.document.hidden = true;
    this.document.emit("visibilitychange");
  }

  show(): void {
    this.document.hidden = false;
    this.document.emit("visibilitychange");
  }

  /** The window comes to the front, and no other is there. */
  focus(): void {
    for (const other of this.world.tabs) other.focused = other === this;
    this.window.emit("focus");
  }

  /** The page is left: for good, or for the back/forward cache. */
  close(): void {
    this.focused = false;
    this.window.emit("pagehide");
    this.hide();
  }

  #move(url: string): void {
    const target = new URL(url, this.location.href);
    for (const part of ["href", "pathname", "hash", "search"] as const) this.location[part] = target[part];
  }

  /** The message arrives, whatever becomes of the answer. */
  #take(url: string, body: string): boolean {
    const { name, url: page, visitor, ...more } = JSON.parse(body);
    const { origin, pathname, search } = new URL(page);
    if (origin !== this.location.origin) throw new Error("odd page: " + page);
    this.world.urls.add(url);
    const who = visitor === undefined ? {} : { visitor };
    this.world.sent.push({ at: this.world.now, tab: this.name, name, path: pathname + search, ...who, more });
    return true;
  }

  #fetch(url: string, body: string): Promise<unknown> {
    this.#take(url, body);
    const heartbeat = this.world.sent.at(-1)!.name === "heartbeat";
    if (heartbeat) {
      this.#heartbeats++;
      this.world.heartbeatsAtOnceMax = Math.max(this.world.heartbeatsAtOnceMax, this.#heartbeats);
    }
    return new Promise((resolve, reject) => {
      if (this.world.latency === Infinity) return;
      this.world.after(this.world.latency, () => {
        if (heartbeat) this.#heartbeats--;
        if (this.world.offline) reject(new TypeError("Failed to fetch"));
        else resolve({ ok: true });
      });
    });
  }
}
