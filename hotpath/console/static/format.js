// Numbers, times and filters as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A count: 1,234, and 1.2M from a hundred thousand on. */
export function count(number) {
  return number >= 100_000 ? short.format(number) : whole.format(number);
}

/** A rate without its unit. */
export function rate(number) {
  return number > 0 && number < 10 ? fine.format(number) : count(number);
}

/** A length of time in its two largest units. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const units = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const head = `${Math.floor(seconds / size)} ${name}`;
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return rest ? `${head} ${rest} ${next[0]}` : head;
}

/** How long ago an ISO time was; "never" for none. */
export function ago(iso, now = Date.now()) {
  if (!iso) return "never";
  const passed = now - Date.parse(iso);
  return passed < 2000 ? "just now" : `${duration(passed)} ago`;
}

/** How long until an ISO time. */
export function until(iso, now = Date.now()) {
  const left = Date.parse(iso) - now;
  return left <= 0 ? "now" : `in ${duration(left)}`;
}

/** The time of day of an ISO time, to the millisecond, in the reader's zone. */
export function clock(iso) {
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return String(iso);
  const part = (value, digits = 2) => String(value).padStart(digits, "0");
  const day = `${part(moment.getHours())}:${part(moment.getMinutes())}:${part(moment.getSeconds())}`;
  return `${day}.${part(moment.getMilliseconds(), 3)}`;
}

/** A day and time. */
export function moment(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? String(iso) : at.toLocaleString("en-GB", { hour12: false });
}

/** A message in one line: the properties of its body that tell most. */
export function summary(message) {
  if (message.truncated) return `${count(message.sizeBytes)} bytes, too large to show`;
  const body = message.body;
  if (body === null || typeof body !== "object" || Array.isArray(body)) {
    return body === null ? "empty body" : JSON.stringify(body);
  }
  const skipped = new Set(["timestamp", "eventTime"]);
  return Object.entries(body)
    .filter(([name]) => !skipped.has(name))
    .map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join("  ");
}

/** A truth value of QEL in a word. */
export function truth(value) {
  return value === null ? "unknown" : String(value);
}

export const TOPIC_NAMES = {
  platformEvents: "Platform events",
  variables: "Variables",
  events: "Events",
  alarms: "Alarms",
};
