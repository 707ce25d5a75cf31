// The frame of the console: signing in and out, the sections, which view is shown.

import { Refused, keptToken, session, signIn, signOut } from "./api.js";
import { announce, h, replace, svg, text, themeButton } from "./dom.js";
import { showPlayground } from "./playground.js";
import { showSignIn } from "./signin.js";
import { showStream, showStreams } from "./streams.js";
import { showSubscription } from "./subscription.js";
import { showSubscriptions } from "./subscriptions.js";
import { showTopics } from "./topics.js";

const frame = document.getElementById("frame");

const ICONS = {
  topics: ["M4 18V11", "M10 18V6", "M16 18v-9", "M22 18v-4"],
  subscriptions: ["M4 6h16", "M7 12h10", "M10 18h4"],
  playground: ["M9 7l-5 5 5 5", "M15 7l5 5-5 5"],
  webhooks: ["M5 12h13", "M13 6l6 6-6 6", "M5 6v12"],
};

const SECTIONS = [
  { name: "topics", label: "Topics" },
  { name: "subscriptions", label: "Subscriptions" },
  { name: "playground", label: "Playground" },
  { name: "webhooks", label: "Webhooks" },
];

// The first pattern that fits the part of the address behind # decides.
const VIEWS = [
  { pattern: /^\/?$/, section: "topics", show: showTopics },
  { pattern: /^\/topics$/, section: "topics", show: showTopics },
  { pattern: /^\/subscriptions$/, section: "subscriptions", show: showSubscriptions },
  { pattern: /^\/subscriptions\/([^/]+)\/([^/]+)$/, section: "subscriptions", show: showSubscription },
  { pattern: /^\/playground(?:\/([^/]+))?$/, section: "playground", show: showPlayground },
  { pattern: /^\/webhooks$/, section: "webhooks", show: showStreams },
  { pattern: /^\/webhooks\/([^/]+)\/([^/]+)$/, section: "webhooks", show: showStream },
];

let main = null;
let links = new Map();
let leaving = new AbortController();

/** Draw what stands around the views. */
function drawFrame() {
  const reach = h("span", { class: "badge good" }, "live");
  session.onReachable = (isThere) => {
    text(reach, isThere ? "live" : "no answer");
    reach.className = isThere ? "badge good" : "badge bad";
  };
  const leave = h("button", { type: "button", class: "quiet" }, "Sign out");
  leave.addEventListener("click", () => {
    signOut();
    askForToken("You are signed out.");
  });
  links = new Map(SECTIONS.map(({ name, label }) => [name, sectionLink(name, label)]));
  main = h("main", { id: "main", tabindex: "-1" });
  replace(
    frame,
    h(
      "header", { class: "bar" },
      h("a", { class: "brand", href: "#/topics" }, h("img", { src: "console/mark.svg", alt: "" }), "hotpath"),
      h("span", { class: "badge calm who", title: whoTitle() }, session.who.tenant),
      reach, h("span", { class: "fill" }), themeButton(), leave,
    ),
    h(
      "div", { class: "layout" },
      h(
        "nav", { class: "sections", "aria-label": "Sections" },
        h("ul", {}, [...links.values()].map((link) => h("li", {}, link))),
      ),
      main,
    ),
  );
}

function whoTitle() {
  const { tenant, subject, expiresAt } = session.who;
  const end = expiresAt ? `, until ${expiresAt}` : "";
  return `tenant ${tenant}, signed in as ${subject}${end}`;
}

function sectionLink(name, label) {
  const icon = svg(
    "svg", { viewBox: "0 0 24 24", "aria-hidden": "true" },
    ICONS[name].map((line) => svg("path", { d: line })),
  );
  return h("a", { href: `#/${name}` }, icon, h("span", {}, label));
}

/** Show the view that the address names; `first` leaves the focus where it is. */
function showView({ first = false } = {}) {
  if (!session.who) return;
  const wanted = location.hash.slice(1);
  const view = VIEWS.find(({ pattern }) => pattern.test(wanted)) ?? VIEWS[0];
  const given = (view.pattern.exec(wanted) ?? []).slice(1).map((part) => part && decode(part));
  leaving.abort();
  leaving = new AbortController();
  for (const [name, link] of links) {
    if (name === view.section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  replace(main);
  window.scrollTo(0, 0);
  view.show(main, { signal: leaving.signal, given });
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? "Console"} · hotpath`;
  if (heading && !first) {
    heading.setAttribute("tabindex", "-1");
    heading.focus({ preventScroll: true });
  }
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function askForToken(message = "") {
  leaving.abort();
  document.title = "Sign in · hotpath";
  showSignIn(frame, { message, onToken: enter });
}

/** Go in with a token. Throws what `signIn` throws. */
async function enter(token, { keep, first = false }) {
  await signIn(token, { keep });
  drawFrame();
  showView({ first });
  announce(`Signed in to ${session.who.tenant}`);
}

session.onEnded = (refusal) => {
  signOut();
  askForToken(`Your token is not valid any more: ${refusal.message}`);
};

window.addEventListener("hashchange", () => showView());

// The part behind # names the view, so the link past the sections must not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});

async function begin() {
  const kept = keptToken();
  if (!kept) return askForToken();
  try {
    await enter(kept, { keep: true, first: true });
  } catch (error) {
    if (error instanceof Refused) signOut();
    askForToken(error.message);
  }
}

begin();
