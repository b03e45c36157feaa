import assert from "node:assert/strict";
import { test } from "node:test";
import { FreyaClient } from "../../protocol/js/index.js";
import { asked, begin, beginLive, delta, item, settled, snapshot } from "./scripted.mjs";

test("a lost link is come back to with the cursor of the state on show, which stays there", async () => {
  const { socket, sockets, client, timers, status } = await beginLive();
  await socket().end(1006);
  assert.equal(status(), "waiting");
  assert.equal(client.getSnapshot().retryAt, timers.now() + 500);
  assert.equal(client.getSnapshot().items.length, 1);
  await timers.advance(500);
  assert.equal(sockets.length, 2);
  assert.equal(socket().params.since, "c1");
  await socket().welcome();
  await socket().say("feed.delta", delta("alice", "c1", "c9", { put: [{ index: 1, item: item("a/2") }] }));
  assert.equal(status(), "live");
  assert.equal(client.getSnapshot().items.length, 2);
});

for (const code of [1000, 1002, 1005, 1006, 1007, 1009, 1011, 1012, 3999]) {
  test(`after ${code} the waits double, with full jitter, up to half a minute`, async () => {
    const { socket, sockets, client, timers } = await beginLive();
    const waits = [];
    for (let round = 0; round < 7; round += 1) {
      await socket().end(code);
      waits.push(client.getSnapshot().retryAt - timers.now());
      await timers.advance(waits.at(-1));
      assert.equal(sockets.length, round + 2);
    }
    assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  });
}

for (const code of [1001, 4408]) {
  test(`after ${code} the client is back within a second, however often it failed`, async () => {
    const { socket, sockets, client, timers } = await beginLive();
    for (let round = 0; round < 4; round += 1) {
      await socket().end(code);
      assert.equal(client.getSnapshot().retryAt - timers.now(), 500);
      await timers.advance(500);
    }
    assert.equal(sockets.length, 5);
  });
}

for (const code of [1013, 4429]) {
  test(`after ${code} the client waits as long as it is told, or half a minute`, async () => {
    const { socket, client, timers } = await beginLive();
    await socket().end(code, "retryInMs=1234");
    assert.equal(client.getSnapshot().retryAt - timers.now(), 1_234);
    await timers.advance(1_234);
    await socket().end(code);
    assert.equal(client.getSnapshot().retryAt - timers.now(), 30_000);
  });
}

for (const code of [4400, 4403, 4409]) {
  test(`after ${code} the client stops for good and says why`, async () => {
    const { socket, sockets, client, timers, outside } = await beginLive();
    const waiting = asked(client.call("source.list"));
    await settled();
    await socket().end(code, "because");
    await assert.rejects(waiting, { name: "ConnectionLost", code });
    assert.equal(client.getSnapshot().status, "stopped");
    assert.deepEqual(client.getSnapshot().closed, { code, reason: "because" });
    assert.equal(client.getSnapshot().items.length, 1);
    await timers.advance(3_600_000);
    assert.equal(sockets.length, 1);
    assert.equal(outside.stopped, true);
    await assert.rejects(client.call("source.list"), { name: "NotConnected", status: "stopped" });
  });
}

test("after 4401 a new token is asked for at once; a second in a row means to sign in", async () => {
  const asked = [];
  const { socket, sockets, status } = await beginLive({ token: ({ reason }) => (asked.push(reason), `token-${asked.length}`) });
  await socket().end(4401);
  assert.deepEqual(asked, ["connect", "refused"]);
  assert.deepEqual(socket().protocols, ["freya.v1", "bearer.token-2"]);
  await socket().live("c2");
  await socket().end(4401);
  assert.equal(sockets.length, 3, "the welcome in between has shown that tokens are good");
  await socket().open();
  await socket().end(4401);
  assert.equal(status(), "signIn");
  assert.deepEqual(asked, ["connect", "refused", "refused"]);
});

test("a token that is a string cannot be renewed: its refusal means to sign in", async () => {
  const { socket, sockets, client, status } = await beginLive();
  await socket().end(4401, "expired");
  assert.equal(status(), "signIn");
  assert.equal(sockets.length, 1);
  client.start();
  await settled();
  assert.equal(sockets.length, 2, "a new sign-in may begin");
});

test("what cannot be a token is not tried, and is nowhere repeated", async () => {
  const { client, sockets } = begin({ token: "a secret, with spaces" });
  await settled();
  assert.equal(sockets.length, 0);
  assert.equal(client.getSnapshot().status, "signIn");
  assert.ok(!JSON.stringify(client.getSnapshot()).includes("secret"));
});

