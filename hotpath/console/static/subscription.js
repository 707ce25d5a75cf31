// One subscription: its figures, a live tail that takes nothing from anybody, and why.

import { call, path, repeat } from "./api.js";
import { showAccess, showFault } from "./dialogs.js";
import { announce, confirmDialog, emptyState, h, reconcile, replace, text } from "./dom.js";
import { TOPIC_NAMES, ago, count, duration, rate, until } from "./format.js";
import { bodyOf, makeMessage, reasonTree, stateBadge, verdictBadge } from "./messages.js";
import { Meter, Sparkline } from "./spark.js";

const FIGURES_MS = 2000;
const TAIL_MS = 1000;
const KEPT = 100;

const SHOWN = [
  { value: "matched", label: "What matches, live", none: "Nothing in the log matches yet. New matches appear here by themselves." },
  { value: "unsettled", label: "What is not settled", none: "Everything is settled: no message waits." },
  { value: "deadLettered", label: "Dead letters", none: "There are no dead letters." },
];

export function showSubscription(root, { signal, given: [type, id] }) {
  const base = path`subscriptions/${type}/${id}`;
  const body = h("div", { class: "messages-view" });
  const fault = h("div");
  replace(
    root,
    h("p", {}, h("a", { href: "#/subscriptions" }, "All subscriptions")),
    h("div", { class: "head" }, h("h1", {}, `Subscription on ${TOPIC_NAMES[type] ?? type}`),
      h("span", { class: "fill" }), actions(base, fault)),
    fault,
    figures(base, { signal, fault }),
    body,
  );
  const why = whyForm(base);
  replace(body, h("div", { class: "stack" }, why.element), tail(base, { signal, onWhy: why.ask }));
}

function actions(base, fault) {
  const renew = h("button", { type: "button" }, "Renew token");
  const remove = h("button", { type: "button", class: "danger" }, "Delete");
  renew.addEventListener("click", async () => {
    try {
      showAccess("Token renewed", await call("PUT", base));
    } catch (error) {
      showFault(fault, error);
    }
  });
  remove.addEventListener("click", async () => {
    const sure = await confirmDialog(
      "Delete this subscription?",
      "Whoever reads it is detached, and its backlog and dead letters are gone for good.",
      "Delete it",
    );
    if (!sure) return;
    try {
      await call("DELETE", base);
      location.hash = "#/subscriptions";
      announce("Subscription deleted");
    } catch (error) {
      showFault(fault, error);
    }
  });
  return h("div", { class: "actions" }, renew, remove);
}

function figures(base, { signal, fault }) {
  const names = ["Backlog", "Locked", "Delivered", "Dead letters", "Clients", "Last activity", "Ends if idle", "Time to live"];
  const values = Object.fromEntries(names.map((name) => [name, h("dd", {}, "–")]));
  const filter = h("p", { class: "block" });
  const spark = new Sparkline("deliveries per second", rate);
  const backlog = new Sparkline("backlog", count);
  const speed = h("span", { class: "num" }, "–");
  const meter = new Meter();
  repeat(
    async () => {
      const now = await call("GET", base, { signal });
      replace(fault);
      text(filter, now.filter);
      const perSecond = meter.rate(now.delivered);
      if (perSecond !== null) {
        spark.push(perSecond);
        text(speed, rate(perSecond));
      }
      backlog.push(now.backlog);
      showFigures(values, now);
    },
    { every: FIGURES_MS, signal, onError: (error) => showFault(fault, error) },
  );
  return h(
    "section", { class: "card", "aria-labelledby": "figures-title" },
    h("div", { class: "stack" },
      h("h2", { id: "figures-title" }, "Filter"), filter,
      h("div", { class: "pair" },
        h("div", {}, h("p", { class: "label" }, "Deliveries per second: ", speed), spark.element),
        h("div", {}, h("p", { class: "label" }, "Backlog"), backlog.element)),
      h("dl", { class: "facts few" }, names.map((name) => h("div", {}, h("dt", {}, name), values[name])))),
  );
}

function showFigures(values, now) {
  text(values.Backlog, count(now.backlog));
  text(values.Locked, count(now.locked));
  text(values.Delivered, count(now.delivered));
  text(values["Dead letters"], count(now.deadLettered));
  text(values.Clients, count(now.clients));
  text(values["Last activity"], ago(now.lastActivityAt));
  text(values["Ends if idle"], now.clients > 0 ? "not while read" : until(now.expiresAt));
  text(values["Time to live"], duration(now.subscriptionTTL * 60_000));
}

// The tail

