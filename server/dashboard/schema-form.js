// A form drawn from a JSON Schema: text, numbers with bounds, choices, lists, switches, secrets, nested objects.
// What it cannot draw it shows as JSON, so that no setting is out of reach.

import { h, uniqueId } from "./dom.js";
import { humanName } from "./format.js";

/**
 * @param schema a JSON Schema (2020-12) of an object
 * @param value the present value; members left out have their defaults
 * @param onInput called on every edit
 * @returns `{element, read(): object, showIssues(issues), clearIssues()}`; `read` throws a TypeError
 *   with a message for people where a field holds no valid JSON. Members left empty are left out.
 */
export function schemaForm(schema, value, { onInput = () => {}, secret = false } = {}) {
  const fields = objectFields(schema, value ?? {}, { root: schema, secret, path: [] });
  const general = h("p", { class: "problem", role: "alert", hidden: true });
  const element = h("div", { class: "fields", on: { input: onInput, change: onInput } }, general, fields.elements);
  const all = () => flatten(fields.members);

  function clearIssues() {
    general.hidden = true;
    all().forEach((field) => field.showIssue(null));
  }

  function showIssues(issues) {
    clearIssues();
    const unplaced = [];
    let first = null;
    for (const { path, message } of issues) {
      const field = nearest(all(), path.map(String));
      if (field) {
        field.showIssue(message);
        first ??= field;
      } else unplaced.push(`${path.join(".")} ${message}`.trim());
    }
    if (unplaced.length) {
      general.textContent = unplaced.join("; ");
      general.hidden = false;
    }
    first?.focus();
  }

  return { element, read: () => readObject(fields.members), showIssues, clearIssues };
}

/** What to send so that `before` becomes `after`: a JSON Merge Patch (RFC 7396), null removes. */
export function mergePatch(before, after) {
  const patch = {};
  for (const key of Object.keys(before)) if (!(key in after)) patch[key] = null;
  for (const [key, value] of Object.entries(after)) {
    const old = before[key];
    if (isObject(value) && isObject(old)) {
      const inner = mergePatch(old, value);
      if (Object.keys(inner).length) patch[key] = inner;
    } else if (JSON.stringify(value) !== JSON.stringify(old)) patch[key] = value;
  }
  return patch;
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const flatten = (members) => members.flatMap((field) => [field, ...(field.members ? flatten(field.members) : [])]);

// The field an issue is about, or the closest one around it ("lines", 3 -> the list "lines").
function nearest(fields, path) {
  for (let length = path.length; length > 0; length -= 1) {
    const key = path.slice(0, length).join("/");
    const found = fields.find((field) => field.path.join("/") === key);
    if (found) return found;
  }
  return null;
}

function readObject(members) {
  const result = {};
  for (const field of members) {
    const value = field.read();
    if (value !== undefined) result[field.name] = value;
  }
  return result;
}

function objectFields(schema, value, context) {
  const required = new Set(schema.required ?? []);
  const members = Object.entries(schema.properties ?? {}).map(([name, raw]) =>
    makeField(name, resolve(raw, context.root), value[name], { ...context, path: [...context.path, name], required: required.has(name) }),
  );
  return { members, elements: members.map((field) => field.element) };
}

// Follows $ref, and takes the one real branch of "T or null".
function resolve(schema, root) {
  let found = schema;
  for (let depth = 0; depth < 8; depth += 1) {
    if (found.$ref?.startsWith("#/")) {
      const target = found.$ref.slice(2).split("/").reduce((at, part) => at?.[part], root);
      found = { ...target, ...omit(found, "$ref") };
      continue;
    }
    const branches = (found.anyOf ?? found.oneOf)?.filter((branch) => branch.type !== "null");
    if (branches?.length !== 1) return found;
    found = { ...branches[0], ...omit(omit(found, "anyOf"), "oneOf"), nullable: true };
  }
  return found;
}

const omit = (object, key) => Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));

function makeField(name, schema, value, context) {
  if (schema.type === "object" && schema.properties) return fieldset(name, schema, value, context);
  const control = controlFor(schema, value, context);
  const id = uniqueId("field");
  const issueId = `${id}-issue`;
  const helpId = `${id}-help`;
  const main = control.main ?? control.element;
  main.id = id;
  const help = helpText(schema);
  main.setAttribute("aria-describedby", [help ? helpId : "", issueId].filter(Boolean).join(" "));
  if (context.required && control.requirable) main.required = true;
  const issue = h("p", { class: "problem", id: issueId, role: "alert", hidden: true });
  const label = h("label", { for: id }, schema.title ?? humanName(name), context.required ? h("span", { class: "quiet-text" }, " (required)") : null);
  const element = h(
    "div",
    { class: `field ${control.kind ?? ""}` },
    control.kind === "switch" ? [control.element, label] : [label, control.element],
    help ? h("p", { class: "help", id: helpId }, help) : null,
    issue,
  );
  return {
    name,
    path: context.path,
    element,
    read: control.read,
    focus: () => main.focus(),
    showIssue(message) {
      issue.hidden = !message;
      issue.textContent = message ?? "";
      if (message) main.setAttribute("aria-invalid", "true");
      else main.removeAttribute("aria-invalid");
    },
  };
}

