// What a running source can be asked to do: a form for each of its actions, drawn from the action's schema.

import { h, toast } from "../dom.js";
import { schemaForm } from "../schema-form.js";

const INVALID_PARAMS = -32602;

/** A folded form for each of `actions` (ActionInfo with schemas). */
export function actionForms(client, source, actions) {
  return actions.map((action) => actionForm(client, source, action));
}

function actionForm(client, { sourceId }, action) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const run = h("button", { class: "primary", type: "submit" }, "Do it");
  const place = h("div", {});
  const details = h("details", { on: { toggle: draw } }, h("summary", {}, action.label), action.description ? h("p", { class: "help" }, action.description) : null, place);
  let form = null;

  function draw() {
    if (!details.open || form) return;
    form = schemaForm(action.inputSchema ?? { type: "object" }, {});
    place.append(h("form", { novalidate: true, "aria-label": action.label, on: { submit: send } }, form.element, problem, h("p", { class: "buttons" }, run)));
  }

  async function send(event) {
    event.preventDefault();
    form.clearIssues();
    problem.hidden = true;
    run.disabled = true;
    try {
      const params = form.read();
      // one key for one press of the button: a repeat after a lost answer would get the first one's
      await client.call("action.execute", { sourceId, actionId: action.id, params, key: newKey() });
      toast(`${action.label}: done.`);
      place.replaceChildren();
      form = null;
      details.open = false;
    } catch (error) {
      if (error.code === INVALID_PARAMS && error.data?.issues) form.showIssues(error.data.issues.map(belowParams));
      else {
        problem.textContent = error.data?.message ?? error.message;
        problem.hidden = false;
      }
    } finally {
      run.disabled = false;
    }
  }

  return details;
}

// Issues name their place from the request's params on: ["params", "title"].
function belowParams({ path, message }) {
  const parts = Array.isArray(path) ? path : String(path).split(".");
  return { path: parts[0] === "params" ? parts.slice(1) : parts, message };
}

/** A key for one action, so that it is done once however often it is sent. */
export function newKey() {
  // randomUUID is for secure pages only; a dashboard may be opened over plain HTTP in one's own network
  return crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
