export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export interface FeedItem {
  id: string;
  sourceId: string;
  type: string;
  timestamp: string;
  data: JsonObject;
  signals?: { urgency?: number; timeRelevance?: "imminent" | "upcoming" | "ambient" | (string & {}) };
  slots?: { [name: string]: { description: string; content: string | null } };
  ui?: Json;
  expiresAt?: string;
}
export interface Group {
  itemIds: string[];
  summary: string;
}
export interface SourceError {
  sourceId: string;
  code: "unauthorized" | "unreachable" | "rateLimited" | "badAnswer" | "config" | "limit" | "internal" | (string & {});
  message: string;
  since: string;
  retryAt?: string;
}
export interface ContextEntry {
  key: (string | number | JsonObject)[];
  value: Json;
}
export interface FeedState {
  readonly feed: string;
  readonly cursor: string;
  readonly at: string;
  readonly items: readonly FeedItem[];
  readonly groups: readonly Group[];
  readonly errors: readonly SourceError[];
  readonly pending: readonly string[];
  readonly context: readonly ContextEntry[];
}
export interface ActionInfo {
  id: string;
  label: string;
  description?: string;
  inputSchema?: JsonObject;
}
export interface SourceState {
  sourceId: string;
  name: string;
  enabled: boolean;
  version: number;
  config: JsonObject;
  hasCredentials: boolean;
  status: "off" | "starting" | "active" | "failing" | "blocked" | (string & {});
  error?: SourceError;
  blockedBy?: Json;
  lastOkAt?: string;
  schemaDigest: string;
  configSchema?: JsonObject;
  credentialSchema?: JsonObject;
  actions?: ActionInfo[];
}
export interface Snapshot {
  feed: string;
  cursor: string;
  at: string;
  items: FeedItem[];
  groups: Group[];
  errors: SourceError[];
  pending: string[];
  context?: ContextEntry[];
}
export interface Delta {
  feed: string;
  base: string;
  cursor: string;
  at: string;
  put?: { index: number; item: FeedItem }[];
  move?: { index: number; id: string }[];
  remove?: string[];
  groups?: Group[];
  errors?: SourceError[];
  pending?: string[];
  context?: { set?: ContextEntry[]; unset?: ContextEntry["key"][] };
  cause?: { sourceId?: string; trigger: string; computeMs: number; waitedMs: number; merged: number };
}
export interface Welcome {
  server: Json;
  protocol: Json;
  schemaDigest: string;
  replica: string;
  connection: string;
  user: string;
  now: string;
  expiresAt: string;
  heartbeatMs: number;
  ackEveryMs?: number;
  limits: { [name: string]: number };
}

