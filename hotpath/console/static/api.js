// Calls of the REST API, and the session they are made in.
//
// The token lives in this module and, if the user wants that, in the tab's session storage. It is
// sent in the Authorization header and goes nowhere else: not into an address, not into a log.

const BASE = new URL("./", document.baseURI);
const KEPT = "hotpath.token";
const WAIT_MAX_MS = 10_000;

let token = null;
export const session = { who: null, onEnded: () => {}, onReachable: () => {} };

/** What the service answered instead of what was asked for. */
export class Refused extends Error {
  constructor(status, errors, requestId) {
    const details = errors.map((error) => error.detail || error.title).filter(Boolean);
    super(details.join("; ") || `the service answered ${status}`);
    this.status = status;
    this.errors = errors;
    this.requestId = requestId;
  }
}

/** Nobody answered. */
export class Unreachable extends Error {
  constructor() {
    super("the service does not answer");
  }
}

/** Sign in with a token; who that is. Throws Refused or Unreachable. */
export async function signIn(given, { keep }) {
  token = given;
  try {
    session.who = await call("GET", "me");
  } catch (error) {
    token = null;
    throw error;
  }
  if (keep) storage()?.setItem(KEPT, given);
  return session.who;
}

/** The token that this tab has kept, if any. */
export function keptToken() {
  return storage()?.getItem(KEPT) ?? null;
}

/** Forget the token. */
export function signOut() {
  token = null;
  session.who = null;
  storage()?.removeItem(KEPT);
}

function storage() {
  try {
    return window.sessionStorage;
  } catch {
    return null;
  }
}

/** One call; the parsed answer, null when it has none. Throws Refused, Unreachable, AbortError. */
export async function call(method, path, { body, signal } = {}) {
  const headers = { Authorization: `Bearer ${token}`, Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await reach(path, {
    method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error",
    referrerPolicy: "no-referrer", body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await read(response);
  if (response.ok) return answer;
  const refusal = new Refused(
    response.status, answer?.errors ?? [], response.headers.get("X-Request-Id"),
  );
  if (response.status === 401 && session.who) session.onEnded(refusal);
  throw refusal;
}

async function reach(path, options) {
  try {
    const response = await fetch(new URL(path, BASE), options);
    session.onReachable(true);
    return response;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    session.onReachable(false);
    throw new Unreachable();
  }
}

async function read(response) {
  const raw = await response.text();
  try {
    return raw ? JSON.parse(raw) : null;
  } catch {
    return null;
  }
}

/** A path of which parts come from elsewhere. */
export function path(strings, ...values) {
  return strings.reduce((all, part, index) => all + encodeURIComponent(values[index - 1]) + part);
}

/**
 * Run `work` now and again every so many milliseconds, one after the other, until `signal` ends
 * it; not while nobody looks. After a failure it waits longer each time.
 */
export function repeat(work, { every, signal, onError = () => {} }) {
  let failures = 0;
  let timer = 0;
  let working = false;
  const again = async () => {
    if (signal.aborted || working) return;
    working = true;
    if (!document.hidden) {
      try {
        await work();
        failures = 0;
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        failures += 1;
        onError(error);
      } finally {
        working = false;
      }
    }
    working = false;
    if (!signal.aborted) timer = setTimeout(again, Math.min(every * 2 ** failures, WAIT_MAX_MS));
  };
  const onVisible = () => {
    if (document.hidden) return;
    clearTimeout(timer);
    again();
  };
  document.addEventListener("visibilitychange", onVisible, { signal });
  window.addEventListener("online", onVisible, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  again();
}
