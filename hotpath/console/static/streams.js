// Webhook streams: where they post to, how that goes, and what could not be delivered.

import { call, path, repeat, session } from "./api.js";
import { showFault } from "./dialogs.js";
import { announce, emptyState, h, reconcile, replace, text } from "./dom.js";
import { ago, clock, count, moment } from "./format.js";

const EVERY_MS = 3000;
const TYPE = "type=point-stream";
const MARKS = { active: "good", ok: "good", failing: "warn", disabled: "bad" };

function statusBadge(status) {
  return h("span", { class: `badge ${MARKS[status] ?? "calm"}` }, status);
}

function partitions() {
  return [...new Set([session.who.tenant, ...session.who.partitions])];
}

function baseOf(partition) {
  return path`streaming/v1/partitions/${partition}/streams`;
}

export function showStreams(root, { signal }) {
  const body = h("tbody");
  const place = h("div");
  const partition = h("select", { id: "partition" }, partitions().map((name) => h("option", { value: name }, name)));
  const columns = ["Endpoint", "Status", "Points", "Created"];
  const table = h(
    "div", { class: "card tablecard", hidden: true },
    h("table", { class: "table" },
      h("caption", { class: "unseen" }, "Webhook streams"),
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), body),
  );
  let shown = "";
  const refresh = async () => {
    const answer = await call("GET", `${baseOf(partition.value)}?${TYPE}&page[limit]=100`, { signal });
    reconcile(body, answer.data, (stream) => stream.id, (stream) => makeRow(stream, partition.value));
    table.hidden = answer.data.length === 0;
    const wanted = answer.data.length ? "streams" : "none";
    if (wanted !== shown) replace(place, wanted === "none" && noStreams(partition.value));
    shown = wanted;
  };
  const onError = (error) => {
    shown = "fault";
    table.hidden = true;
    if (error.status === 404) replace(place, emptyState("This service has no webhook streams."));
    else showFault(place, error);
  };
  partition.addEventListener("change", () => refresh().catch(onError));
  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Webhook streams"), h("span", { class: "fill" }),
      h("div", { class: "field", hidden: partitions().length < 2 }, h("label", { for: "partition" }, "Partition"), partition)),
    h("p", { class: "lead" }, "Values of points, posted to HTTPS endpoints one by one, with retries."),
    place, table,
  );
  repeat(refresh, { every: EVERY_MS, signal, onError });
}

function noStreams(partition) {
  return emptyState(
    "There are no webhook streams yet.",
    h("p", {}, "Create one with ", h("code", {}, `POST /streaming/v1/partitions/${partition}/streams?${TYPE}`),
      " and a body of webhookUrl and pointIds; see ", h("a", { href: "docs" }, "the API pages"), "."),
  );
}

function makeRow(stream, partition) {
  const status = h("span");
  const points = h("span");
  const cell = (label, content, kind = null) => h("td", { "data-label": label, class: kind }, content);
  const element = h(
    "tr", { class: "row" },
    cell("Endpoint", h("a", { class: "filter", href: path`#/webhooks/${partition}/${stream.id}` },
      stream.attributes.webhookUrl), "wide"),
    cell("Status", status),
    cell("Points", points),
    cell("Created", h("span", { title: moment(stream.attributes.createdAt) }, ago(stream.attributes.createdAt))),
  );
  return {
    element,
    update(now) {
      replace(status, statusBadge(now.attributes.status));
      text(points, count(now.attributes.pointIds.length));
    },
  };
}

// One stream

