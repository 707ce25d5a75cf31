// The QEL playground: a filter, its faults as you type, and what it makes of the last messages.

import { Refused, call, path, repeat } from "./api.js";
import { createSubscription } from "./dialogs.js";
import { announce, emptyState, h, reconcile, replace, text } from "./dom.js";
import { TOPIC_NAMES, count } from "./format.js";
import { makeMessage, reasonTree, verdictBadge } from "./messages.js";

const TYPING_MS = 250;
const FOLLOW_MS = 2500;
const EXAMPLES = {
  variables: "variable = 'temperature' AND value > 70",
  events: "event STARTS_WITH 'machine' OR objectId IN ['pump-1', 'pump-2']",
  alarms: "value.severity = 'critical' AND NOT (value.state = 'cleared')",
  platformEvents: "severity != 'info'",
};

export function showPlayground(root, { signal, given: [wanted] }) {
  const topic = h("select", { id: "play-topic" },
    Object.entries(TOPIC_NAMES).map(([value, name]) => h("option", { value }, name)));
  topic.value = wanted in TOPIC_NAMES ? wanted : "variables";
  const text_ = h("textarea", {
    id: "play-filter", class: "mono", rows: "4", spellcheck: "false", autocapitalize: "off",
    autocomplete: "off", "aria-describedby": "play-problem play-canonical",
    value: EXAMPLES[topic.value],
  });
  const follow = h("input", { type: "checkbox", id: "play-follow", checked: true });
  const subscribe = h("button", { type: "button", class: "primary" }, "Subscribe with this filter");
  const parts = {
    topic, filter: text_, subscribe,
    problem: h("div", { id: "play-problem" }),
    canonical: h("p", { class: "hint", id: "play-canonical" }),
    properties: h("div", { class: "chips" }),
    open: h("p", { class: "hint" }),
    tally: h("p", { class: "hint" }),
    list: h("ol", { class: "messages", "aria-label": "Last messages" }),
    empty: h("div"),
  };
  draw(root, parts, follow);
  const bench = new Bench(parts);
  text_.addEventListener("input", () => bench.soon());
  topic.addEventListener("change", () => {
    if (Object.values(EXAMPLES).includes(text_.value)) text_.value = EXAMPLES[topic.value];
    showProperties(bench.topics, parts);
    bench.clear();
    bench.now({ tell: true });
  });
  subscribe.addEventListener("click", () => createSubscription({
    topic: topic.value, filter: text_.value,
    onDone: (made) => { location.hash = path`#/subscriptions/${topic.value}/${made.subscriptionId}`; },
  }));
  loadProperties(bench, parts, signal);
  signal.addEventListener("abort", () => bench.stop());
  repeat(() => (follow.checked || !bench.hasAnswer ? bench.now() : null), { every: FOLLOW_MS, signal });
}

function draw(root, parts, follow) {
  replace(
    root,
    h("div", { class: "head" }, h("h1", {}, "Playground")),
    h("p", { class: "lead" }, "Type a filter and see what it would let through of the messages that came last."),
    h(
      "div", { class: "bench" },
      h(
        "section", { class: "card editor", "aria-label": "Filter" },
        h("div", { class: "field" }, h("label", { for: "play-topic" }, "Topic"), parts.topic),
        h("div", { class: "field" }, h("label", { for: "play-filter" }, "Filter (QEL)"), parts.filter),
        parts.problem, parts.canonical,
        h("div", { class: "actions" }, parts.subscribe),
      ),
      h("section", { class: "card editor", "aria-labelledby": "properties-title" },
        h("h2", { id: "properties-title" }, "Properties"), parts.properties, parts.open),
    ),
    h(
      "section", { class: "card stack", "aria-labelledby": "tried-title" },
      h("div", { class: "head" },
        h("h2", { id: "tried-title" }, "Last messages"), parts.tally, h("span", { class: "fill" }),
        h("label", { class: "check", for: "play-follow" }, follow, "Follow new ones")),
      parts.empty, parts.list,
    ),
  );
}

async function loadProperties(bench, parts, signal) {
  try {
    const { data } = await call("GET", "topics", { signal });
    bench.topics = new Map(data.map((topic) => [topic.type, topic]));
    for (const option of parts.topic.options) option.disabled = !bench.topics.has(option.value);
    showProperties(bench.topics, parts);
  } catch (error) {
    if (error.name !== "AbortError") text(parts.open, error.message);
  }
}

