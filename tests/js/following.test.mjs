import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, begin, beginLive, delta, item, settled, snapshot } from "./scripted.mjs";

const ids = (items) => items.map(({ id }) => id);

test("the token goes as a subprotocol, never in the address, and the beat is asked for", async () => {
  const { socket } = begin();
  await settled();
  assert.deepEqual(socket().protocols, ["freya.v1", "bearer.t0ken"]);
  assert.equal(socket().url.href, "wss://push.example/v1/feed?beat=1");
});

test("every option that the server is asked for is in the address", async () => {
  const { socket } = begin({
    own: false, delta: false, settings: false, context: true, debug: true, deflate: false,
    minIntervalMs: 200, heartbeatMs: 5_000, client: "phone-1",
  });
  await settled();
  const wanted = {
    beat: "1", own: "0", delta: "0", settings: "0", context: "1", debug: "1", deflate: "0",
    minIntervalMs: "200", heartbeatMs: "5000", client: "phone-1",
  };
  assert.deepEqual(socket().params, wanted);
});

test("React Native's third argument reaches the WebSocket", async () => {
  const { socket } = begin({ socketOptions: { headers: { Origin: "https://app.example" } } });
  await settled();
  assert.deepEqual(socket().options, { headers: { Origin: "https://app.example" } });
});

test("the state is live with the first snapshot and follows the deltas", async () => {
  const { socket, client, status } = begin();
  await settled();
  assert.equal(status(), "connecting");
  await socket().welcome();
  assert.equal(status(), "connecting");
  await socket().say("feed.snapshot", snapshot("alice", "c1", [item("a/1"), item("a/2")]));
  assert.equal(status(), "live");
  await socket().say("feed.delta", delta("alice", "c1", "c2", {
    put: [{ index: 0, item: item("b/1") }], move: [{ index: 1, id: "a/2" }], remove: ["a/1"], groups: [{ itemIds: ["b/1"], summary: "s" }],
  }));
  const { items, feed } = client.getSnapshot();
  assert.deepEqual(ids(items), ["b/1", "a/2"]);
  assert.equal(feed.cursor, "c2");
  assert.deepEqual(feed.groups, [{ itemIds: ["b/1"], summary: "s" }]);
});

test("the snapshot is one object while nothing changes, and unchanged items stay the same objects", async () => {
  const { socket, client } = await beginLive({}, [item("a/1"), item("a/2")]);
  const before = client.getSnapshot();
  await socket().say("connection.beat", { at: "2026-03-01T12:00:25Z" });
  assert.equal(client.getSnapshot(), before);
  await socket().say("feed.delta", delta("alice", "c1", "c2", { remove: ["a/2"] }));
  assert.notEqual(client.getSnapshot(), before);
  assert.equal(client.getSnapshot().items[0], before.items[0]);
});

test("a delta that starts elsewhere makes the client read the feed anew, and ignore deltas until then", async () => {
  const { socket, client, status } = await beginLive();
  await socket().say("feed.delta", delta("alice", "c5", "c6", { remove: ["a/1"] }));
  assert.equal(status(), "connecting");
  assert.deepEqual(socket().last("feed.get").params, {});
  await socket().say("feed.delta", delta("alice", "c6", "c7"));
  assert.deepEqual(ids(client.getSnapshot().items), ["a/1"]);
  await socket().answer("feed.get", snapshot("alice", "c8", [item("a/9")]));
  assert.equal(status(), "live");
  await socket().say("feed.delta", delta("alice", "c8", "c9", { put: [{ index: 1, item: item("a/10") }] }));
  assert.deepEqual(ids(client.getSnapshot().items), ["a/9", "a/10"]);
  assert.equal(socket().sent.filter(({ method }) => method === "feed.get").length, 1);
});

test("a delta that names what is not there is treated the same", async () => {
  const { socket } = await beginLive();
  await socket().say("feed.delta", delta("alice", "c1", "c2", { remove: ["a/nothing"] }));
  assert.ok(socket().last("feed.get"));
});

