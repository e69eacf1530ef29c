import assert from "node:assert/strict";
import test from "node:test";
import type { Environment } from "../src/environment.js";
import { Here, type Me } from "../src/presence.js";
import type { Presence, PresenceArgs, Remote } from "../src/remote.js";
import { World } from "./world.js";

/** Whom the server shows, by what it was told: as `tell` of apps/replicate/presence.go has it. */
class Presences {
  readonly #rows = new Map<string, { until: number; cursor?: Presence["cursor"] }>();

  tell({ client, action, cursor, interval }: PresenceArgs, now: number): void {
    if (action === "mark") return; // of npm clients: how far they are
    if (action === "leave") {
      this.#rows.delete(client);
      return;
    }
    const said = cursor ?? this.#rows.get(client)?.cursor;
    this.#rows.set(client, { until: now + 2.5 * (interval ?? 10_000), ...(said ? { cursor: said } : {}) });
  }

  /** The field in which the client is shown: none without a cursor, undefined if it is not shown at all. */
  field(client: string, now: number): string | undefined {
    const row = this.#rows.get(client);
    return row && row.until > now ? (row.cursor?.field ?? "none") : undefined;
  }
}

/** A server that notes what is said of presence, and a page that is hidden and shown. */
class Scene {
  readonly world = new World();
  readonly said: PresenceArgs[] = [];
  readonly page = { hidden: false, look: (): void => {} };
  connected = true;
  failing = false;
  readonly presences = new Presences();
  take: (present: readonly Presence[]) => void = () => {};
  /** How many subscriptions and listeners there are. */
  open = 0;
  #changed = (): void => {};

  readonly remote = {
    presence: async (args: PresenceArgs) => {
      this.said.push(args);
      if (this.failing) throw new Error("the server failed");
      this.presences.tell(args, this.world.now);
    },
    watchPresence: (document: string, take: (present: readonly Presence[]) => void) => {
      assert.equal(document, "doc");
      this.take = take;
      this.open++;
      return () => this.open--;
    },
    connected: () => this.connected,
    onConnection: (changed: () => void) => {
      this.#changed = changed;
      this.open++;
      return () => this.open--;
    },
  } as unknown as Remote;

  readonly environment: Environment = {
    now: () => this.world.now,
    random: () => this.world.random(),
    after: (ms, run) => this.world.after(ms, run),
    cancel: (timer) => this.world.cancel(timer),
  };

  here(me: Me, changed = (): void => {}): Here {
    const scene = this;
    Object.defineProperty(globalThis, "document", {
      configurable: true,
      value: {
        get hidden() {
          return scene.page.hidden;
        },
        addEventListener: (_: string, look: () => void) => {
          scene.page.look = look;
          scene.open++;
        },
        removeEventListener: () => scene.open--,
      },
    });
    try {
      return new Here(this.remote, "doc", me, changed, this.environment);
    } finally {
      Reflect.deleteProperty(globalThis, "document");
    }
  }

  connect(connected: boolean): void {
    this.connected = connected;
    this.#changed();
  }

  show(shown: boolean): void {
    this.page.hidden = !shown;
    this.page.look();
  }

  /** What was said since the last call. */
  actions(): string[] {
    return this.said.splice(0).map(({ action }) => action);
  }
}

const ada: Me = { user: "ada", profile: { name: "Ada", color: "#0b7480" } };

test("one joins, says every ten seconds that one is here, and leaves", async () => {
  const scene = new Scene();
  const here = scene.here(ada);
  assert.deepEqual(scene.said, [{ document: "doc", client: here.client, action: "join", user: "ada", profile: ada.profile, interval: 10_000 }]);
  scene.actions();
  await scene.world.pass(9_999);
  assert.deepEqual(scene.actions(), []);
  await scene.world.pass(20_001);
  assert.deepEqual(scene.actions(), ["join", "join", "join"]);
  here.end();
  assert.deepEqual(scene.said, [{ document: "doc", client: here.client, action: "leave" }]);
  scene.actions();
  await scene.world.pass(60_000);
  assert.deepEqual(scene.actions(), []);
  assert.equal(scene.open, 0, "nothing listens any more");
});

