// Building the page: elements, what screen readers are told, dialogs, the clipboard, the theme.

const THEMES = { system: "System", light: "Light", dark: "Dark" };
const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes that are null or false are left out; `on` holds event listeners. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value") {
      element.value = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Put other children into an element. */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/** Change a text only if it is another: an unchanged node is not read out again. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/**
 * Make a list show `items`: elements stay while their key does, so that focus and open details
 * survive an update. `make` gives an element with an `update(item)` of its own.
 */
export function reconcile(parent, items, key, make) {
  const known = parent.keyed ?? new Map();
  const next = new Map();
  let before = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const entry = known.get(name) ?? make(item);
    next.set(name, entry);
    entry.update(item);
    if (entry.element === before) {
      before = before.nextElementSibling;
    } else {
      parent.insertBefore(entry.element, before);
    }
  }
  for (const [name, entry] of known) {
    if (!next.has(name)) entry.element.remove();
  }
  parent.keyed = next;
}

/** Tell a screen reader, without moving anybody's focus. */
export function announce(message, { urgent = false } = {}) {
  const region = document.getElementById(urgent ? "urgent" : "polite");
  if (region) text(region, message);
}

/** A modal dialog with a heading; it goes away when it is closed. */
export function openDialog(title, ...children) {
  const heading = h("h2", { id: "dialog-title", tabindex: "-1" }, title);
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, heading, children);
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be undone; a promise of the answer. */
export function confirmDialog(title, explanation, verb) {
  return new Promise((resolve) => {
    let agreed = false;
    const yes = h("button", { class: "danger", type: "button" }, verb);
    const no = h("button", { type: "button", autofocus: true }, "Keep it");
    const dialog = openDialog(title, h("p", {}, explanation), h("div", { class: "actions" }, no, yes));
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => {
      agreed = true;
      dialog.close();
    });
    dialog.addEventListener("close", () => resolve(agreed));
  });
}

/** A text with a button that copies it. */
export function copyable(label, value, { long = false } = {}) {
  const field = h(long ? "textarea" : "input", {
    readonly: true, value, rows: long ? "3" : null, class: "mono", "aria-label": label,
    spellcheck: "false",
  });
  const button = h("button", { type: "button", class: "small" }, "Copy");
  button.setAttribute("aria-label", `Copy ${label}`);
  button.addEventListener("click", async () => {
    const done = await copy(field);
    announce(done ? `${label} copied` : `${label} is selected; copy it with your keyboard`);
    text(button, done ? "Copied" : "Selected");
    setTimeout(() => text(button, "Copy"), 2000);
  });
  return h("div", { class: "copyable" }, h("span", { class: "label" }, label), field, button);
}

async function copy(field) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    // Outside of a secure context there is no clipboard to write to; the old way may work.
    return document.execCommand("copy");
  }
}

/** A button that goes round: the system's theme, light, dark. */
export function themeButton() {
  const order = Object.keys(THEMES);
  const root = document.documentElement;
  const name = h("span");
  const button = h("button", { type: "button", class: "quiet" },
    h("span", { class: "wide-only" }, "Theme:"), name);
  const show = () => {
    const theme = root.dataset.theme ?? "system";
    text(name, THEMES[theme]);
    button.setAttribute("aria-label", `Theme: ${THEMES[theme]}`);
  };
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(root.dataset.theme ?? "system") + 1) % order.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("hotpath.theme", next);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    show();
  });
  show();
  return button;
}

/** What an empty place says: that it is empty, and what to do about it. */
export function emptyState(title, ...children) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), children);
}
