/** What the client takes from the world it runs in, so that tests can move time and choose chance. */
export interface Environment {
  /** Milliseconds since 1970. */
  now(): number;
  /** A number from 0 to below 1. */
  random(): number;
  /** Runs later, and with 0 as soon as what else waits to be done has had its turn. */
  after(ms: number, run: () => void): number;
  cancel(timer: number | undefined): void;
}

/** The clock and the chance of the browser or of node. */
export const realEnvironment: Environment = {
  now: () => Date.now(),
  random: () => Math.random(),
  after: (ms, run) => (ms > 0 ? (setTimeout(run, ms) as unknown as number) : nextTurn.after(run)),
  cancel: (timer) => (timer !== undefined && timer < 0 ? nextTurn.cancel(timer) : clearTimeout(timer)),
};

/**
 * Turns that come as soon as others have had theirs. A browser has a timer that a timer has set wait for 4 ms, which is
 * half as long as what is done in a turn.
 */
const nextTurn = {
  waiting: new Map<number, () => void>(),
  last: 0,
  post: undefined as ((id: number) => void) | undefined,
  after(run: () => void): number {
    const id = --this.last; // those of the browser's timers are positive
    this.waiting.set(id, run);
    this.post ??= this.open();
    this.post(id);
    return id;
  },
  open(): (id: number) => void {
    const take = (id: number): void => {
      const run = this.waiting.get(id);
      this.waiting.delete(id);
      run?.();
    };
    // A channel would keep node from ending.
    const { setImmediate } = globalThis as { setImmediate?: (run: (id: number) => void, id: number) => unknown };
    if (setImmediate) return (id) => void setImmediate(take, id);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => take(data as number);
    return (id) => port2.postMessage(id);
  },
  cancel(id: number): void {
    this.waiting.delete(id);
  },
};

/** A name that no other has: 24 characters, those of later moments sorting after those of earlier ones. */
export function newID(environment: Environment): string {
  let id = environment.now().toString(36).padStart(9, "0");
  while (id.length < 24) id += Math.floor(environment.random() * 36).toString(36);
  return id;
}

/** A number for a Y.Doc to make its operations under. */
export function newClientID(environment: Environment): number {
  return Math.floor(environment.random() * 0xffff_fffe) + 1;
}
