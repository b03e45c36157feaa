// Every source with its status, switch and settings; other devices' changes appear as they happen.

import { clear, h, reconcile, toast } from "../dom.js";
import { ago } from "../format.js";
import { mergePatch, schemaForm } from "../schema-form.js";
import { actionForms } from "./actions.js";

const VERSION_CONFLICT = -32007;

export function sourcesView(session) {
  const { client } = session;
  const panels = new Map();
  const list = h("ol", { class: "sources", "aria-label": "Sources" });
  const note = h("p", { class: "empty" }, "Loading the sources…");
  const element = h("section", { "aria-label": "Sources" }, note, list);
  let sources = [];
  let connection = null;

  function show() {
    note.hidden = sources.length > 0;
    note.textContent = "This server has no sources.";
    reconcile(list, sources, (source) => source.sourceId, (source) => {
      const panel = panels.get(source.sourceId) ?? sourcePanel(client, merged);
      panels.set(source.sourceId, panel);
      panel.update(source);
      return panel.element;
    });
  }

  // Schemas come with the list only; a change keeps the ones we have while their digest is the same.
  function merged(source) {
    const at = sources.findIndex((one) => one.sourceId === source.sourceId);
    if (at < 0) return load();
    const old = sources[at];
    if (old.schemaDigest !== source.schemaDigest && !source.configSchema) return load();
    const kept = new Map((old.actions ?? []).map((action) => [action.id, action]));
    const actions = source.actions?.map((action) => ({ ...kept.get(action.id), ...action }));
    const whole = { configSchema: old.configSchema, credentialSchema: old.credentialSchema, ...source, actions };
    // who was off when the list was read had no actions to tell schemas of
    if (actions?.some(({ id }) => !kept.has(id))) load();
    sources = sources.with ? sources.with(at, whole) : sources.map((one, index) => (index === at ? whole : one));
    show();
  }

  async function load() {
    try {
      ({ sources } = await client.call("source.list", { schemas: true }));
      show();
    } catch (error) {
      note.hidden = false;
      note.textContent = `The sources could not be read: ${error.message}`;
    }
  }

  function connectionChanged() {
    const now = client.getSnapshot().welcome?.connection ?? null;
    if (now === connection) return;
    connection = now;
    if (now) load();
  }

  const stops = [client.subscribe(connectionChanged), client.on("source.changed", ({ source }) => merged(source))];
  connectionChanged();
  return { element, close: () => stops.forEach((stop) => stop()) };
}

function sourcePanel(client, onState) {
  let source = null;
  let form = null;
  let drawn = null; // the state that the form was drawn from: what one edits is a change of that one
  let secretForm = null;
  let dirty = false;
  const body = h("div", { class: "source-body" });
  const title = h("h3", {});
  const actions = h("div", { class: "source-actions" });
  const badge = h("span", { class: "badge" });
  const problem = h("p", { class: "problem" });
  const news = h("p", { class: "news", role: "status", hidden: true });
  const toggle = h("input", { type: "checkbox", role: "switch", on: { change: switched } });
  const details = h("details", { on: { toggle: () => details.open && !form && draw() } }, h("summary", {}, "Settings"), news, body);
  const element = h("li", { class: "card source" }, h("header", {}, toggle, title, badge), problem, details, actions);

  function update(next) {
    const before = source;
    source = next;
    title.textContent = next.name;
    toggle.checked = next.enabled;
    toggle.setAttribute("aria-label", `${next.name} on`);
    badge.textContent = next.status;
    badge.className = `badge ${next.status}`;
    badge.title = next.lastOkAt ? `last answer ${ago(next.lastOkAt)}` : next.sourceId;
    const why = next.error?.message ?? (next.status === "blocked" ? `needs ${blockers(next)}` : "");
    problem.textContent = why;
    problem.hidden = !why;
    showActions(before);
    if (!form || !before || before.version === next.version) return;
    if (dirty) tellOfNews();
    else draw();
  }

  // Drawn anew only where there are others: what one is typing into them stays.
  function showActions(before) {
    const running = source.status === "active" || source.status === "failing";
    const wanted = running ? (source.actions ?? []) : [];
    const names = JSON.stringify(wanted);
    if (before && names === actions.dataset.shown) return;
    actions.dataset.shown = names;
    clear(actions).append(...actionForms(client, source, wanted));
  }

  const blockers = ({ blockedBy }) => (Array.isArray(blockedBy) ? blockedBy.join(", ") : String(blockedBy?.sourceId ?? blockedBy ?? "another source"));

  function tellOfNews() {
    news.hidden = false;
    const take = h("button", { type: "button", class: "small", on: { click: draw } }, "Show the new settings");
    news.replaceChildren("These settings were changed on another device while you were editing. Saving asks you to look at them first. ", take);
  }

  function draw() {
    dirty = false;
    drawn = source;
    news.hidden = true;
    const onInput = () => (dirty = true);
    form = schemaForm(source.configSchema ?? { type: "object" }, source.config ?? {}, { onInput });
    const credentials = source.credentialSchema?.properties ? source.credentialSchema : null;
    secretForm = credentials ? schemaForm(credentials, {}, { onInput, secret: true }) : null;
    const nothing = !Object.keys(source.configSchema?.properties ?? {}).length && !credentials;
    clear(body).append(
      h(
        "form",
        { novalidate: true, on: { submit: save } },
        nothing ? h("p", { class: "quiet-text" }, "This source has no settings.") : form.element,
        secretForm
          ? h(
              "fieldset",
              {},
              h("legend", {}, "Credentials"),
              h("p", { class: "help" }, source.hasCredentials ? "Stored; they never leave the server. Leave empty to keep them." : "None stored yet."),
              secretForm.element,
            )
          : "",
        nothing ? "" : h("p", { class: "buttons" }, h("button", { class: "primary", type: "submit" }, "Save"), h("button", { type: "button", on: { click: draw } }, "Reset")),
        h("p", { class: "quiet-text" }, `${source.sourceId} · version ${source.version}`),
      ),
    );
  }

  async function save(event) {
    event.preventDefault();
    form.clearIssues();
    secretForm?.clearIssues();
    try {
      const config = form.read();
      const credentials = secretForm?.read() ?? {};
      const given = Object.keys(credentials).length ? { credentials } : {};
      const { sourceId, version } = drawn;
      const state = version
        ? await client.call("source.patch", { sourceId, config: mergePatch(drawn.config ?? {}, config), ifVersion: version, ...given })
        : await client.call("source.put", { sourceId, enabled: true, config, ifVersion: 0, ...given });
      dirty = false;
      onState(state);
      draw();
      toast(`${source.name}: saved.`);
    } catch (error) {
      explain(error);
    }
  }

  function explain(error) {
    const issues = error.data?.issues;
    if (error.code === VERSION_CONFLICT) {
      tellOfNews();
      news.scrollIntoView({ block: "nearest" });
      toast("Not saved: another device has changed these settings meanwhile.", "error");
    } else if (issues && error.code === -32004) (secretForm ?? form).showIssues(issues);
    else if (issues) form.showIssues(issues);
    else toast(`${source.name}: ${error.message}`, "error");
  }

  async function switched() {
    const enabled = toggle.checked;
    try {
      const { sourceId } = source;
      onState(await (source.version > 0 ? client.call("source.patch", { sourceId, enabled }) : client.call("source.put", { sourceId, enabled, config: {} })));
    } catch (error) {
      toggle.checked = source.enabled;
      if (error.data?.issues) {
        details.open = true;
        if (!form) draw();
        explain(error);
      } else toast(`${source.name}: ${error.message}`, "error");
    }
  }

  return { element, update };
}
