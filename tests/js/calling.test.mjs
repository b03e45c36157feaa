import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, begin, beginLive, settled } from "./scripted.mjs";

test("a call gets its own answer, in whatever order they come", async () => {
  const { client, socket } = await beginLive();
  const [first, second] = [client.call("source.list", { schemas: true }), client.call("connection.info")];
  await settled();
  assert.deepEqual(socket().last("source.list").params, { schemas: true });
  await socket().answer("connection.info", { user: "alice" });
  await socket().answer("source.list", { sources: [] });
  assert.deepEqual(await second, { user: "alice" });
  assert.deepEqual(await first, { sources: [] });
});

test("an error answer becomes an error with code, data and when to try again", async () => {
  const { client, socket } = await beginLive();
  const call = asked(client.call("source.patch", { sourceId: "x" }));
  await settled();
  await socket().refuse("source.patch", { code: -32010, message: "storage unavailable", data: { temporary: true, retryInMs: 2_000, outcome: "none" } });
  await assert.rejects(call, (error) => {
    assert.equal(error.name, "RpcError");
    assert.equal(error.code, -32010);
    assert.equal(error.temporary, true);
    assert.equal(error.retryInMs, 2_000);
    assert.equal(error.data.outcome, "none");
    return true;
  });
});

test("a call made before there is a connection waits for one", async () => {
  const { client, socket } = begin();
  const call = client.call("connection.info");
  await settled();
  await socket().welcome();
  await socket().answer("connection.info", { user: "alice" });
  assert.deepEqual(await call, { user: "alice" });
});

test("a call that waits for a connection in vain says that nothing was sent", async () => {
  const { client, timers } = begin();
  const call = client.call("connection.info", {}, { timeoutMs: 2_000 });
  const failed = assert.rejects(call, { name: "NotConnected", repeatable: true });
  await timers.advance(2_000);
  await failed;
});

test("a call that waits for a connection fails when the client stops", async () => {
  const { client } = begin();
  const call = client.call("connection.info");
  client.stop();
  await assert.rejects(call, { name: "NotConnected" });
});

test("no answer in time fails the call alone; a late answer is dropped", async () => {
  const { client, socket, timers, status } = await beginLive();
  const call = client.call("source.list", {}, { timeoutMs: 1_000 });
  const failed = assert.rejects(call, { name: "CallTimedOut", repeatable: true });
  await timers.advance(1_000);
  await failed;
  await socket().answer("source.list", { sources: [] });
  assert.equal(status(), "live");
});

for (const [params, repeatable] of [[{ actionId: "a" }, false], [{ actionId: "a", key: "k" }, true]]) {
  test(`a lost action ${params.key ? "with a key can" : "without a key cannot"} be repeated without harm`, async () => {
    const { client, socket } = await beginLive();
    const call = asked(client.call("action.execute", params));
    await settled();
    await socket().end(1006);
    await assert.rejects(call, { name: "ConnectionLost", repeatable, code: 1006 });
  });
}

test("a message over the protocol's bound is not sent, and counts bytes, not letters", async () => {
  const { client, socket } = await beginLive();
  await assert.rejects(client.call("item.publish", { text: "é".repeat(33_000) }), { name: "MessageTooBig" });
  assert.equal(socket().last("item.publish"), undefined);
  client.call("item.publish", { text: "e".repeat(33_000) }).catch(() => {});
  await settled();
  assert.ok(socket().last("item.publish"));
});

test("a server may take less than the protocol's bound, and says so in its welcome", async () => {
  const { client, socket } = begin();
  await settled();
  await socket().welcome({ limits: { maxMessageBytes: 16_384 } });
  await assert.rejects(client.call("item.publish", { text: "e".repeat(17_000) }), { name: "MessageTooBig" });
  assert.equal(socket().last("item.publish"), undefined);
});

test("more calls in flight than there may be are refused here", async () => {
  const { client, socket } = await beginLive();
  const calls = Array.from({ length: 257 }, () => client.call("connection.ping"));
  const outcomes = calls.map((call) => call.then(() => "answered", (error) => error.code ?? error.name));
  assert.equal(await outcomes[256], -32009);
  await socket().end(1006);
  assert.equal(await outcomes[0], 1006);
});

test("a socket that refuses to send is at its end", async () => {
  const { client, socket, status } = await beginLive();
  socket().isOpen = false;
  await assert.rejects(client.call("connection.info"), { name: "ConnectionLost" });
  assert.equal(status(), "waiting");
});

test("every frame is shown to whoever wants to see them", async () => {
  const seen = [];
  const { client } = await beginLive({ onTraffic: (direction, text) => seen.push([direction, JSON.parse(text).method]) });
  client.call("connection.info").catch(() => {});
  await settled();
  assert.deepEqual(seen, [["in", "connection.welcome"], ["in", "feed.snapshot"], ["out", "connection.info"]]);
});
