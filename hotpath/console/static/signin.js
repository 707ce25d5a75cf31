// Signing in: a token, and where to get one.

import { announce, h, replace, text, themeButton } from "./dom.js";

const COMMAND = 'hotpath token --tenant demo --scope "hotpath.subscribe hotpath.publish"';

/** Ask for a token; `onToken(token, {keep})` tries it and throws when it is no good. */
export function showSignIn(frame, { message, onToken }) {
  const field = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    class: "mono", "aria-describedby": "token-hint token-fault",
  });
  const keep = h("input", { type: "checkbox", id: "keep", checked: true });
  const fault = h("p", { class: "fault", id: "token-fault" }, message);
  const go = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h(
    "form", { novalidate: true },
    h(
      "div", { class: "field" },
      h("label", { for: "token" }, "Access token (JWT)"),
      field,
      h("p", { class: "hint", id: "token-hint" },
        "With the scope hotpath.subscribe. It is sent to this service only, and never part of an address."),
    ),
    h("label", { class: "check", for: "keep" }, keep, "Stay signed in until this tab is closed"),
    fault,
    h("div", { class: "actions" }, go),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = field.value.trim().replace(/^bearer\s+/i, "");
    go.disabled = true;
    const problem = await attempt(token, keep.checked, onToken);
    go.disabled = false;
    if (!problem) return;
    text(fault, problem);
    field.setAttribute("aria-invalid", "true");
    announce(problem, { urgent: true });
    field.focus();
  });
  replace(
    frame,
    h("header", { class: "bar" }, brand(), h("span", { class: "fill" }), themeButton()),
    h(
      "main", { id: "main", class: "signin", tabindex: "-1" },
      h(
        "section", { class: "card", "aria-labelledby": "signin-title" },
        h("h1", { id: "signin-title" }, "Sign in"),
        form,
      ),
      h(
        "section", { class: "card", "aria-labelledby": "where-title" },
        h("h2", { id: "where-title" }, "No token yet?"),
        h("p", {}, "Your identity provider issues them. On a service that you try out, this prints one:"),
        h("pre", {}, COMMAND),
        h("p", { class: "soft small-text" }, "How the REST API works is told at ", h("a", { href: "docs" }, "docs"), "."),
      ),
    ),
  );
  field.focus();
}

function brand() {
  return h("span", { class: "brand" }, h("img", { src: "console/mark.svg", alt: "" }), "hotpath");
}

async function attempt(token, keep, onToken) {
  if (!token) return "Paste a token first.";
  // A header takes no other characters, and no token has them.
  if (!/^[\x21-\x7e]+$/.test(token)) return "This is no token: it has blanks or line breaks in it.";
  try {
    await onToken(token, { keep });
    return "";
  } catch (error) {
    return error.status === 403
      ? "This token lacks the scope hotpath.subscribe, which the console needs."
      : error.message;
  }
}
