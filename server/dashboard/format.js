// Numbers and times for people.

const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayTime = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const dayOnly = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

export function timeOfDay(iso) {
  return valid(iso, (date) => clockTime.format(date));
}

export function day(iso) {
  return valid(iso, (date) => dayOnly.format(date));
}

/** "14:05" today, with the day on other days. */
export function moment(iso) {
  return valid(iso, (date) => (date.toDateString() === new Date().toDateString() ? clockTime : dayTime).format(date));
}

/** "in 5 min", "2 hr ago". */
export function ago(iso, now = Date.now()) {
  return valid(iso, (date) => {
    const seconds = (date.getTime() - now) / 1_000;
    const size = Math.abs(seconds);
    if (size < 45) return relative.format(Math.round(seconds), "second");
    if (size < 45 * 60) return relative.format(Math.round(seconds / 60), "minute");
    if (size < 22 * 3600) return relative.format(Math.round(seconds / 3600), "hour");
    return relative.format(Math.round(seconds / 86_400), "day");
  });
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 ** 2) return `${(count / 1024).toFixed(1)} KiB`;
  if (count < 1024 ** 3) return `${(count / 1024 ** 2).toFixed(1)} MiB`;
  return `${(count / 1024 ** 3).toFixed(2)} GiB`;
}

export function count(value) {
  if (Math.abs(value) >= 100_000) return Intl.NumberFormat(undefined, { notation: "compact" }).format(value);
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 2 : 1);
}

/** "0.42 ms", "1.3 s". */
export function milliseconds(value) {
  return value < 1_000 ? `${count(value)} ms` : `${(value / 1_000).toFixed(1)} s`;
}

/** "closestStationDistance" as "Closest station distance". */
export function humanName(name) {
  const spaced = name.replace(/[-_.]+/g, " ").replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase().trim();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

// A date without a time is a day of the calendar, wherever one is.
function valid(iso, format) {
  const date = new Date(/^\d{4}-\d\d-\d\d$/.test(iso) ? `${iso}T00:00` : iso);
  return Number.isNaN(date.getTime()) ? String(iso ?? "") : format(date);
}
