/** What the client takes from the world it runs in, so that tests can move time and choose chance. */
export interface Environment {
  /** Milliseconds since 1970. */
  now(): number;
  /** A number from 0 to below 1. */
  random(): number;
  after(ms: number, run: () => void): number;
  cancel(timer: number | undefined): void;
}

/** The clock and the chance of the browser or of node. */
export const realEnvironment: Environment = {
  now: () => Date.now(),
  random: () => Math.random(),
  after: (ms, run) => setTimeout(run, ms) as unknown as number,
  cancel: (timer) => clearTimeout(timer),
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
