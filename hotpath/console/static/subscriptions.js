// All own subscriptions, live.

import { call, repeat } from "./api.js";
import { createSubscription } from "./dialogs.js";
import { emptyState, h, reconcile, replace, text } from "./dom.js";
import { TOPIC_NAMES, count, rate, until } from "./format.js";
import { Meter, Sparkline } from "./spark.js";

const EVERY_MS = 2000;
const PAGE = 50;
const COLUMNS = ["Filter", "Topic", "Deliveries per second", "Backlog", "Clients", "Ends if idle"];

export function showSubscriptions(root, { signal }) {
  const body = h("tbody");
  const fault = h("p", { class: "fault" });
  const table = h(
    "div", { class: "card tablecard", hidden: true },
    h(
      "table", { class: "table" },
      h("caption", { class: "unseen" }, "Own subscriptions"),
      h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))),
      body,
    ),
  );
  const empty = h("div");
  const pages = new Pages();
  const create = h("button", { type: "button", class: "primary" }, "New subscription");
  const refresh = async () => {
    const { data, next } = await call("GET", pages.path(), { signal });
    text(fault, "");
    pages.show(next);
    reconcile(body, data, (each) => each.subscriptionId, makeRow);
    const isEmpty = data.length === 0 && pages.isFirst();
    table.hidden = isEmpty;
    showEmpty(empty, isEmpty, () => create.click());
  };
  pages.onTurn = () => refresh().catch((error) => text(fault, error.message));
  create.addEventListener("click", () => createSubscription({ onDone: pages.onTurn }));
  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Subscriptions"), h("span", { class: "fill" }), create),
    fault, table, empty, pages.element,
  );
  repeat(refresh, { every: EVERY_MS, signal, onError: (error) => text(fault, error.message) });
}

/** Where in the list we are: the service gives a cursor for the page behind. */
class Pages {
  constructor() {
    this.cursors = [""];
    this.next = null;
    this.onTurn = () => {};
    this.back = h("button", { type: "button", class: "small" }, "Earlier ones");
    this.on = h("button", { type: "button", class: "small" }, "Later ones");
    this.back.addEventListener("click", () => this.turn(() => this.cursors.pop()));
    this.on.addEventListener("click", () => this.turn(() => this.cursors.push(this.next)));
    this.element = h("div", { class: "actions", hidden: true }, this.back, this.on);
  }

  path() {
    return `subscriptions?limit=${PAGE}&cursor=${encodeURIComponent(this.cursors.at(-1))}`;
  }

  isFirst() {
    return this.cursors.length === 1;
  }

  show(next) {
    this.next = next;
    this.element.hidden = this.isFirst() && !next;
    this.back.disabled = this.isFirst();
    this.on.disabled = !next;
  }

  turn(step) {
    step();
    this.onTurn();
  }
}

function showEmpty(place, isEmpty, onCreate) {
  if (isEmpty === (place.childElementCount > 0)) return;
  if (!isEmpty) {
    replace(place);
    return;
  }
  const button = h("button", { type: "button" }, "Create the first one");
  button.addEventListener("click", onCreate);
  replace(
    place,
    emptyState(
      "There are no subscriptions yet.",
      h("p", {}, "A subscription is a filter on a topic, and a feed of what it lets through. " +
        "Try a filter in the ", h("a", { href: "#/playground" }, "playground"), ", or create one here."),
      button,
    ),
  );
}

function makeRow(subscription) {
  const id = subscription.subscriptionId;
  const spark = new Sparkline("deliveries per second", rate, { points: 40 });
  const meter = new Meter();
  const speed = h("span", { class: "num" }, "–");
  const backlog = h("span");
  const clients = h("span");
  const ends = h("span");
  const dead = h("span", { class: "badge warn", hidden: true });
  const cell = (label, content, kind = "") =>
    h("td", { "data-label": label, class: kind || null }, content);
  const element = h(
    "tr", { class: "row" },
    cell("Filter", h("a", { class: "filter", href: `#/subscriptions/${subscription.type}/${id}` },
      subscription.filter), "wide"),
    cell("Topic", TOPIC_NAMES[subscription.type] ?? subscription.type),
    cell("Deliveries per second", h("span", { class: "rate" }, speed, spark.element)),
    cell("Backlog", h("span", {}, backlog, " ", dead)),
    cell("Clients", clients),
    cell("Ends if idle", ends),
  );
  return {
    element,
    update(now) {
      const perSecond = meter.rate(now.delivered);
      if (perSecond !== null) {
        text(speed, rate(perSecond));
        spark.push(perSecond);
      }
      text(backlog, count(now.backlog));
      text(clients, count(now.clients));
      text(ends, now.clients > 0 ? "not while read" : until(now.expiresAt));
      dead.hidden = now.deadLettered === 0;
      text(dead, `${count(now.deadLettered)} dead`);
    },
  };
}