test("where no token can be had the client tries again later", async () => {
  let broken = true;
  const { sockets, status, timers } = begin({
    token: async () => {
      if (broken) throw new Error("the token service is away");
      return "good";
    },
  });
  await settled();
  assert.equal(status(), "waiting");
  broken = false;
  await timers.advance(500);
  assert.equal(sockets.length, 1);
});

test("a token that is about to end is renewed over the same connection", async () => {
  const { socket, sockets } = await beginLive({ token: ({ reason }) => `for-${reason}` });
  await socket().say("connection.expiring", { inMs: 60_000 });
  assert.deepEqual(socket().last("connection.renew").params, { token: "for-expiring" });
  await socket().refuse("connection.renew", { code: -32014, message: "invalid token", data: { temporary: false } });
  assert.equal(sockets.length, 1);
  assert.equal(socket().closedWith, null);
});

test("a connection that held for half a minute makes the next wait short again", async () => {
  const { socket, client, timers } = await beginLive();
  for (let round = 0; round < 4; round += 1) {
    await socket().end(1006);
    await timers.advance(30_000);
  }
  await socket().live();
  await timers.advance(29_999);
  await socket().say("connection.beat", { at: "2026-03-01T12:00:00Z" });
  await timers.advance(1);
  await socket().end(1006);
  assert.equal(client.getSnapshot().retryAt - timers.now(), 500);
});

test("a link on which nothing comes for the heartbeat and ten seconds is dead; a beat keeps it", async () => {
  const { socket, sockets, timers, client } = await beginLive();
  await timers.advance(34_000);
  await socket().say("connection.beat", { at: "2026-03-01T12:00:34Z" });
  await timers.advance(34_999);
  assert.equal(socket().closedWith, null);
  await timers.advance(1);
  assert.equal(client.getSnapshot().closed.code, 4408);
  await timers.advance(500);
  assert.equal(sockets.length, 2);
});

test("the heartbeat that counts is the one the server says", async () => {
  const { socket, timers, client } = begin();
  await settled();
  await socket().welcome({ heartbeatMs: 5_000 });
  await timers.advance(14_999);
  assert.equal(client.getSnapshot().closed, null);
  await timers.advance(1);
  assert.equal(client.getSnapshot().closed.code, 4408);
});

test("a socket that never opens is given up after ten seconds", async () => {
  const { timers, status } = begin();
  await settled();
  await timers.advance(9_999);
  assert.equal(status(), "connecting");
  await timers.advance(1);
  assert.equal(status(), "waiting");
});

test("an error without a close, as Node's WebSocket may give it, counts as the end", async () => {
  const { socket, sockets, timers, status } = begin();
  await settled();
  await socket().fail();
  assert.equal(status(), "connecting");
  await timers.advance(1_000);
  assert.equal(status(), "waiting");
  await timers.advance(1_000);
  assert.equal(sockets.length, 2);
});

test("an error followed by a close counts once, with the code of the close", async () => {
  const { socket, client, timers, sockets } = begin();
  await settled();
  await socket().fail();
  await socket().end(4429, "retryInMs=5000");
  assert.equal(client.getSnapshot().closed.code, 4429);
  await timers.advance(4_999);
  assert.equal(sockets.length, 1);
  await timers.advance(1);
  assert.equal(sockets.length, 2);
});

test("hidden, the connection goes to the background; shown, it comes back with one delta over the same socket", async () => {
  const { socket, sockets, outside, status, timers } = await beginLive({ keepMs: 60_000 });
  outside.hidden();
  assert.equal(status(), "paused");
  assert.deepEqual(socket().last("connection.background").params, { keepMs: 60_000 });
  await socket().answer("connection.background", {});
  await timers.advance(50_000); // the server is silent on purpose
  assert.equal(socket().closedWith, null);
  outside.shown();
  await socket().answer("connection.foreground", {});
  assert.equal(status(), "connecting", "not known to be current until the delta is there");
  await socket().say("feed.delta", delta("alice", "c1", "c5"));
  assert.equal(status(), "live");
  assert.equal(sockets.length, 1);
  await timers.advance(35_000);
  assert.ok(socket().closedWith, "from now on silence is a sign again");
});

test("hidden, a lost connection is not come back to before the page is shown; then with one delta", async () => {
  const { socket, sockets, outside, status, timers } = await beginLive();
  outside.hidden();
  await socket().answer("connection.background", {});
  await socket().end(4408, "background over");
  await timers.advance(3_600_000);
  assert.equal(sockets.length, 1);
  assert.equal(status(), "paused");
  outside.shown();
  await settled();
  assert.equal(sockets.length, 2);
  assert.equal(socket().params.since, "c1");
  await socket().welcome();
  await socket().say("feed.delta", delta("alice", "c1", "c2", { remove: ["a/1"] }));
  assert.equal(status(), "live");
});

