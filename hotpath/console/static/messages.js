// Messages in a list, each to be opened; and why a filter let one through or not, as a tree.

import { h, replace, text } from "./dom.js";
import { clock, count, moment, summary, truth } from "./format.js";

const VERDICTS = {
  true: { word: "matches", kind: "good" },
  false: { word: "no match", kind: "" },
  null: { word: "unknown", kind: "warn" },
};

const STATES = {
  noSuchMessage: ["no such message", ""],
  beforeStart: ["before the start", ""],
  removed: ["gone from the log", ""],
  notMatched: ["no match", ""],
  waiting: ["waiting", "calm"],
  behind: ["not read yet", "calm"],
  locked: ["with a client", "calm"],
  deferred: ["deferred", "warn"],
  expired: ["expired", "warn"],
  deadLettering: ["to the dead letters", "bad"],
  deadLettered: ["dead letter", "bad"],
  settled: ["settled", "good"],
};

/** What became of a message, as a mark. */
export function stateBadge(state) {
  const [word, kind] = STATES[state] ?? [state, ""];
  return h("span", { class: `badge ${kind}` }, word);
}

/** Whether a filter matched, as a mark. */
export function verdictBadge(matches) {
  const { word, kind } = VERDICTS[String(matches)];
  return h("span", { class: `badge ${kind}` }, word);
}

/**
 * An entry of a list of messages for `reconcile`. `markOf` gives the mark at its right, `moreOf`
 * what is shown once it is opened, before the message itself.
 */
export function makeMessage(message, { markOf, moreOf = () => null }) {
  const mark = h("span", { class: "mark" });
  const more = h("div", { class: "more" });
  const details = h(
    "details", { class: "message" },
    h(
      "summary", {},
      h("span", { class: "seq" }, `#${message.sequenceNumber}`),
      h("time", { class: "at", datetime: message.enqueuedTime, title: moment(message.enqueuedTime) },
        clock(message.enqueuedTime)),
      h("span", { class: "what" }, summary(message)),
      mark,
    ),
    more,
  );
  let shown = null;
  let current = message;
  const open = () => {
    if (!details.open) return;
    replace(more, moreOf(current), bodyOf(current));
  };
  details.addEventListener("toggle", open);
  return {
    element: h("li", {}, details),
    update(now) {
      const wanted = JSON.stringify([now.state, now.matches, now.because]);
      if (wanted === shown) return;
      shown = wanted;
      current = now;
      replace(mark, markOf(now));
      open();
    },
  };
}

/** The body and properties of a message. */
export function bodyOf(message) {
  if (message.truncated) {
    return h("p", { class: "soft" }, `The message has ${count(message.sizeBytes)} bytes and is not shown.`);
  }
  const shown = JSON.stringify(message.body, null, 2) ?? "";
  const properties = Object.entries(message.applicationProperties);
  return [
    h("pre", { class: "json", tabindex: "0", "aria-label": `Body of message ${message.sequenceNumber}` }, shown),
    properties.length > 0 &&
      h("details", {},
        h("summary", {}, `${properties.length} application properties`),
        h("pre", { class: "json", tabindex: "0", "aria-label": "Application properties" },
          JSON.stringify(message.applicationProperties, null, 2))),
  ];
}

/** The truth of every part of a filter, as nested lists. */
export function reasonTree(reason) {
  return h("div", { class: "reason" }, reasonPart(reason));
}

const JOINTS = { and: "all of", or: "any of", not: "not" };

function reasonPart(reason) {
  const kind = reason.truth === true ? "good" : reason.truth === null ? "warn" : "";
  const mark = h("span", { class: `badge ${kind}` }, truth(reason.truth));
  if (reason.kind === "predicate") {
    return h("div", { class: "part" }, mark, h("span", { class: "expression" }, reason.expression),
      h("span", { class: "soft small-text" }, saw(reason)));
  }
  return [
    h("div", { class: "part" }, mark, h("span", { class: "verdict" }, JOINTS[reason.kind])),
    h("ul", {}, reason.parts.map((part) => h("li", {}, reasonPart(part)))),
  ];
}

/** What a predicate saw, without saying again what it is and that it is true. */
function saw(reason) {
  const head = `${reason.expression} is ${truth(reason.truth)}, `;
  return reason.because.startsWith(head) ? reason.because.slice(head.length) : "";
}

/** Say how many of something there are, only when it changes. */
export function tell(element, number, one, many) {
  text(element, `${count(number)} ${number === 1 ? one : many}`);
}
