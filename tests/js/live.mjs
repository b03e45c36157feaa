// node live.mjs URL TOKEN: the client against a real server. Prints what it saw as JSON at the end; asks for a
// restart of the server with the line "ready for a restart" and waits for a line on its input.
import { once } from "node:events";
import { FreyaClient } from "../../protocol/js/index.js";

const [url, token] = process.argv.slice(2);
const seen = {};
let outside;
const client = new FreyaClient(url, { token, surroundings: (react) => void (outside = react) }).start();

// Resolves once the snapshot is as wanted; the test's own deadline ends a wait that is in vain.
function until(wanted) {
  return new Promise((resolve) => {
    const look = () => {
      if (!wanted(client.getSnapshot())) return;
      stop();
      resolve(client.getSnapshot());
    };
    const stop = client.subscribe(look);
    look();
  });
}
const live = () => until(({ status, feed }) => status === "live" && !feed.pending.length);

let before = await live();
seen.before = before.status;
const execute = (actionId, params) =>
  client.call("action.execute", { sourceId: "freya.reminders", actionId, params, key: crypto.randomUUID() });
await execute("create-reminder", { title: "Water the plants", dueAt: new Date(Date.now() + 3_600_000).toISOString() });
const reminder = ({ items }) => items.find(({ sourceId }) => sourceId === "freya.reminders");
before = await until((snapshot) => reminder(snapshot));

const ended = until(({ closed }) => closed);
console.log("ready for a restart");
await Promise.all([once(process.stdin, "data"), ended]);
seen.closedWith = (await ended).closed.code;
outside.online();
const after = await live();
seen.sameItemObjects = reminder(after) === reminder(before); // resumed: nothing was sent again

outside.hidden();
await client.call("connection.info");
const frame = new Promise((resolve) => client.on("*", (method) => method.startsWith("feed.") && resolve(method)));
outside.shown();
seen.afterHidden = (await live()).status;
seen.frameAfterHidden = await frame;

seen.reminder = reminder(client.getSnapshot()).data.title;
const { sources } = await client.call("source.list");
seen.sources = sources.some(({ sourceId, status }) => sourceId === "freya.reminders" && status === "active");
client.stop();
process.stdin.destroy();
console.log(JSON.stringify(seen));
