// The topics: what comes in, how fast, and when there was something last.

import { call, path, repeat } from "./api.js";
import { copyable, emptyState, h, reconcile, replace, text } from "./dom.js";
import { TOPIC_NAMES, ago, count, rate } from "./format.js";
import { makeMessage } from "./messages.js";
import { Sparkline } from "./spark.js";

const EVERY_MS = 2000;
const SHOWN = 15;

export function showTopics(root, { signal }) {
  const tiles = h("ul", { class: "tiles" });
  const fault = h("p", { class: "fault" });
  const empty = h("div");
  const latest = new Latest(signal);
  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Topics")),
    h("p", { class: "lead" }, "What devices and gateways publish for this tenant, and how fast."),
    fault, tiles, empty, latest.element,
  );
  repeat(
    async () => {
      const { data } = await call("GET", "topics", { signal });
      text(fault, "");
      reconcile(tiles, data, (topic) => topic.type, makeTile);
      showEmpty(empty, data.every((topic) => topic.messages === 0));
      latest.offer(data);
      await latest.fetch();
    },
    { every: EVERY_MS, signal, onError: (error) => text(fault, error.message) },
  );
}

function showEmpty(place, isEmpty) {
  if (isEmpty === (place.childElementCount > 0)) return;
  if (!isEmpty) {
    replace(place);
    return;
  }
  replace(
    place,
    emptyState(
      "Nothing has been published yet.",
      h("p", {}, "Let devices publish over AMQP or POST /messages/{type}, or start a simulated plant:"),
      copyable("Command", "hotpath simulate --rate 20"),
    ),
  );
}

function makeTile(topic) {
  const name = TOPIC_NAMES[topic.type] ?? topic.type;
  const big = h("span", {}, "0");
  const messages = h("dd");
  const last = h("dd");
  const spark = new Sparkline(`${name}: messages per second`, (value) => rate(value));
  const element = h(
    "li", { class: "tile card" },
    h("h2", {}, name),
    h("p", { class: "big" }, big, h("span", { class: "unit" }, " per second")),
    spark.element,
    h(
      "dl", { class: "facts" },
      h("div", {}, h("dt", {}, "In the log"), messages),
      h("div", {}, h("dt", {}, "Last message"), last),
    ),
    h("p", {}, h("a", { href: `#/playground/${topic.type}` }, "Try a filter", h("span", { class: "unseen" }, ` on ${name}`))),
  );
  return {
    element,
    update(now) {
      text(big, rate(now.ratePerSecond));
      text(messages, count(now.messages));
      text(last, ago(now.lastMessageAt));
      spark.push(now.ratePerSecond);
    },
  };
}

/** The last messages of one topic, the newest first; the first topic that has any to begin with. */
class Latest {
  constructor(signal) {
    this.signal = signal;
    this.list = h("ol", { class: "messages", "aria-label": "Latest messages" });
    this.topic = h("select", { id: "latest-topic" });
    this.pause = h("button", { type: "button", class: "small", "aria-pressed": "false" }, "Pause");
    this.pause.addEventListener("click", () => {
      const isPaused = this.pause.getAttribute("aria-pressed") !== "true";
      this.pause.setAttribute("aria-pressed", String(isPaused));
      text(this.pause, isPaused ? "Go on" : "Pause");
    });
    this.topic.addEventListener("change", () => {
      this.chosen = true;
      replace(this.list);
      this.list.keyed = undefined;
      this.fetch().catch(() => {});
    });
    this.element = h(
      "section", { class: "card stack", "aria-labelledby": "latest-title", hidden: true },
      h("div", { class: "head" },
        h("h2", { id: "latest-title" }, "Latest messages"), h("span", { class: "fill" }),
        h("label", { for: "latest-topic", class: "unseen" }, "Of which topic"), this.topic, this.pause),
      this.list,
    );
  }

  offer(topics) {
    if (!this.topic.options.length) {
      replace(this.topic, topics.map(({ type }) => h("option", { value: type }, TOPIC_NAMES[type] ?? type)));
    }
    const busiest = topics.reduce((one, other) => (other.messages > one.messages ? other : one), { messages: 0 });
    this.element.hidden = busiest.messages === 0;
    if (!this.chosen && busiest.type) {
      this.topic.value = busiest.type;
      this.chosen = true;
    }
  }

  async fetch() {
    if (this.element.hidden || this.pause.getAttribute("aria-pressed") === "true") return;
    const topic = this.topic.value;
    const { data } = await call("GET", `${path`topics/${topic}/messages`}?last=${SHOWN}`, { signal: this.signal });
    if (topic !== this.topic.value) return;
    reconcile(this.list, data.toReversed(), (message) => message.sequenceNumber, (message) =>
      makeMessage(message, { markOf: () => null }));
  }
}