test("who looks away has left, and is back when they look again", async () => {
  const scene = new Scene();
  scene.here(ada);
  scene.show(false);
  await scene.world.pass(60_000);
  assert.deepEqual(scene.actions(), ["join", "leave"]);
  scene.show(true);
  await scene.world.pass(10_000);
  assert.deepEqual(scene.actions(), ["join", "join"]);
});

test("without a connection nothing is said, and with a new one one joins again", async () => {
  const scene = new Scene();
  scene.connected = false;
  const here = scene.here(ada);
  here.point({ anchor: 1, head: 1 });
  await scene.world.pass(30_000);
  assert.deepEqual(scene.actions(), []);
  scene.connect(true);
  await scene.world.pass(10_000);
  assert.deepEqual(scene.actions(), ["join", "join"]);
  scene.connect(false);
  await scene.world.pass(30_000);
  scene.show(false);
  scene.connect(true);
  await scene.world.pass(30_000);
  assert.deepEqual(scene.actions(), [], "who looks away does not join");
  here.end();
  assert.deepEqual(scene.actions(), [], "who is not there does not leave");
});

test("a cursor that moves is sent every 50 ms at most, the last place in the end", async () => {
  const scene = new Scene();
  const here = scene.here(ada);
  scene.actions();
  for (let i = 0; i < 100; i++) {
    here.point({ anchor: i, head: i, field: "note" });
    await scene.world.pass(5);
  }
  await scene.world.pass(100);
  const signals = scene.said.filter(({ action }) => action === "signal");
  assert.ok(signals.length >= 9 && signals.length <= 11, `${signals.length} in half a second`);
  assert.deepEqual(signals.at(-1)?.cursor, { anchor: 99, head: 99, field: "note" });
  await scene.world.pass(10_000);
  assert.deepEqual(scene.said.at(-1)?.action, "join");
  assert.deepEqual(scene.said.at(-1)?.cursor, { anchor: 99, head: 99, field: "note" }, "a beat says where one is");
});

test("another name is told at once", () => {
  const scene = new Scene();
  const here = scene.here(ada);
  here.be({ user: "ada", profile: { name: "Countess" } });
  assert.deepEqual(scene.said.map(({ action, profile }) => [action, profile?.name]), [["join", "Ada"], ["join", "Countess"]]);
});

test("others are those who are not oneself; what fails is not told to anybody", async () => {
  const scene = new Scene();
  scene.failing = true;
  let changes = 0;
  const here = scene.here(ada, () => changes++);
  assert.deepEqual(here.others(), []);
  const bob = { client: "b", profile: { name: "Bob" }, seen: 1 };
  scene.take([{ client: here.client, seen: 1 }, bob]);
  assert.deepEqual(here.others(), [bob]);
  assert.equal(changes, 1);
  await scene.world.pass(30_000); // an unhandled rejection would fail the test
  here.end();
});

test("who stays is shown all the time, with where they are", async () => {
  const scene = new Scene();
  const here = scene.here(ada);
  here.point({ anchor: 1, head: 1, field: "note" });
  for (let second = 1; second <= 120; second++) {
    await scene.world.pass(1_000);
    assert.equal(scene.presences.field(here.client, scene.world.now), "note", `after ${second} s`);
  }
});

test("a cursor is told with the join when it could not be told before", async () => {
  const scene = new Scene();
  scene.connected = false;
  const here = scene.here(ada);
  here.point({ anchor: 1, head: 1, field: "note" });
  await scene.world.pass(1_000);
  scene.connect(true);
  await scene.world.pass(0);
  assert.equal(scene.presences.field(here.client, scene.world.now), "note", "after the connection was made");
  scene.show(false);
  await scene.world.pass(0);
  assert.equal(scene.presences.field(here.client, scene.world.now), undefined, "while one looks away");
  scene.show(true);
  await scene.world.pass(0);
  assert.equal(scene.presences.field(here.client, scene.world.now), "note", "after one looks again");
});

test("a join and a cursor that are lost are told again with the next beat", async () => {
  const scene = new Scene();
  scene.failing = true;
  const here = scene.here(ada);
  here.point({ anchor: 1, head: 1, field: "note" });
  await scene.world.pass(5_000);
  scene.failing = false;
  await scene.world.pass(5_000);
  assert.equal(scene.presences.field(here.client, scene.world.now), "note");
});