export function showStream(root, { signal, given: [partition, id] }) {
  const base = `${baseOf(partition)}/${encodeURIComponent(id)}`;
  const fault = h("div");
  const endpoint = h("p", { class: "block" });
  const status = h("dd");
  const points = h("dd");
  const attempts = section("Attempts", ["When", "Point", "Attempt", "Result", "Took"],
    "Nothing has been sent yet. Values of the stream’s points are sent as they come.");
  const dead = section("Dead letters", ["Since", "Event", "Reason", "Attempts", ""],
    "There are no dead letters: everything was delivered, or is still being tried.");
  const refresh = async () => {
    const [stream, sent, failed] = await Promise.all([
      call("GET", `${base}?${TYPE}`, { signal }),
      call("GET", `${base}/deliveries?${TYPE}&page[limit]=50`, { signal }),
      call("GET", `${base}/dead-letters?${TYPE}&page[limit]=50`, { signal }),
    ]);
    const attributes = (stream.data ?? stream).attributes;
    replace(fault);
    text(endpoint, attributes.webhookUrl);
    replace(status, statusBadge(attributes.status),
      attributes.statusReason && h("span", { class: "soft small-text" }, ` ${attributes.statusReason}`));
    text(points, count(attributes.pointIds.length));
    attempts.show(sent.data, (each) => each.id, makeAttempt);
    dead.show(failed.data, (each) => each.id, (each) => makeLetter(each, redrive));
    all.hidden = failed.data.length === 0;
  };
  const onError = (error) => showFault(fault, error);
  const redrive = async (ids) => {
    try {
      const { redriven } = await call("POST", `${base}/dead-letters/redrive?${TYPE}`, { body: ids ? { ids } : {} });
      announce(`${count(redriven)} sent again`);
      await refresh();
    } catch (error) {
      onError(error);
    }
  };
  const all = h("button", { type: "button", class: "small", hidden: true }, "Send all again");
  all.addEventListener("click", () => redrive(null));
  dead.head.append(all);
  replace(
    root,
    h("p", {}, h("a", { href: "#/webhooks" }, "All webhook streams")),
    h("div", { class: "head" }, h("h1", {}, "Webhook stream"), h("span", { class: "fill" }), tester(base, fault)),
    fault,
    h("section", { class: "card stack", "aria-label": "Stream" }, endpoint,
      h("dl", { class: "facts" },
        h("div", {}, h("dt", {}, "Status"), status), h("div", {}, h("dt", {}, "Points"), points),
        h("div", {}, h("dt", {}, "Stream"), h("dd", { class: "mono" }, id)))),
    dead.element, attempts.element,
  );
  repeat(refresh, { every: EVERY_MS, signal, onError });
}

/** A table with a heading, and what stands in its place when it is empty. */
function section(title, columns, none) {
  const body = h("tbody");
  const empty = h("p", { class: "soft" }, none);
  const head = h("div", { class: "head" }, h("h2", {}, title), h("span", { class: "fill" }));
  const table = h("table", { class: "table", hidden: true },
    h("caption", { class: "unseen" }, title),
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name || h("span", { class: "unseen" }, "Actions"))))),
    body);
  return {
    head,
    element: h("section", { class: "card stack", "aria-label": title }, head, empty, h("div", { class: "flow" }, table)),
    show(data, key, make) {
      reconcile(body, data, key, make);
      table.hidden = data.length === 0;
      empty.hidden = data.length > 0;
    },
  };
}

function makeAttempt(attempt) {
  const went = attempt.status === "delivered" || (attempt.httpStatus >= 200 && attempt.httpStatus < 300);
  const cell = (label, content, kind = null) => h("td", { "data-label": label, class: kind }, content);
  const result = [
    h("span", { class: `badge ${went ? "good" : "bad"}` }, attempt.httpStatus ? `HTTP ${attempt.httpStatus}` : attempt.status),
    attempt.reason && h("span", { class: "soft small-text" }, ` ${attempt.reason}`),
  ];
  const element = h("tr", {},
    cell("When", h("time", { datetime: attempt.at, title: moment(attempt.at) }, clock(attempt.at))),
    cell("Point", h("span", { class: "mono" }, attempt.pointId)),
    cell("Attempt", attempt.attempt),
    cell("Result", result, "wide"),
    cell("Took", `${count(attempt.durationMs)} ms`));
  return { element, update() {} };
}

function makeLetter(letter, redrive) {
  const button = h("button", { type: "button", class: "small" }, "Send again");
  button.addEventListener("click", async () => {
    button.disabled = true;
    await redrive([letter.id]);
    button.disabled = false;
  });
  const cell = (label, content, kind = null) => h("td", { "data-label": label, class: kind }, content);
  const event = letter.event ?? {};
  const element = h("tr", {},
    cell("Since", h("time", { datetime: letter.lastAttemptAt, title: moment(letter.lastAttemptAt) }, ago(letter.lastAttemptAt))),
    cell("Event", h("span", { class: "mono" }, `${event.id ?? letter.id} = ${event.value ?? ""}`), "wide"),
    cell("Reason", letter.reason, "wide"),
    cell("Attempts", count(letter.attempts)),
    cell("", button));
  return { element, update() {} };
}

function tester(base, fault) {
  const button = h("button", { type: "button" }, "Send a test event");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const result = await call("POST", `${base}/test?${TYPE}`);
      const how = result.delivered ? `Delivered, HTTP ${result.httpStatus}` : `Not delivered: ${result.reason}`;
      replace(fault, h("p", { class: result.delivered ? "soft" : "fault" }, `${how}, ${count(result.durationMs)} ms`));
      announce(how);
    } catch (error) {
      showFault(fault, error);
    }
    button.disabled = false;
  });
  return button;
}
