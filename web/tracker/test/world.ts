import type { Browser } from "../src/tracker.js";

/** One message a tracker sent. */
export interface Sent {
  at: number;
  tab: string;
  name: string;
  path: string;
  pageType?: string;
  sessionId: string;
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
  random = 0.5;
  /** How long the server takes; Infinity never answers, so only the signal ends the call. */
  latency = 0;
  /** Whether calls fail, as they do offline. */
  offline = false;
  readonly sent: Sent[] = [];
  readonly urls = new Set<string>();
  readonly stored = new Map<string, string>();
  /** The greatest number of heartbeats of one tab that were under way at once. */
  heartbeatsAtOnceMax = 0;
  readonly channels = new Set<Channel>();

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

  /** The heartbeats sent so far, as "seconds path". */
  beats(): string[] {
    return this.#list("heartbeat");
  }

  /** The page views sent so far, as "seconds path". */
  views(): string[] {
    return this.#list("recordPageView");
  }

  #list(name: string): string[] {
    return this.sent.filter((s) => s.name === name).map((s) => `${s.at / 1000} ${s.path}`);
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
  noStorage?: boolean;
  noChannel?: boolean;
}

/** One page load in one tab of the world's browser. */
export class Tab {
  readonly window = new Emitter();
  readonly document: Emitter & { hidden: boolean; prerendering: boolean };
  readonly location: { pathname: string; href: string };
  readonly browser: Browser;
  #heartbeats = 0;

  constructor(
    readonly world: World,
    readonly name: string,
    options: TabOptions = {},
  ) {
    const path = options.path ?? "/";
    this.location = { pathname: path, href: "https://site.example" + path };
    this.document = Object.assign(new Emitter(), {
      hidden: options.hidden ?? false,
      prerendering: options.prerendering ?? false,
    });
    const go = (_state: unknown, _title: string, url?: string): void => {
      if (url !== undefined) this.#move(url);
    };
    const window = Object.assign(this.window, {
      document: this.document,
      location: this.location,
      history: { pushState: go, replaceState: go },
      navigator: { doNotTrack: options.doNotTrack ?? null, globalPrivacyControl: options.globalPrivacyControl },
      localStorage: {
        getItem: (key: string) => world.stored.get(key) ?? null,
        setItem: (key: string, value: string) => {
          if (options.noStorage) throw new Error("QuotaExceededError");
          world.stored.set(key, value);
        },
        removeItem: (key: string) => world.stored.delete(key),
      },
      crypto: globalThis.crypto,
      URL: globalThis.URL,
      Math: { random: () => world.random },
      performance: { now: () => world.now },
      AbortSignal: { timeout: (ms: number) => ms },
      setTimeout: (run: (arg: unknown) => void, ms: number, arg: unknown) => world.after(ms, () => run(arg)),
      clearTimeout: (id: number | undefined) => world.cancel(id),
      fetch: (url: string, init: { body: string; signal: number }) => this.#fetch(url, init),
      ...(options.noChannel
        ? {}
        : {
            BroadcastChannel: class extends Channel {
              constructor(channel: string) {
                super(world, channel);
              }
            },
          }),
    });
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

  hide(): void {
    this.document.hidden = true;
    this.document.emit("visibilitychange");
  }

  show(): void {
    this.document.hidden = false;
    this.document.emit("visibilitychange");
  }

  focus(): void {
    this.window.emit("focus");
  }

  #move(url: string): void {
    const target = new URL(url, this.location.href);
    this.location.href = target.href;
    this.location.pathname = target.pathname;
  }

  #fetch(url: string, init: { body: string; signal: number }): Promise<unknown> {
    const { path, args, format } = JSON.parse(init.body);
    if (format !== "json" || !path.startsWith("stats:")) throw new Error("odd call: " + init.body);
    const name: string = path.slice("stats:".length);
    this.world.urls.add(url);
    this.world.sent.push({
      at: this.world.now,
      tab: this.name,
      name,
      path: args.path ?? args.currentPath,
      ...(args.pageType === undefined ? {} : { pageType: args.pageType }),
      sessionId: args.sessionId,
    });
    const heartbeat = name === "heartbeat";
    if (heartbeat) {
      this.#heartbeats++;
      this.world.heartbeatsAtOnceMax = Math.max(this.world.heartbeatsAtOnceMax, this.#heartbeats);
    }
    return new Promise((resolve, reject) => {
      const aborted = init.signal < this.world.latency;
      this.world.after(Math.min(init.signal, this.world.latency), () => {
        if (heartbeat) this.#heartbeats--;
        if (aborted || this.world.offline) reject(new TypeError("Failed to fetch"));
        else resolve({ ok: true });
      });
    });
  }
}