test("where the feed cannot be read anew the connection is begun anew, without a cursor", async () => {
  const { socket, sockets, timers } = await beginLive();
  await socket().say("feed.delta", delta("alice", "c5", "c6"));
  await socket().refuse("feed.get", { code: -32016, message: "timed out", data: { temporary: true } });
  assert.ok(socket().closedWith);
  await timers.advance(1_000);
  assert.equal(sockets.length, 2);
  assert.equal(socket().params.since, undefined);
});

test("whoever calls feed.get: its answer is a revision of the subscription", async () => {
  const { socket, client } = await beginLive();
  const call = client.call("feed.get");
  await settled();
  await socket().answer("feed.get", snapshot("alice", "c2", [item("a/2")]));
  assert.equal((await call).cursor, "c2");
  await socket().say("feed.delta", delta("alice", "c2", "c3", { remove: ["a/2"] }));
  assert.deepEqual(client.getSnapshot().items, []);
  assert.equal(client.getSnapshot().status, "live");
});

test("an item hides at its expiresAt, also without a connection", async () => {
  const { socket, client, timers } = await beginLive({}, [item("a/1", { expiresAt: "2026-03-01T12:00:10Z" }), item("a/2")]);
  await socket().end(1006);
  let told = 0;
  client.subscribe(() => (told += 1));
  socket().isOpen = false;
  await timers.advance(9_999);
  assert.deepEqual(ids(client.getSnapshot().items), ["a/1", "a/2"]);
  const before = told;
  await timers.advance(1);
  assert.deepEqual(ids(client.getSnapshot().items), ["a/2"]);
  assert.equal(told, before + 1);
  assert.equal(client.getSnapshot().feed.items.length, 2);
});

test("an item that expires beyond what one timer can wait is not hidden early", async () => {
  const { client, timers } = await beginLive({}, [item("a/1", { expiresAt: "2027-03-01T12:00:00Z" })]);
  client.stop();
  await timers.advance(200 * 86_400_000);
  assert.equal(client.getSnapshot().items.length, 1);
  await timers.advance(200 * 86_400_000);
  assert.equal(client.getSnapshot().items.length, 0);
});

test("watched feeds are followed beside the own one and asked for again with their cursors", async () => {
  const { socket, client, timers } = await beginLive();
  const watching = client.watch("bob", { minIntervalMs: 500 });
  await settled();
  assert.deepEqual(socket().last("feed.subscribe").params, { feeds: [{ feed: "bob", minIntervalMs: 500 }] });
  await socket().say("feed.snapshot", snapshot("bob", "b1", [item("x/1", { expiresAt: "2026-03-01T12:00:30Z" })]));
  await socket().answer("feed.subscribe", { feeds: [{ feed: "bob", cursor: "b1" }] });
  await watching;
  assert.deepEqual(ids(client.getSnapshot().feeds.bob.items), ["x/1"]);
  assert.deepEqual(ids(client.getSnapshot().items), ["a/1"]);
  await socket().end(1001);
  await timers.advance(1_000);
  await socket().welcome();
  assert.equal(socket().params.since, "c1");
  assert.deepEqual(socket().last("feed.subscribe").params, { feeds: [{ feed: "bob", since: "b1", minIntervalMs: 500 }] });
  await timers.advance(30_000);
  assert.deepEqual(client.getSnapshot().feeds.bob.items, [], "what has expired hides there too");
});

test("a feed that is refused is watched no longer, and the caller is told why", async () => {
  const { socket, client } = await beginLive();
  const closed = [];
  client.on("feed.closed", (params) => closed.push(params));
  const watching = asked(client.watch("bob"));
  await settled();
  await socket().answer("feed.subscribe", { feeds: [{ feed: "bob", error: { code: -32008, message: "forbidden", data: { temporary: false, needs: "feed:watch" } } }] });
  await assert.rejects(watching, { name: "RpcError", code: -32008 });
  assert.equal(closed[0].feed, "bob");
  assert.deepEqual(client.getSnapshot().feeds, {});
});

