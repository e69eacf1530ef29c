// What an author writes with the generated types. It is only checked, never run. A line below @ts-expect-error has to be refused.
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { useAction, useMutation, usePaginatedQuery, useQuery } from "convex/react";
import { api } from "./halcyon/api.js";
import type { Doc, Id } from "./halcyon/dataModel.js";

export function Room({ room }: { room: Id<"rooms"> }) {
  const name: string | undefined = useQuery(api.chat.room, { room })?.name;
  const { results, loadMore } = usePaginatedQuery(api.chat.list, { room }, { initialNumItems: 20 });
  const send = useMutation(api.chat.send).withOptimisticUpdate((store, args) => {
    const shown: Doc<"rooms"> | null | undefined = store.getQuery(api.chat.room, { room: args.room });
    if (shown) store.setQuery(api.chat.room, { room: args.room }, { ...shown, messages: shown.messages + 1n });
  });
  const summarise = useAction(api.chat.summarise);
  const texts: string[] = results.map((m) => {
    const id: Id<"messages"> = m._id;
    switch (m.content.kind) {
      case "text":
        return id + m.content.body;
      case "image":
        return m.content.url + m.content.width;
    }
  });
  return (
    <button
      onClick={async () => {
        loadMore(5);
        const sent: Id<"messages"> = await send({ room, content: { kind: "text", body: "hi" }, mood: "glad" });
        await send({ room, content: { kind: "image", url: sent, width: 1 }, mood: "sad", tags: ["a"], at: Date.now() });
        const words: Record<string, number[]> = await summarise({});
        console.log(words, (await summarise()).a);
        // @ts-expect-error a mood that there is not
        await send({ room, content: { kind: "text", body: "hi" }, mood: "hungry" });
        // @ts-expect-error an image has no body
        await send({ room, content: { kind: "image", body: "hi" }, mood: "sad" });
        // @ts-expect-error the id of another table
        await send({ room: sent, content: { kind: "text", body: "hi" }, mood: "sad" });
        // @ts-expect-error an argument is missing
        await send({ room });
      }}
    >
      {name} {texts}
    </button>
  );
}

export async function plain(client: ConvexClient, http: ConvexHttpClient, room: Id<"rooms">) {
  const doc: Doc<"rooms"> | null = await http.query(api.chat.room, { room });
  const count: bigint | undefined = doc?.messages;
  const maybe: ArrayBuffer | null | undefined = doc?.picture;
  client.onUpdate(api.chat.room, { room }, (shown) => console.log(shown?.name, count, maybe));
  // @ts-expect-error internal functions are not there
  await client.mutation(api.chat.forget, {});
  // @ts-expect-error a query is not a mutation
  await client.mutation(api.chat.room, { room });
  // @ts-expect-error a number is not a bigint
  const wrong: number | undefined = doc?.messages;
  return wrong;
}