/** The methods with a type for params and result; any other method may be called by its name. */
export interface Methods {
  "feed.get": { params: { feed?: string }; result: Snapshot };
  "feed.refresh": { params: Record<string, never>; result: { cursor: string } };
  "source.list": { params: { schemas?: boolean; user?: string }; result: { sources: SourceState[] } };
  "source.get": { params: { sourceId: string; schemas?: boolean; user?: string }; result: SourceState };
  "source.patch": {
    params: { sourceId: string; enabled?: boolean; config?: JsonObject; credentials?: JsonObject; ifVersion?: number; verify?: boolean };
    result: SourceState;
  };
  "source.put": {
    params: { sourceId: string; enabled: boolean; config?: JsonObject; credentials?: JsonObject; ifVersion?: number; verify?: boolean };
    result: SourceState;
  };
  "source.authorize": { params: { sourceId: string; credentials: JsonObject }; result: SourceState };
  "source.delete": { params: { sourceId: string }; result: Record<string, never> };
  "source.preview": {
    params: { sourceId: string; config?: JsonObject; credentials?: JsonObject };
    result: { items: FeedItem[]; errors: SourceError[] };
  };
  "action.execute": { params: { sourceId: string; actionId: string; params?: JsonObject; key?: string }; result: { result: Json } };
  "item.publish": {
    params: { feed?: string; feeds?: string[]; items: JsonObject[] };
    result: { accepted: number; reachable: { [feed: string]: number } };
  };
  "item.retract": { params: { feed?: string; feeds?: string[]; ids: string[] }; result: { removed: number } };
  "item.dismiss": { params: { id: string }; result: Record<string, never> };
  "connection.info": { params: Record<string, never>; result: ConnectionInfo };
  "connection.ping": { params: Record<string, never>; result: { at: string } };
  "connection.renew": { params: { token: string }; result: { expiresAt: string } };
  "feed.subscribe": {
    params: { feeds: { feed: string; since?: string; minIntervalMs?: number }[] };
    result: { feeds: ({ feed: string; cursor: string } | { feed: string; error: JsonObject })[] };
  };
  "feed.unsubscribe": { params: { feeds: string[] }; result: Record<string, never> };
  "provider.list": { params: Record<string, never>; result: { providers: JsonObject[] } };
  "stats.subscribe": { params: { everyMs?: number }; result: Record<string, never> };
  "stats.unsubscribe": { params: Record<string, never>; result: Record<string, never> };
  "user.inspect": { params: { user: string }; result: JsonObject };
  "user.revoke": { params: { user: string; issuedBefore?: string }; result: { closed: number } };
  "user.delete": { params: { user: string }; result: Record<string, never> };
}

export interface ConnectionInfo {
  user: string;
  scopes: string[];
  replica: string;
  server: Json;
  connectedAt: string;
  subscriptions: Json;
  lag: Json;
  lastResume: Json;
}

/** What the server says unasked, and what `on` hands over. */
export interface Notifications {
  "connection.welcome": Welcome;
  "connection.beat": { at: string; degraded?: string[] };
  "connection.expiring": { inMs: number };
  "feed.snapshot": Snapshot;
  "feed.delta": Delta;
  /** `refused` and `error` are the client's own words, where a watched feed could not be subscribed to. */
  "feed.closed": { feed: string; reason: "scope" | "revoked" | "gone" | "refused" | (string & {}); error?: RpcError };
  "source.changed": { source: SourceState };
  "server.draining": { reconnectInMs: number };
  "server.status": { degraded: string[]; since?: string };
  "stats.update": { at: string; replicas: number; connections: number; sessions: number; [figure: string]: Json };
}

export type Status = "idle" | "connecting" | "live" | "waiting" | "paused" | "signIn" | "stopped";

export interface ClientSnapshot {
  /** `live`: what is shown is current; `connecting`: it may be old, the client is on its way (also while it reads
   *  the feed anew); `waiting`: reconnects at `retryAt`; `paused`: hidden, nothing is pushed; `signIn`: a new
   *  sign-in is needed; `stopped`: by `stop()` or by a terminal close code. */
  readonly status: Status;
  /** The own feed's last state as the server sent it, kept while the connection is away. */
  readonly feed: FeedState | null;
  /** The own feed's items without those that have expired, also offline. */
  readonly items: readonly FeedItem[];
  /** The watched feeds by user, without items that have expired. */
  readonly feeds: { readonly [feed: string]: FeedState };
  readonly welcome: Welcome | null;
  /** What the server is without at the moment, by name. */
  readonly degraded: readonly string[] | null;
  readonly draining: boolean;
  /** Milliseconds since the epoch. */
  readonly retryAt: number | null;
  /** How the last connection ended, kept while the next one lives. */
  readonly closed: { readonly code: number; readonly reason: string } | null;
}

