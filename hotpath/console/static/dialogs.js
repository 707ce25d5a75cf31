// Creating a subscription, and showing what opens its feed.

import { call, path } from "./api.js";
import { announce, copyable, h, openDialog, replace, text } from "./dom.js";
import { TOPIC_NAMES } from "./format.js";

const FAULTS = ["filter", "subscriptionTTL", "sasTokenTTL", "startFrom"];

/** A dialog that creates a subscription; `onDone` hears of it. */
export function createSubscription({ topic = "variables", filter = "", onDone = () => {} } = {}) {
  const fields = {
    filter: h("textarea", {
      rows: "3", class: "mono", value: filter, spellcheck: "false", autocapitalize: "off",
      required: true, placeholder: "variable = 'temperature' AND value > 80",
    }),
    subscriptionTTL: h("input", { inputmode: "decimal", value: "60", required: true }),
    sasTokenTTL: h("input", { inputmode: "decimal", value: "15", required: true }),
    startFrom: h("select", {},
      h("option", { value: "now" }, "Messages from now on"),
      h("option", { value: "earliest" }, "Everything that the log still holds")),
  };
  const type = h("select", { id: "new-type" },
    Object.entries(TOPIC_NAMES).map(([value, name]) => h("option", { value }, name)));
  type.value = topic;
  const faults = Object.fromEntries(FAULTS.map((name) => [name, h("p", { class: "fault", id: `new-${name}-fault` })]));
  const general = h("p", { class: "fault" });
  const submit = h("button", { type: "submit", class: "primary" }, "Create");
  const cancel = h("button", { type: "button" }, "Cancel");
  const field = (name, label, hint = "") => {
    fields[name].id = `new-${name}`;
    fields[name].setAttribute("aria-describedby", `new-${name}-hint new-${name}-fault`);
    return h("div", { class: "field" }, h("label", { for: `new-${name}` }, label), fields[name],
      h("p", { class: "hint", id: `new-${name}-hint` }, hint), faults[name]);
  };
  const form = h(
    "form", { novalidate: true },
    h("div", { class: "field" }, h("label", { for: "new-type" }, "Topic"), type),
    field("filter", "Filter (QEL)", "“true” lets everything through."),
    h(
      "div", { class: "pair" },
      field("subscriptionTTL", "Time to live, minutes", "Deleted after so long without a match or a client."),
      field("sasTokenTTL", "Token’s life, minutes", "At least 5, and below the time to live."),
    ),
    field("startFrom", "Start from"),
    general,
    h("div", { class: "actions" }, submit, cancel),
  );
  const dialog = openDialog("New subscription", form);
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const made = await call("POST", path`subscriptions/${type.value}`, { body: readForm(fields) });
      dialog.close();
      showAccess("Subscription created", made);
      onDone(made);
    } catch (error) {
      submit.disabled = false;
      showFaults(error, { fields, faults, general });
    }
  });
  fields.filter.focus();
}

function readForm(fields) {
  const number = (field) => {
    const given = field.value.trim().replace(",", ".");
    return given === "" || Number.isNaN(Number(given)) ? field.value : Number(given);
  };
  return {
    filter: fields.filter.value,
    subscriptionTTL: number(fields.subscriptionTTL),
    sasTokenTTL: number(fields.sasTokenTTL),
    startFrom: fields.startFrom.value,
  };
}

/** Put each fault beside its field; the first field that has one gets the focus. */
function showFaults(error, { fields, faults, general }) {
  const found = new Map();
  for (const each of error.errors ?? []) {
    const name = String(each.meta?.pointer ?? "").slice(1);
    if (name in faults) found.set(name, [...(found.get(name) ?? []), each.detail]);
  }
  for (const name of FAULTS) {
    text(faults[name], (found.get(name) ?? []).join("\n"));
    fields[name].toggleAttribute("aria-invalid", found.has(name));
    if (found.has(name)) fields[name].setAttribute("aria-invalid", "true");
  }
  text(general, found.size ? "" : error.message);
  announce(error.message, { urgent: true });
  fields[FAULTS.find((name) => found.has(name)) ?? "filter"].focus();
}

/** What opens a feed, to be copied: it is shown this once. */
export function showAccess(title, made) {
  const done = h("button", { type: "button", class: "primary" }, "Done");
  const dialog = openDialog(
    title,
    h("p", { class: "soft" }, "Attach any AMQP 1.0 client with these. The token is shown this once; a new one is to be had at any time."),
    copyable("Connection URL", made.connectionURL),
    copyable("SAS token", made.sasToken, { long: true }),
    copyable("Subscription", made.subscriptionId),
    h("div", { class: "actions" }, done),
  );
  done.addEventListener("click", () => dialog.close());
  dialog.querySelector("h2").focus();
}

/** Replace what a place shows by a fault, with the request's id where the log has more. */
export function showFault(place, error) {
  const id = error.status >= 500 && error.requestId ? ` (request ${error.requestId})` : "";
  replace(place, h("p", { class: "fault" }, error.message + id));
}
