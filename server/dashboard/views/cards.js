// One item as a card. A type we know is drawn for what it is; any other shows its data as readable pairs.

import { agoTime, h } from "../dom.js";
import { day, humanName, moment, timeOfDay } from "../format.js";

const BODIES = {
  "weather-current": weatherNow,
  "weather-hourly": weatherHours,
  "weather-daily": weatherDays,
  "weather-alert": weatherAlert,
  "tfl-status": transit,
  "caldav-event": event,
  "clock-greeting": greeting,
  "clock-date": dateToday,
  "clock-sun": sun,
  "news-article": article,
  "music-now-playing": track,
  "music-listen": track,
  reminder,
};

const KINDS = {
  "weather-current": "Weather", "weather-hourly": "Next hours", "weather-daily": "Next days", "weather-alert": "Weather alert",
  "tfl-status": "Transit", "caldav-event": "Calendar", "clock-greeting": "Hello", "clock-date": "Today", "clock-sun": "Sun",
  "news-article": "News", "music-now-playing": "Now playing", "music-listen": "Listened to", reminder: "Reminder",
};
const kindOf = (item) => KINDS[item.type] ?? humanName(item.type);

/** @param actions `{dismiss(item), complete(item, button)}`; leave out to show the card only */
export function card(item, actions = null) {
  const urgency = item.signals?.urgency;
  const relevance = item.signals?.timeRelevance;
  const body = (BODIES[item.type] ?? generic)(item, actions);
  const title = titleOf(item);
  return h(
    "article",
    { class: `card ${RELEVANCES.has(relevance) ? relevance : ""}`, tabindex: "-1", data: { item: item.id, type: item.type }, "aria-label": title },
    h(
      "header",
      {},
      h("span", { class: "kind" }, kindOf(item)),
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

const RELEVANCES = new Set(["imminent", "upcoming", "ambient"]);

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

/** What the item is called, for people and screen readers. */
export function titleOf(item) {
  const { data } = item;
  return String(data.title ?? data.text ?? data.name ?? data.track ?? kindOf(item));
}

function figure(label, value, unit = "") {
  return value === undefined || value === null ? null : h("div", { class: "figure" }, h("dt", {}, label), h("dd", {}, `${value}${unit}`));
}

function units(data) {
  const imperial = data.units === "imperial";
  return { degrees: imperial ? "°F" : "°C", wind: imperial ? " mph" : " km/h", pressure: imperial ? " inHg" : " hPa" };
}

const condition = ({ conditionCode }) => (conditionCode ? humanName(conditionCode) : "");
const round = (value) => (typeof value === "number" ? Math.round(value) : value);
const percent = (value) => (typeof value === "number" ? Math.round(value * 100) : undefined);

function weatherNow({ data }) {
  const unit = units(data);
  return h(
    "div",
    { class: "weather" },
    h("p", { class: "big" }, `${round(data.temperature)}${unit.degrees}`),
    h("p", {}, condition(data)),
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
        h("span", { class: "quiet-text" }, hour.precipitationChance ? `${percent(hour.precipitationChance)} % rain` : condition(hour)),
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
        h("span", { class: "quiet-text" }, [condition(one), one.precipitationChance ? `${percent(one.precipitationChance)} %` : null].filter(Boolean).join(" · ")),
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
    h("p", {}, [data.areaName, data.severity && humanName(data.severity)].filter(Boolean).join(" · ")),
    data.expireTime ? h("p", { class: "quiet-text" }, `until ${moment(data.expireTime)}`) : null,
    link(data.detailsUrl, data.source ? `Details by ${data.source}` : "Details"),
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
        h("span", { class: "level" }, humanName(String(alert.severity ?? ""))),
        alert.description ? h("span", { class: "quiet-text clip" }, alert.description) : null,
        typeof alert.closestStationDistance === "number" ? h("span", { class: "quiet-text" }, `${alert.closestStationDistance.toFixed(1)} km away`) : null,
      ),
    ),
  );
}

function event({ data }) {
  const attendees = data.attendees?.length ?? 0;
  return h(
    "div",
    { class: data.status === "cancelled" ? "cancelled" : "" },
    h("h3", {}, data.title ?? "Event"),
    h("p", {}, eventTime(data)),
    data.location ? h("p", {}, data.location) : null,
    data.description ? h("p", { class: "quiet-text clip" }, data.description) : null,
    h(
      "p",
      { class: "quiet-text" },
      [data.calendarName, data.status === "confirmed" ? null : data.status, attendees ? `${attendees} invited` : null, data.recurrenceId ? "repeats" : null].filter(Boolean).join(" · "),
    ),
    link(data.url, "Open"),
  );
}

function eventTime(data) {
  if (!data.isAllDay) {
    const sameDay = new Date(data.startDate).toDateString() === new Date(data.endDate).toDateString();
    return `${moment(data.startDate)} – ${sameDay ? timeOfDay(data.endDate) : moment(data.endDate)}`;
  }
  const { startDay, endDay } = data;
  return `${day(startDay ?? data.startDate)}${endDay && endDay !== startDay ? ` – ${day(endDay)}` : ""}, all day`;
}

function greeting({ data }) {
  return h("h3", { class: "hello", lang: data.language }, data.text ?? data.greeting);
}

function dateToday({ data }) {
  return h("div", {}, h("h3", { lang: data.language }, data.text ?? day(data.date)), h("p", { class: "quiet-text" }, data.timeZone ?? ""));
}

function sun({ data }) {
  if (data.polar) return h("p", {}, data.polar === "day" ? "The sun does not set today." : "The sun does not rise today.");
  return h("dl", { class: "figures" }, figure("Sunrise", data.sunrise && timeOfDay(data.sunrise)), figure("Sunset", data.sunset && timeOfDay(data.sunset)));
}

function article({ data }) {
  const from = [data.feedTitle, data.author].filter(Boolean).join(" · ");
  const title = link(data.link, data.title ?? "Article");
  return h("div", {}, h("h3", {}, title ?? data.title ?? "Article"), data.summary ? h("p", { class: "clip" }, data.summary) : null, h("p", { class: "quiet-text" }, from, data.publishedAt ? [" · ", agoTime(data.publishedAt)] : null));
}

function track({ data }) {
  return h("div", {}, h("h3", {}, data.track), h("p", {}, data.artist), h("p", { class: "quiet-text" }, data.release, data.listenedAt ? [" · ", agoTime(data.listenedAt)] : null));
}

function reminder(item, actions) {
  const { data } = item;
  const late = !data.completedAt && Date.parse(data.dueAt) < Date.now();
  const button = h("button", { class: "primary small", type: "button", "aria-label": `Complete ${titleOf(item)}`, on: { click: () => actions.complete(item, button) } }, "Complete");
  return h(
    "div",
    {},
    h("h3", {}, data.title ?? "Reminder"),
    data.notes ? h("p", { class: "clip" }, data.notes) : null,
    h(
      "p",
      { class: late ? "problem" : "quiet-text" },
      data.completedAt ? ["done ", agoTime(data.completedAt)] : [`due ${moment(data.dueAt)} (`, agoTime(data.dueAt), ")"],
      data.recurrence ? " · repeats" : "",
      data.priority && data.priority !== "normal" ? ` · ${data.priority} priority` : "",
    ),
    actions && !data.completedAt ? h("p", { class: "buttons" }, button) : null,
  );
}

const SHOWN_ALREADY = new Set(["title", "text", "summary", "body", "url", "link"]);

function generic({ data }) {
  const { title } = data;
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
