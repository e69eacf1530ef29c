import { type Environment, realEnvironment } from "./environment.js";
import type { Presence, PresenceArgs, Remote } from "./remote.js";

/** How often one says that one is still here. Who has not said so for two and a half of it is gone for the server. */
const BEAT_MS = 10_000;
/** How often at most a cursor is sent. */
const CURSOR_MS = 50;

export interface Me {
  /** What the app calls the user. */
  readonly user?: string;
  readonly profile?: Presence["profile"];
}

/** What of a page is used to know whether somebody looks at it. */
type Page = Pick<Document, "hidden" | "addEventListener" | "removeEventListener">;

/**
 * Says that a user is on a document while it lives, and hears who else is. It leaves while the page
 * is hidden. What is said of presence is not kept when it can't be sent: it is old by then.
 */
export class Here {
  readonly client: string;
  readonly #remote: Remote;
  readonly #document: string;
  readonly #environment: Environment;
  readonly #page: Page | undefined;
  readonly #changed: () => void;
  readonly #ends: (() => void)[] = [];
  #me: Me;
  #others: readonly Presence[] = [];
  #cursor: Presence["cursor"];
  #beat: number | undefined;
  #signal: number | undefined;
  #signalled = -Infinity;
  #joined = false;

  constructor(remote: Remote, document: string, me: Me, changed: () => void, environment: Environment = realEnvironment) {
    this.#remote = remote;
    this.#document = document;
    this.#me = me;
    this.#changed = changed;
    this.#environment = environment;
    this.client = `c${Math.floor(environment.random() * 2 ** 48).toString(36)}`;
    this.#page = typeof globalThis.document === "undefined" ? undefined : globalThis.document;
    const look = (): void => (this.#page?.hidden ? this.#leave() : this.#join());
    this.#page?.addEventListener("visibilitychange", look);
    this.#ends.push(() => this.#page?.removeEventListener("visibilitychange", look));
    this.#ends.push(remote.onConnection(() => (remote.connected() ? look() : this.#hush())));
    this.#ends.push(
      remote.watchPresence(
        document,
        (present) => {
          this.#others = present.filter(({ client }) => client !== this.client);
          this.#changed();
        },
        () => {}, // whoever is here is not shown, and nothing else is wrong
      ),
    );
    look();
  }

  /** The others who are on the document. */
  others(): readonly Presence[] {
    return this.#others;
  }

  /** Changes who one is. */
  be(me: Me): void {
    this.#me = me;
    if (this.#joined) this.#say("join");
  }

  /** Shows where one is in the document; `undefined` is nowhere. */
  point(cursor: Presence["cursor"]): void {
    this.#cursor = cursor;
    if (!this.#joined || this.#signal !== undefined) return;
    const wait = Math.max(0, this.#signalled + CURSOR_MS - this.#environment.now());
    this.#signal = this.#environment.after(wait, () => {
      this.#signal = undefined;
      this.#signalled = this.#environment.now();
      if (this.#joined) this.#say("signal");
    });
  }

  #join(): void {
    if (!this.#remote.connected()) return;
    this.#say("join");
    this.#joined = true;
    this.#environment.cancel(this.#beat);
    const beat = (): void => {
      this.#beat = this.#environment.after(BEAT_MS, () => {
        this.#say("join"); // again: by a mark the server does not know that one is still here
        beat();
      });
    };
    beat();
  }

  #leave(): void {
    if (this.#joined) this.#say("leave");
    this.#hush();
  }

  /** Says nothing more until there is a reason to join. */
  #hush(): void {
    this.#joined = false;
    this.#environment.cancel(this.#beat);
    this.#environment.cancel(this.#signal);
    this.#signal = undefined;
  }

  #say(action: PresenceArgs["action"]): void {
    const { user, profile } = this.#me;
    const cursor = action === "leave" ? undefined : this.#cursor; // also of a join: what was said before it may be lost, or forgotten with a leave
    const who = action === "leave" ? {} : { ...(user === undefined ? {} : { user }), ...(profile ? { profile } : {}), interval: BEAT_MS };
    this.#remote
      .presence({ document: this.#document, client: this.client, action, ...who, ...(cursor ? { cursor } : {}) })
      .catch(() => {}); // the next beat says it again
  }

  /** Leaves for good. */
  end(): void {
    this.#leave();
    for (const end of this.#ends) end();
  }
}
