// The page: sign in, then one view at a time. Every view is a function `(session) => {element, close?}`.

import { clear, h, keepTimes, toast } from "./dom.js";
import { Session } from "./session.js";
import { feedView } from "./views/feed.js";
import { inspectorView } from "./views/inspector.js";
import { operationsView } from "./views/operations.js";
import { sourcesView } from "./views/sources.js";
import { watchView } from "./views/watch.js";

const VIEWS = [
  { id: "feed", label: "Feed", open: feedView },
  { id: "sources", label: "Sources", open: sourcesView },
  { id: "watch", label: "Watch", open: watchView, scope: "feed:watch" },
  { id: "operations", label: "Operations", open: operationsView, scope: "admin" },
  { id: "inspector", label: "Inspector", open: inspectorView },
];

const STATUS_TEXT = {
  connecting: "connecting",
  live: "live",
  waiting: "reconnecting",
  paused: "paused",
  signIn: "sign in",
  stopped: "stopped",
  idle: "idle",
};

const page = {
  view: document.getElementById("view"),
  tabs: document.getElementById("tabs"),
  status: document.getElementById("status"),
  signOut: document.getElementById("sign-out"),
};
const session = new Session();
let open = null;

function showSignIn(message) {
  closeView();
  page.tabs.hidden = page.signOut.hidden = true;
  setStatus("signIn");
  const field = h("input", { id: "token", name: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const form = h(
    "form",
    { class: "sign-in card", on: { submit: (event) => (event.preventDefault(), start(field.value.trim())) } },
    h("h2", {}, "Sign in"),
    h("p", {}, "Paste a token. On the machine that runs the server, this prints one:"),
    h("pre", {}, "python -m server token --user alice"),
    message ? h("p", { class: "problem", role: "alert" }, message) : null,
    h("label", { for: "token" }, "Token"),
    field,
    h("button", { class: "primary", type: "submit" }, "Connect"),
  );
  clear(page.view).append(form);
  field.focus();
}

function start(token) {
  if (!token) return;
  const client = session.signIn(token);
  client.subscribe(() => statusChanged(client));
  buildTabs();
  page.signOut.hidden = false;
  showView(location.hash.slice(1) || "feed");
}

function statusChanged(client) {
  if (client !== session.client) return;
  const { status, closed, degraded, draining } = client.getSnapshot();
  setStatus(status, { degraded, draining, closed });
  if (status === "signIn") {
    session.signOut();
    showSignIn(closed?.code === 4401 ? "The server refused the token: it is wrong or has expired." : "A token is needed.");
  } else if (status === "stopped" && closed) {
    const why = { 4403: "The token was revoked.", 4409: "A newer connection took this one's place." }[closed.code];
    toast(why ?? `The server ended the connection for good (${closed.code} ${closed.reason}).`, "error");
  }
}

function setStatus(status, { degraded, draining, closed } = {}) {
  page.status.className = `pill ${degraded ? "degraded" : status}`;
  page.status.textContent = degraded ? "live, degraded" : draining && status === "live" ? "live, server is leaving" : STATUS_TEXT[status];
  page.status.title = closed ? `last close: ${closed.code} ${closed.reason}` : "";
}

function buildTabs() {
  const allowed = VIEWS.filter(({ scope }) => !scope || session.may(scope));
  clear(page.tabs).append(...allowed.map(({ id, label }) => h("a", { href: `#${id}`, data: { view: id } }, label)));
  page.tabs.hidden = false;
}

function showView(id) {
  const view = VIEWS.find((one) => one.id === id && (!one.scope || session.may(one.scope))) ?? VIEWS[0];
  closeView();
  for (const tab of page.tabs.children) {
    if (tab.dataset.view === view.id) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${view.label} · Freya Push`;
  open = view.open(session);
  clear(page.view).append(open.element);
}

function closeView() {
  open?.close?.();
  open = null;
  clear(page.view);
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

document.getElementById("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  localStorage.setItem("freya-push-theme", next);
  setTheme(next);
});
page.signOut.addEventListener("click", () => {
  session.signOut();
  showSignIn();
});
addEventListener("hashchange", () => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) start(Session.token());
  else if (session.client) showView(location.hash.slice(1));
});

keepTimes();
setTheme(localStorage.getItem("freya-push-theme"));
const token = Session.token();
if (token) start(token);
else showSignIn();