function tail(base, { signal, onWhy }) {
  const list = h("ol", { class: "messages", "aria-label": "Messages" });
  const empty = h("div");
  const status = h("p", { class: "hint" });
  const show = h("select", { id: "tail-show" }, SHOWN.map(({ value, label }) => h("option", { value }, label)));
  const pause = h("button", { type: "button", class: "small", "aria-pressed": "false" }, "Pause");
  const feed = new Tail(base);
  const make = (message) => makeMessage(message, {
    markOf: (now) => stateBadge(now.state),
    moreOf: (now) => whyButton(now, onWhy),
  });
  const draw = () => {
    reconcile(list, feed.messages, (message) => message.sequenceNumber, make);
    const none = feed.messages.length === 0;
    list.hidden = none;
    if (!none) replace(empty);
    else if (!empty.childElementCount) replace(empty, emptyState(SHOWN.find((each) => each.value === feed.show).none));
  };
  show.addEventListener("change", () => {
    feed.restart(show.value);
    replace(empty);
    replace(list);
    list.keyed = undefined;
  });
  pause.addEventListener("click", () => {
    feed.paused = !feed.paused;
    pause.setAttribute("aria-pressed", String(feed.paused));
    text(pause, feed.paused ? "Go on" : "Pause");
  });
  repeat(
    async () => {
      if (feed.paused) return;
      await feed.fetch(signal);
      text(status, "");
      draw();
    },
    { every: TAIL_MS, signal, onError: (error) => text(status, error.message) },
  );
  return h(
    "section", { class: "card stack", "aria-labelledby": "tail-title" },
    h("div", { class: "head" },
      h("h2", { id: "tail-title" }, "Messages"), h("span", { class: "fill" }),
      h("label", { for: "tail-show", class: "unseen" }, "Which messages"), h("div", {}, show), pause),
    h("p", { class: "hint" }, "Looking takes nothing: no message is locked, counted or settled by it."),
    status, empty, list,
  );
}

function whyButton(message, onWhy) {
  const button = h("button", { type: "button", class: "small" }, "Why, and what became of it");
  button.addEventListener("click", () => onWhy(message.sequenceNumber));
  return h("div", {}, button);
}

/** The newest messages of a feed, the newest first. */
class Tail {
  constructor(base) {
    this.base = base;
    this.paused = false;
    this.restart("matched");
  }

  restart(show) {
    this.show = show;
    this.messages = [];
    this.after = null;
  }

  async fetch(signal) {
    const show = this.show;
    const isLive = show === "matched";
    const after = isLive && this.after !== null ? `&after=${this.after}` : "";
    const limit = isLive ? 50 : KEPT;
    const page = await call("GET", `${this.base}/messages?show=${show}&limit=${limit}${after}`, { signal });
    if (show !== this.show) return;
    this.after = page.next;
    const newest = page.data.toReversed();
    this.messages = isLive ? [...newest, ...this.messages].slice(0, KEPT) : newest;
  }
}

// Why

function whyForm(base) {
  const field = h("input", { id: "why-seq", inputmode: "numeric", class: "mono", autocomplete: "off", "aria-describedby": "why-hint" });
  const answer = h("div", { class: "stack" });
  const ask = async (seq) => {
    field.value = seq;
    try {
      const found = await call("GET", `${base}/messages/${encodeURIComponent(seq)}`);
      replace(answer, account(found));
      announce(`Message ${seq}: ${found.detail}`);
    } catch (error) {
      showFault(answer, error);
      announce(error.message, { urgent: true });
    }
    answer.scrollIntoView({ block: "nearest" });
  };
  const form = h(
    "form", { class: "ask" },
    h("div", { class: "field" }, h("label", { for: "why-seq" }, "Sequence number"), field),
    h("button", { type: "submit" }, "Ask"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) ask(field.value.trim());
  });
  const element = h(
    "section", { class: "card", "aria-labelledby": "why-title" },
    h("div", { class: "stack" },
      h("h2", { id: "why-title" }, "Why?"),
      h("p", { class: "hint", id: "why-hint" }, "Whether a message of the topic matched, and what became of it."),
      form, answer),
  );
  return { element, ask };
}

function account(found) {
  const facts = [
    ["Failed deliveries", found.deliveryCount || null],
    ["Locked", found.lockedUntil && until(found.lockedUntil).replace("in ", "for ")],
    ["Life ends", found.expiresAt && until(found.expiresAt)],
    ["Dead letter because", found.deadLetterReason],
    ["Description", found.deadLetterDescription || null],
  ].filter(([, value]) => value !== null && value !== undefined);
  return [
    h("div", { class: "head" }, h("h3", {}, `Message #${found.sequenceNumber}`), stateBadge(found.state),
      found.matches !== null && found.state !== "notMatched" && verdictBadge(found.matches)),
    h("p", {}, found.detail),
    facts.length > 0 && h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    found.explanation && reasonTree(found.explanation),
    found.message && bodyOf(found.message),
  ];
}