export interface Timers {
  setTimeout(fn: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** Milliseconds since the epoch. */
  now(): number;
}

export interface Surroundings {
  hidden(): void;
  shown(): void;
  online(): void;
  offline(): void;
}

export interface ClientOptions {
  /** A token, or how to get one. With a string the client cannot renew: at its end it asks to sign in. */
  token: string | ((why: { reason: "connect" | "expiring" | "refused" }) => string | null | Promise<string | null>);
  /** Default: the global WebSocket. */
  WebSocket?: new (url: string, protocols: string[], options?: any) => any;
  /** A third argument for the WebSocket constructor (React Native: `{headers: {Origin: ...}}`). */
  socketOptions?: unknown;
  own?: boolean;
  delta?: boolean;
  settings?: boolean;
  context?: boolean;
  debug?: boolean;
  deflate?: boolean;
  minIntervalMs?: number;
  heartbeatMs?: number;
  /** One id per install: a newer connection with it closes the older. */
  client?: string;
  /** Default true: the server stops pushing while the page is hidden. */
  pauseWhenHidden?: boolean;
  /** How long the server keeps a hidden connection (default 10 minutes, at most 30). */
  keepMs?: number;
  surroundings?: (react: Surroundings) => (() => void) | void;
  onTraffic?: (direction: "in" | "out", text: string) => void;
  timers?: Timers;
  random?: () => number;
}

/** Follows one user's feed, and any number of others. Throws TypeError for an address that is none, and where
 *  there is no WebSocket. */
export class FreyaClient {
  constructor(url: string, options: ClientOptions);
  start(): this;
  stop(): void;
  hide(): void;
  show(): void;
  wake(): void;
  subscribe: (listener: () => void) => () => void;
  getSnapshot: () => ClientSnapshot;
  on(method: "*", fn: (method: string, params: any) => void): () => void;
  on<M extends keyof Notifications>(method: M, fn: (params: Notifications[M]) => void): () => void;
  on<M extends string>(method: M extends keyof Notifications ? never : M, fn: (params: any) => void): () => void;
  /** The result of one request, waiting for a connection where there is none. Rejects with RpcError for an error
   *  answer; NotConnected and MessageTooBig (nothing was sent); ConnectionLost and CallTimedOut (it may or may not
   *  have been done: `repeatable` says whether it may be sent once more). Default `timeoutMs`: 15,000. */
  call<M extends keyof Methods>(method: M, params?: Methods[M]["params"], options?: { timeoutMs?: number }): Promise<Methods[M]["result"]>;
  call<M extends string>(method: M extends keyof Methods ? never : M, params?: object, options?: { timeoutMs?: number }): Promise<unknown>;
  watch(feed: string, options?: { minIntervalMs?: number }): Promise<void>;
  unwatch(feed: string): Promise<void>;
}

export class RpcError extends Error {
  readonly code: number;
  readonly data: { temporary?: boolean; retryInMs?: number; issues?: { path: Json; message: string }[]; [name: string]: unknown };
  readonly temporary: boolean;
  readonly retryInMs: number | null;
}
/** The request may or may not have been done; `repeatable`: it can be sent once more without harm. */
export class ConnectionLost extends Error {
  readonly method: string;
  readonly repeatable: boolean;
  readonly code: number;
  readonly reason: string;
}
/** The request may or may not have been done. */
export class CallTimedOut extends Error {
  readonly method: string;
  readonly repeatable: boolean;
}
/** Nothing was sent. */
export class NotConnected extends Error {
  readonly method: string;
  readonly repeatable: true;
  readonly status: Status;
}
/** Nothing was sent. */
export class MessageTooBig extends Error {
  readonly method: string;
  readonly repeatable: false;
}
export class DeltaError extends Error {}

export interface Advice {
  action: "reconnect" | "renew" | "signIn" | "stop";
  delayMs: number;
}
export function advice(code: number, reason: string, history: { failures: number; refusals: number }, random: () => number): Advice;
export function backoffCapMs(failures: number): number;
export function retryInMs(reason: string | null | undefined): number | null;
export const STEADY_MS: number;
export function fromSnapshot(params: Snapshot): FeedState;
export function applyDelta(state: FeedState, delta: Delta): FeedState;
export function canonical(value: Json): string;
export function visibleItems(items: readonly FeedItem[], now: number): readonly FeedItem[];
export function browserSurroundings(react: Surroundings): () => void;
