export { FreyaClient } from "./client.js";
export { CallTimedOut, ConnectionLost, MessageTooBig, NotConnected, RpcError } from "./errors.js";
export { applyDelta, canonical, DeltaError, fromSnapshot, visibleItems } from "./feed.js";
export { advice, backoffCapMs, retryInMs, STEADY_MS } from "./reconnect.js";
export { browserSurroundings } from "./surroundings.js";
