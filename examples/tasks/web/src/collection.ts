// The tasks on this device, and the connection by which they come to others. The page runs it before the list: it opens what it needs meanwhile.

import { ConvexClient } from "convex/browser";
import { replicate } from "halcyon-replicate";

export interface Task {
  id: string;
  title: string;
  done: boolean;
  note?: string;
}

export const tasks = replicate<Task>({
  client: new ConvexClient(location.origin, { unsavedChangesWarning: false }),
  collection: "tasks",
  prose: ["note"],
});
