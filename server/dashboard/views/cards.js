// One item as a card. A type we know is drawn for what it is; any other shows its data as readable pairs.

import { h } from "../dom.js";
import { ago, day, humanName, moment, timeOfDay } from "../format.js";

const BODIES = {
  "weather-current": weatherNow,
  "weather-hourly": weatherHours,
  "weather-daily": weatherDays,
  "weather-alert": weatherAlert,
  "tfl-status": transit,
  "caldav-event": event,
  reminder,
};

/** @param actions `{dismiss(item), complete(item, button)}`; leave out to show the card only */
export function card(item, actions = null) {
  const urgency = item.signals?.urgency;
  const relevance = item.signals?.timeRelevance;
  const body = (BODIES[item.type] ?? generic)(item, actions);
  const title = titleOf(item);
  return h(
    "article",
    { class: `card ${relevance ?? ""}`, tabindex: "-1", data: { item: item.id, type: item.type }, "aria-label": title },
    h(
      "header",
      {},
      h("span", { class: "kind" }, humanName(item.type)),
      relevance ? h("span", { class: `relevance ${relevance}` }, relevance) : null,
      urgency === undefined ? null : urgencyMeter(urgency),
      actions
        ? h("button", { class: "quiet dismiss", type: "button", "aria-label": `Dismiss ${title}`, on: { click: () => actions.dismiss(item) } }, h("span", { "aria-hidden": "true" }, "×"))
        : null,
    ),
    body,
    slots(item),
    h("footer", {}, h("span", {}, item.sourceId), h("time", { datetime: item.timestamp, title: item.timestamp }, moment(item.timestamp))),
  );
}

function urgencyMeter(urgency) {
  const percent = Math.round(urgency * 100);
  const meter = h("span", { class: "urgency", role: "img", "aria-label": `urgency ${percent} percent`, title: `urgency ${urgency}` }, h("span", {}));
  meter.firstChild.style.width = `${percent}%`;
  return meter;
}

function slots(item) {
  const filled = Object.entries(item.slots ?? {}).filter(([, slot]) => slot.content);
  return filled.length ? h("div", { class: "slots" }, filled.map(([name, slot]) => h("p", { title: name }, slot.content))) : null;
}

function titleOf({ data, type }) {
  return String(data.title ?? data.greeting ?? data.name ?? data.trackName ?? data.summary ?? humanName(type));
}

function figure(label, value, unit = "") {
  return value === undefined || value === null ? null : h("div", { class: "figure" }, h("dt", {}, label), h("dd", {}, `${value}${unit}`));
}

function units(data) {
  const imperial = data.units === "imperial";
  return { degrees: imperial ? "°F" : "°C", wind: imperial ? " mph" : " km/h", pressure: imperial ? " inHg" : " hPa" };
}

const round = (value) => (typeof value === "number" ? Math.round(value) : value);
const percent = (value) => (typeof value === "number" ? Math.round(value * 100) : undefined);

function weatherNow({ data }) {
  const unit = units(data);
  return h(
    "div",
    { class: "weather" },
    h("p", { class: "big" }, `${round(data.temperature)}${unit.degrees}`),
    h("p", {}, humanName(String(data.conditionCode ?? ""))),
    h(
      "dl",
      { class: "figures" },
      figure("Feels like", round(data.temperatureApparent), unit.degrees),
      figure("Humidity", percent(data.humidity), " %"),
      figure("Wind", round(data.windSpeed), unit.wind),
      figure("Pressure", round(data.pressure), unit.pressure),
    ),
  );
}

function weatherHours({ data }) {
  const unit = units(data);
  const hours = data.hours ?? [];
  return h(
    "ol",
    { class: "strip", tabindex: "0", "aria-label": "Hours" },
    hours.map((hour) =>
      h(
        "li",
        {},
        h("span", {}, timeOfDay(hour.forecastTime)),
        h("strong", {}, `${round(hour.temperature)}${unit.degrees}`),
        h("span", { class: "quiet-text" }, hour.precipitationChance ? `${percent(hour.precipitationChance)} % rain` : humanName(String(hour.conditionCode ?? ""))),
      ),
    ),
  );
}