function fieldset(name, schema, value, context) {
  const { members, elements } = objectFields(schema, value ?? {}, context);
  const element = h("fieldset", { class: "field" }, h("legend", {}, schema.title ?? humanName(name)), elements);
  const read = () => {
    const inner = readObject(members);
    return Object.keys(inner).length ? inner : undefined;
  };
  return { name, path: context.path, element, members, read, focus: () => members[0]?.focus(), showIssue() {} };
}

function helpText(schema) {
  const parts = [schema.description];
  const { minimum, maximum, exclusiveMinimum: above, exclusiveMaximum: below } = schema;
  if (minimum !== undefined && maximum !== undefined) parts.push(`${minimum} to ${maximum}.`);
  else if (minimum !== undefined) parts.push(`At least ${minimum}.`);
  else if (maximum !== undefined) parts.push(`At most ${maximum}.`);
  if (above !== undefined) parts.push(`More than ${above}.`);
  if (below !== undefined) parts.push(`Less than ${below}.`);
  if (schema.default !== undefined && schema.default !== null && typeof schema.default !== "object") parts.push(`Default: ${schema.default}.`);
  return parts.filter(Boolean).join(" ");
}

function controlFor(schema, value, context) {
  const choices = schema.enum ?? (schema.const !== undefined ? [schema.const] : null);
  if (choices) return choice(choices, value, schema, context);
  if (schema.type === "boolean") return toggle(value ?? schema.default ?? false);
  if (schema.type === "integer" || schema.type === "number") return number(schema, value);
  if (schema.type === "string" && schema.format === "date-time") return dateTime(value);
  if (schema.type === "string" || schema.type === undefined && context.secret) return text(schema, value, context);
  if (schema.type === "array") {
    const items = resolve(schema.items ?? {}, context.root);
    if (items.enum) return checkboxes(items.enum, value ?? schema.default ?? []);
    if (items.type === "string") return lines(value);
  }
  return json(value);
}

function choice(choices, value, schema, context) {
  const none = context.required || schema.default !== undefined && schema.default !== null ? [] : [null];
  const all = [...none, ...choices];
  const select = h("select", {}, all.map((one, index) => h("option", { value: String(index) }, one === null ? "–" : String(one))));
  select.value = String(Math.max(0, all.indexOf(value ?? schema.default ?? null)));
  return { element: select, read: () => all[Number(select.value)] ?? undefined };
}

function toggle(value) {
  const box = h("input", { type: "checkbox", role: "switch", checked: value });
  return { element: box, kind: "switch", read: () => box.checked };
}

function number(schema, value) {
  const step = schema.multipleOf ?? (schema.type === "integer" ? 1 : "any");
  const input = h("input", {
    type: "number", step, min: schema.minimum, max: schema.maximum, inputmode: schema.type === "integer" ? "numeric" : "decimal",
    placeholder: schema.default ?? "", value: value ?? "",
  });
  return { element: input, requirable: true, read: () => (input.value === "" ? undefined : Number(input.value)) };
}

function text(schema, value, context) {
  const hidden = context.secret || schema.writeOnly || schema.format === "password";
  const long = schema.maxLength > 400 || /PRIVATE KEY/.test(schema.description ?? "");
  const props = { autocomplete: "off", spellcheck: "false", maxlength: schema.maxLength, placeholder: schema.default ?? "", value: value ?? "" };
  const types = { password: "password", email: "email", date: "date", time: "time" };
  const input = long && !hidden ? h("textarea", { rows: 4, ...props }) : h("input", { type: hidden ? "password" : (types[schema.format] ?? "text"), ...props });
  return { element: input, requirable: !hidden, read: () => (input.value === "" ? undefined : input.value) };
}

// Entered in the time zone of whoever sits here, sent with its offset.
function dateTime(value) {
  const input = h("input", { type: "datetime-local", value: value === undefined || value === null ? "" : localText(new Date(value)) });
  return { element: input, requirable: true, read: () => (input.value === "" ? undefined : new Date(input.value).toISOString()) };
}

function localText(date) {
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function checkboxes(choices, value) {
  const boxes = choices.map((one) => h("input", { type: "checkbox", checked: value.includes(one) }));
  const element = h("div", { class: "checks", role: "group" }, choices.map((one, index) => h("label", {}, boxes[index], ` ${one}`)));
  return { element, main: element, read: () => choices.filter((_, index) => boxes[index].checked) };
}

function lines(value) {
  const area = h("textarea", { rows: Math.min(8, (value?.length ?? 0) + 2), placeholder: "one a line", value: (value ?? []).join("\n") });
  const read = () => {
    const entries = area.value.split("\n").map((line) => line.trim()).filter(Boolean);
    return entries.length || value ? entries : undefined;
  };
  return { element: area, read };
}

function json(value) {
  const area = h("textarea", { rows: 4, class: "code", spellcheck: "false", value: value === undefined ? "" : JSON.stringify(value, null, 2) });
  const read = () => {
    if (area.value.trim() === "") return undefined;
    try {
      return JSON.parse(area.value);
    } catch {
      throw new TypeError("One field holds text that is not JSON.");
    }
  };
  return { element: area, read };
}