test("hidden while it waits for its next try, the client waits to be shown", async () => {
  const { socket, sockets, outside, timers } = await beginLive();
  await socket().end(1006);
  outside.hidden();
  await timers.advance(60_000);
  assert.equal(sockets.length, 1);
  outside.shown();
  await settled();
  assert.equal(sockets.length, 2);
});

test("hidden while it connects, it goes to the background as soon as it is welcomed", async () => {
  const { socket, outside, status } = begin();
  await settled();
  outside.hidden();
  await socket().welcome();
  assert.ok(socket().last("connection.background"));
  assert.equal(status(), "paused");
});

test("shown again on a dead link, the client knows it in three seconds", async () => {
  const { socket, sockets, outside, timers } = await beginLive();
  outside.hidden();
  await socket().answer("connection.background", {});
  outside.shown();
  await timers.advance(3_000);
  assert.ok(socket().closedWith);
  await timers.advance(1_000);
  assert.equal(sockets.length, 2);
});

test("a page that is to go on while hidden does", async () => {
  const { socket, outside, status } = await beginLive({ pauseWhenHidden: false });
  outside.hidden();
  assert.equal(status(), "live");
  assert.equal(socket().last("connection.background"), undefined);
});

for (const event of ["online", "offline"]) {
  test(`at ${event} the link is tried: no answer in three seconds, and the next one begins`, async () => {
    const { socket, sockets, outside, timers, status } = await beginLive();
    outside[event]();
    await socket().answer("connection.ping", { at: "2026-03-01T12:00:00Z" });
    await timers.advance(3_000);
    assert.equal(status(), "live");
    outside[event]();
    await timers.advance(2_999);
    assert.equal(sockets.length, 1);
    await timers.advance(1_001);
    assert.equal(sockets.length, 2);
  });
}

test("online, a client that waits for its next try does not wait any longer", async () => {
  const { socket, sockets, outside } = await beginLive();
  await socket().end(1013, "retryInMs=600000");
  outside.online();
  await settled();
  assert.equal(sockets.length, 2);
});

test("a server that drains says so; its 1001 is followed at once", async () => {
  const { socket, client, sockets, timers, status } = await beginLive();
  await socket().say("server.draining", { reconnectInMs: 8_000 });
  assert.equal(client.getSnapshot().draining, true);
  assert.equal(status(), "live");
  await socket().end(1001);
  await timers.advance(500);
  assert.equal(sockets.length, 2);
  await socket().welcome();
  assert.equal(client.getSnapshot().draining, false);
});

test("what the server is without is told with the beat, and to operators at once", async () => {
  const { socket, client } = await beginLive();
  await socket().say("connection.beat", { at: "2026-03-01T12:00:25Z", degraded: ["redis"] });
  assert.deepEqual(client.getSnapshot().degraded, ["redis"]);
  await socket().say("connection.beat", { at: "2026-03-01T12:00:50Z" });
  assert.equal(client.getSnapshot().degraded, null);
  await socket().say("server.status", { degraded: ["postgresql"], since: "2026-03-01T12:00:51Z" });
  assert.deepEqual(client.getSnapshot().degraded, ["postgresql"]);
  await socket().say("server.status", { degraded: [] });
  assert.equal(client.getSnapshot().degraded, null);
});

test("a token of another user shows that user's feed and nothing of the one before", async () => {
  const { socket, client, timers } = await beginLive();
  await socket().end(1001);
  await timers.advance(1_000);
  await socket().welcome({ user: "bob" });
  assert.equal(client.getSnapshot().feed, null);
  await socket().say("feed.snapshot", snapshot("bob", "b1", [item("b/1")]));
  assert.deepEqual(client.getSnapshot().items.map(({ id }) => id), ["b/1"]);
});

test("stopped, it closes the socket, keeps the state and leaves no timer", async () => {
  const { client, socket, timers, outside, status } = await beginLive();
  client.stop();
  assert.deepEqual(socket().closedWith, { code: 1000, reason: undefined });
  assert.equal(status(), "stopped");
  assert.equal(client.getSnapshot().items.length, 1);
  assert.equal(timers.count, 0);
  assert.equal(outside.stopped, true);
});

test("stopped while a token is being got, it opens no socket", async () => {
  let give;
  const { client, sockets } = begin({ token: () => new Promise((resolve) => (give = resolve)) });
  client.stop();
  give("late");
  await settled();
  assert.equal(sockets.length, 0);
});

test("without a WebSocket, or with an address that is none, the mistake is told at once", () => {
  assert.throws(() => new FreyaClient("ws://x", { token: "t", WebSocket: null }), /no WebSocket here/);
  assert.throws(() => new FreyaClient("ftp://x", { token: "t", WebSocket: class {} }), /not an address/);
});