function weatherDays({ data }) {
  const unit = units(data);
  return h(
    "ol",
    { class: "rows" },
    (data.days ?? []).map((one) =>
      h(
        "li",
        {},
        h("span", {}, day(one.forecastDate)),
        h("span", { class: "quiet-text" }, humanName(String(one.conditionCode ?? ""))),
        h("strong", {}, `${round(one.temperatureMin)} – ${round(one.temperatureMax)}${unit.degrees}`),
      ),
    ),
  );
}

function weatherAlert({ data }) {
  return h(
    "div",
    {},
    h("h3", {}, data.description ?? "Weather alert"),
    h("p", {}, [data.areaName, data.severity].filter(Boolean).join(" · ")),
    data.expireTime ? h("p", { class: "quiet-text" }, `until ${moment(data.expireTime)}`) : null,
    link(data.detailsUrl, "Details"),
  );
}

function transit({ data }) {
  return h(
    "ul",
    { class: "rows" },
    (data.alerts ?? []).map((alert) =>
      h(
        "li",
        { class: `severity-${alert.severity}` },
        h("strong", {}, alert.lineName ?? alert.line),
        h("span", {}, humanName(String(alert.severity ?? ""))),
        h("span", { class: "quiet-text" }, alert.description ?? ""),
        typeof alert.closestStationDistance === "number" ? h("span", { class: "quiet-text" }, `${alert.closestStationDistance.toFixed(1)} km away`) : null,
      ),
    ),
  );
}

function event({ data }) {
  const when = data.isAllDay ? `${day(data.startDate)}, all day` : `${moment(data.startDate)} – ${timeOfDay(data.endDate)}`;
  return h(
    "div",
    { class: data.status === "cancelled" ? "cancelled" : "" },
    h("h3", {}, data.title ?? "Event"),
    h("p", {}, when),
    data.location ? h("p", { class: "quiet-text" }, data.location) : null,
    h("p", { class: "quiet-text" }, [data.calendarName, data.status].filter(Boolean).join(" · ")),
  );
}

function reminder(item, actions) {
  const { data } = item;
  const button = h("button", { class: "primary small", type: "button", on: { click: () => actions.complete(item, button) } }, "Complete");
  return h(
    "div",
    {},
    h("h3", {}, data.title ?? "Reminder"),
    data.notes ? h("p", {}, data.notes) : null,
    h("p", { class: "quiet-text" }, data.completedAt ? `done ${ago(data.completedAt)}` : `due ${moment(data.dueAt)} (${ago(data.dueAt)})`, data.priority === "high" ? " · high priority" : ""),
    actions && !data.completedAt ? button : null,
  );
}

const SHOWN_ALREADY = new Set(["title", "greeting", "text", "summary", "body", "url", "link"]);

function generic({ data }) {
  const title = data.title ?? data.greeting;
  const text = data.text ?? data.body ?? data.summary;
  const rest = Object.entries(data).filter(([name, value]) => !SHOWN_ALREADY.has(name) && value !== null && value !== "");
  return h(
    "div",
    {},
    title ? h("h3", {}, String(title)) : null,
    text ? h("p", {}, String(text)) : null,
    link(data.url ?? data.link, "Open"),
    rest.length ? h("dl", { class: "pairs" }, rest.map(([name, value]) => [h("dt", {}, humanName(name)), h("dd", {}, readable(value))])) : null,
  );
}

// Only web addresses become links: an item's text must not be able to run anything.
function link(url, label) {
  return typeof url === "string" && /^https?:\/\//i.test(url) ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, label) : null;
}

function readable(value) {
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT/.test(value) ? moment(value) : value;
  if (typeof value === "object") return h("code", {}, JSON.stringify(value));
  return String(value);
}