test("a feed refused for the moment is asked for again after the time given", async () => {
  const { socket, client, timers } = await beginLive();
  const watching = client.watch("bob");
  await settled();
  await socket().answer("feed.subscribe", { feeds: [{ feed: "bob", error: { code: -32010, message: "storage", data: { temporary: true, retryInMs: 700 } } }] });
  const times = () => socket().sent.filter(({ method }) => method === "feed.subscribe").length;
  assert.equal(times(), 1);
  await timers.advance(700);
  assert.equal(times(), 2);
  await socket().answer("feed.subscribe", { feeds: [{ feed: "bob", cursor: "b1" }] });
  await watching;
});

test("many watched feeds are asked for fifty at a time", async () => {
  const { socket, client } = begin({ own: false });
  for (let number = 0; number < 120; number += 1) client.watch(`user-${number}`);
  await settled();
  await socket().welcome();
  const sizes = [];
  for (let left = 3; left > 0; left -= 1) {
    const { feeds } = socket().last("feed.subscribe").params;
    sizes.push(feeds.length);
    await socket().answer("feed.subscribe", { feeds: feeds.map(({ feed }) => ({ feed, cursor: "c" })) });
  }
  assert.deepEqual(sizes, [50, 50, 20]);
});

test("a watched feed that ends, or that one stops watching, is gone; what still comes for it is dropped", async () => {
  const { socket, client } = await beginLive();
  client.watch("bob");
  client.watch("carol");
  await settled();
  for (const feed of ["bob", "carol"]) await socket().say("feed.snapshot", snapshot(feed, "1"));
  assert.deepEqual(Object.keys(client.getSnapshot().feeds), ["bob", "carol"]);
  await socket().say("feed.closed", { feed: "bob", reason: "gone" });
  client.unwatch("carol");
  await settled();
  assert.deepEqual(socket().last("feed.unsubscribe").params, { feeds: ["carol"] });
  await socket().say("feed.delta", delta("carol", "1", "2"));
  assert.deepEqual(client.getSnapshot().feeds, {});
  assert.equal(socket().last("feed.get"), undefined);
});

test("what has arrived is acknowledged at most as often as the server asks, and the last one always", async () => {
  const { socket, timers } = begin();
  await settled();
  await socket().welcome({ ackEveryMs: 10_000 });
  const acked = () => socket().sent.filter(({ method }) => method === "feed.ack").map(({ params }) => params.cursor);
  await socket().say("feed.snapshot", snapshot("alice", "c1"));
  await socket().say("feed.delta", delta("alice", "c1", "c2"));
  await socket().say("feed.delta", delta("alice", "c2", "c3"));
  assert.deepEqual(acked(), ["c1"]);
  await timers.advance(10_000);
  assert.deepEqual(acked(), ["c1", "c3"]);
  await timers.advance(20_000);
  assert.deepEqual(acked(), ["c1", "c3"]);
});

test("a listener that throws hurts neither the feed nor the other listeners", async (t) => {
  t.mock.method(console, "error", () => {});
  const { socket, client, status } = await beginLive();
  let told = 0;
  client.subscribe(() => {
    throw new Error("a mistake of the page");
  });
  client.on("feed.delta", () => {
    throw new Error("another");
  });
  client.on("*", () => (told += 1));
  await socket().say("feed.delta", delta("alice", "c1", "c2"));
  assert.equal(told, 1);
  assert.equal(status(), "live");
  assert.equal(client.getSnapshot().feed.cursor, "c2");
});

test("what the server leaves out of the protocol is tolerated, what breaks it ends the connection", async () => {
  const { socket, timers, sockets } = await beginLive();
  await socket().say("something.new", { a: 1 });
  await socket().text(new ArrayBuffer(0));
  assert.equal(socket().closedWith, null);
  await socket().say("feed.snapshot", { feed: "alice", cursor: "c2", items: "no list" });
  assert.ok(socket().closedWith);
  await timers.advance(1_000);
  assert.equal(sockets.length, 2);
});