function showProperties(topics, parts) {
  const known = topics.get(parts.topic.value);
  const properties = known?.properties ?? [];
  const rest = {
    platformEvents: "Any other property may be named too; its type is known when a message comes.",
    points: "",
  }[parts.topic.value];
  text(parts.open, rest ?? "What is inside of value is named with a dot: value.pressure.");
  replace(parts.properties, properties.map((property) => chip(property, parts.filter)));
}

function chip(property, field) {
  const button = h("button", { type: "button", title: property.type }, property.name,
    h("span", { class: "unseen" }, `, ${property.type}: put into the filter`));
  button.addEventListener("click", () => {
    field.setRangeText(property.name, field.selectionStart, field.selectionEnd, "end");
    field.focus();
    field.dispatchEvent(new Event("input"));
  });
  return button;
}

/** Asks the service about the filter: a little after the last key, and when new messages come. */
class Bench {
  constructor(parts) {
    this.parts = parts;
    this.topics = new Map();
    this.hasAnswer = false;
    this.timer = 0;
    this.asking = new AbortController();
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now({ tell: true }), TYPING_MS);
  }

  stop() {
    clearTimeout(this.timer);
    this.asking.abort();
  }

  clear() {
    this.hasAnswer = false;
    replace(this.parts.list);
    this.parts.list.keyed = undefined;
  }

  async now({ tell = false } = {}) {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const { topic, filter } = this.parts;
    const body = { filter: filter.value, last: 30 };
    try {
      const answer = await call("POST", path`topics/${topic.value}/explain`, { body, signal });
      this.hasAnswer = true;
      this.show(answer, tell);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Refused)) throw error;
      this.showProblem([{ detail: error.message, line: 0 }]);
    }
  }

  show(answer, tell) {
    this.showProblem(answer.errors);
    text(this.parts.canonical, answer.valid ? `Canonical: ${answer.canonical}` : "");
    this.parts.subscribe.disabled = !answer.valid;
    if (!answer.valid) {
      text(this.parts.tally, this.parts.list.keyed?.size ? "As the last valid filter judged them" : "");
      if (tell) announce(`Not valid: ${answer.errors[0].detail}`);
      return;
    }
    const { data, matched } = answer;
    const tally = `${count(matched)} of ${count(data.length)} match`;
    text(this.parts.tally, data.length ? tally : "");
    if (tell) announce(data.length ? tally : "The filter is valid; there are no messages to try it on");
    reconcile(this.parts.list, data, (message) => message.sequenceNumber, (message) =>
      makeMessage(message, {
        markOf: (now) => verdictBadge(now.matches),
        moreOf: (now) => [h("p", { class: "small-text" }, now.because), reasonTree(now.explanation)],
      }));
    this.parts.list.hidden = data.length === 0;
    if (data.length) replace(this.parts.empty);
    else if (!this.parts.empty.childElementCount) {
      replace(this.parts.empty, emptyState("This topic has no messages to try the filter on.",
        h("p", {}, "Publish some, for example with ", h("code", {}, "hotpath simulate"), ". They appear here by themselves.")));
    }
  }

  showProblem(errors) {
    const { filter, problem } = this.parts;
    if (!errors.length) {
      filter.removeAttribute("aria-invalid");
      replace(problem);
      return;
    }
    filter.setAttribute("aria-invalid", "true");
    replace(problem, errors.slice(0, 5).map((error) => caret(filter.value, error)));
  }
}

/** The line with the fault, a caret under it, and what is wrong. */
function caret(filter, error) {
  const hint = error.suggestion ? ` (${error.suggestion})` : "";
  const why = h("span", { class: "why" }, error.detail + hint);
  if (!error.line) return h("p", { class: "caret" }, why);
  const line = filter.split(/\r\n|\r|\n/)[error.line - 1] ?? "";
  // Tabs stay tabs, so that the caret stands under its character.
  const before = [...line].slice(0, error.column - 1).join("").replace(/[^\t]/g, " ");
  return h("p", { class: "caret", tabindex: "0" },
    h("span", { "aria-hidden": "true" }, `${line}\n${before}^`), why);
}
