// A client that is none of ours: Node's own WebSocket, and JSON typed by hand.
// node foreign_client.mjs URL TOKEN '[["method", {params}], ...]'  prints the answers, a line each
const [url, token, calls] = process.argv.slice(2);
const socket = new WebSocket(`${url}/v1/feed`, ["freya.v1", `bearer.${token}`]);
const waiting = JSON.parse(calls).map(([method, params], index) => ({ jsonrpc: "2.0", id: index + 1, method, params }));

function next() {
  if (waiting.length) socket.send(JSON.stringify(waiting[0]));
  else socket.close(1000);
}

socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.method === "connection.welcome") next();
  if (message.id !== waiting[0]?.id || !("id" in message)) return;
  console.log(JSON.stringify(message.result ?? message));
  waiting.shift();
  next();
});
socket.addEventListener("close", ({ code }) => process.exit(code === 1000 ? 0 : 1));
socket.addEventListener("error", () => process.exit(1));
