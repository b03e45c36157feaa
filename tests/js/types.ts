// Compiled, never run: that the declarations say what the client does, and refuse what it does not.
import { applyDelta, FreyaClient, RpcError, type ClientSnapshot, type Delta, type FeedState, type SourceState } from "../../protocol/js/index.js";

const client: FreyaClient = new FreyaClient("wss://push.example", {
  token: async ({ reason }) => (reason === "refused" ? null : "token"),
  client: "install-1",
}).start();

// the shape of React's useSyncExternalStore
declare function useSyncExternalStore<T>(subscribe: (changed: () => void) => () => void, getSnapshot: () => T): T;
const now: ClientSnapshot = useSyncExternalStore(client.subscribe, client.getSnapshot);
const urgency: number | undefined = now.items[0]?.signals?.urgency;

export async function calls(): Promise<void> {
  const { sources }: { sources: SourceState[] } = await client.call("source.list", { schemas: true });
  const state = await client.call("source.patch", { sourceId: sources[0]!.sourceId, config: { a: null } });
  const version: number = state.version;
  const unknown: unknown = await client.call("some.method", { version, urgency });
  // @ts-expect-error a known method's params are checked
  await client.call("source.patch", { source: "x", unknown });
  // @ts-expect-error and its result
  const wrong: string = await client.call("feed.refresh");
  return void wrong;
}

client.on("feed.delta", ({ cursor, cause }) => `${cursor} ${cause?.computeMs ?? 0}`);
client.on("*", (method: string) => method);
// @ts-expect-error a known notification's params are checked
client.on("source.changed", ({ item }) => item);
// @ts-expect-error a client needs a token
new FreyaClient("wss://push.example", {});
// @ts-expect-error what is shown is not to be written to
now.items = [];

export const next = (state: FeedState, delta: Delta): FeedState => applyDelta(state, delta);
export const later = (error: unknown): number | null => (error instanceof RpcError ? error.retryInMs : null);
