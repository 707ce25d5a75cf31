// The REST API's pages, drawn from the document that the service makes of its own models.

import { announce, h, replace, text, themeButton } from "./dom.js";
import { example, fieldTable, parameterTable, resolve, typeOf } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const GROUPS = {
  subscriptions: "Subscriptions", topics: "Topics", messages: "Publishing", publishers: "Publishing",
  qel: "Filters", streaming: "Webhook streams", admin: "Administration", me: "Who calls",
};
const LAST = "Operations";

const frame = document.getElementById("frame");

begin();

async function begin() {
  try {
    const response = await fetch(new URL("openapi.json", document.baseURI), { credentials: "omit" });
    if (!response.ok) throw new Error(`the service answered ${response.status}`);
    draw(await response.json());
    goTo(location.hash);
  } catch (error) {
    replace(frame, h("main", { id: "main", class: "note" }, h("h1", {}, "REST API"),
      h("p", { class: "fault" }, `The document openapi.json cannot be shown: ${error.message}`)));
  }
}

function goTo(hash) {
  if (hash.length > 1) document.getElementById(decodeURIComponent(hash.slice(1)))?.scrollIntoView();
}

function draw(document_) {
  const groups = groupOperations(document_);
  const find = h("input", { id: "find", type: "search", autocomplete: "off", spellcheck: "false" });
  const entries = [];
  const contents = h(
    "nav", { class: "contents", "aria-label": "Operations" },
    h("div", { class: "find field" }, h("label", { for: "find" }, "Find a call"), find),
    groups.map(([name, operations]) => {
      const items = operations.map((each) => contentsItem(each));
      const block = h("div", {}, h("h2", {}, name), h("ul", {}, items));
      entries.push({ block, items, operations });
      return block;
    }),
  );
  find.addEventListener("input", () => narrow(entries, find.value));
  replace(
    frame,
    h("header", { class: "bar" },
      h("a", { class: "brand", href: "console" }, h("img", { src: "console/mark.svg", alt: "" }), "hotpath"),
      h("span", { class: "badge calm" }, `REST API ${document_.info.version}`),
      h("span", { class: "fill" }), themeButton()),
    h("div", { class: "layout" }, contents,
      h("main", { id: "main", tabindex: "-1" }, introduction(document_),
        groups.map(([name, operations]) => h("section", { class: "group", "aria-label": name },
          h("h2", {}, name), operations.map((each) => drawOperation(each, document_)))))),
  );
}

function introduction(document_) {
  return h(
    "div", { class: "part" },
    h("h1", {}, `${document_.info.title} REST API`),
    h("p", { class: "lead" }, document_.info.summary ?? ""),
    h("p", { class: "lead" }, "Calls need ", h("code", {}, "Authorization: Bearer <JWT>"),
      " unless they say otherwise. Errors come as ", h("code", {}, "{\"errors\": [{code, title, status, detail, id, meta}]}"),
      ". This page is drawn from ", h("a", { href: "openapi.json" }, "openapi.json"), ", which is made from the models that validate."),
  );
}

/** Operations by what their path begins with, in the order of the document. */
function groupOperations(document_) {
  const groups = new Map();
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const method of METHODS) {
      const operation = methods[method];
      if (!operation) continue;
      const name = GROUPS[path.split("/")[1]] ?? LAST;
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push({ path, method, operation, id: operation.operationId ?? `${method}-${path}` });
    }
  }
  return [...groups].sort(([one], [other]) => (one === LAST) - (other === LAST));
}

function contentsItem({ id, operation, path }) {
  return h("li", {}, h("a", { href: `#${id}` }, operation.summary ?? path));
}

function narrow(entries, wanted) {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { block, items, operations } of entries) {
    let left = 0;
    items.forEach((item, index) => {
      const { path, method, operation } = operations[index];
      const all = `${method} ${path} ${operation.summary ?? ""}`.toLowerCase();
      item.hidden = !words.every((word) => all.includes(word));
      left += item.hidden ? 0 : 1;
    });
    block.hidden = left === 0;
    found += left;
  }
  announce(`${found} calls`);
}

function drawOperation({ path, method, operation, id }, document_) {
  const body = operation.requestBody;
  return h(
    "article", { class: "operation card", id, "aria-labelledby": `${id}-title` },
    h("header", {},
      h("h3", { id: `${id}-title` }, operation.summary ?? id),
      h("p", { class: "path" }, h("span", { class: `method ${method}` }, method.toUpperCase()), h("span", {}, path)),
      marks(operation)),
    operation.description && h("p", {}, operation.description),
    operation.parameters?.length > 0 &&
      h("div", { class: "part" }, h("h4", {}, "Parameters"), parameterTable(operation.parameters, document_)),
    body && h("div", { class: "part" },
      h("h4", {}, body.required === false ? "Body, optional" : "Body"), contentTable(body.content, document_)),
    h("div", { class: "part" }, h("h4", {}, "Answers"), answers(operation, document_)),
    curl({ path, method, operation }, document_),
  );
}

function marks(operation) {
  const scope = operation["x-required-scope"];
  return h("div", { class: "marks" },
    operation.security ? h("span", { class: "badge calm" }, scope ?? "needs a token") : h("span", { class: "badge" }, "no token"),
    operation["x-hotpath-addition"] && h("span", { class: "badge" }, "addition to the public API"));
}

function contentTable(content, document_) {
  return Object.entries(content ?? {}).map(([type, { schema }]) => h(
    "div", { class: "part" },
    h("p", { class: "soft small-text" }, h("code", {}, type), schema && Object.keys(schema).length ? `: ${typeOf(schema, document_)}` : ""),
    schema && fieldTable(schema, document_, `Fields of ${type}`),
  ));
}

function answers(operation, document_) {
  const entries = Object.entries(operation.responses);
  const good = entries.filter(([status]) => status < "400");
  const bad = entries.filter(([status]) => status >= "400");
  return [
    good.map(([status, answer]) => h("div", { class: "part" },
      h("p", {}, h("span", { class: "badge good" }, status), " ", answer.content ? "" : "without a body"),
      contentTable(answer.content, document_))),
    h("details", {}, h("summary", {}, `Errors: ${bad.map(([status]) => status).join(", ")}`),
      h("ul", {}, bad.map(([status, answer]) => h("li", {}, h("b", {}, status), " ", answer.description)))),
  ];
}

/** The call as a command, with a body that fits. */
function curl({ path, method, operation }, document_) {
  const command = curlText({ path, method, operation }, document_);
  const button = h("button", { type: "button", class: "small" }, "Copy");
  button.setAttribute("aria-label", `Copy the command for ${operation.summary}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      text(button, "Copied");
      announce("Command copied");
    } catch {
      announce("The browser does not let this page copy; select the command instead");
    }
    setTimeout(() => text(button, "Copy"), 2000);
  });
  return h("div", { class: "curl" },
    h("div", { class: "top" }, h("h4", {}, "As a command"), h("span", { class: "fill" }), button),
    h("pre", { class: "example", tabindex: "0", "aria-label": "Command" }, command));
}

function curlText({ path, method, operation }, document_) {
  const parameters = operation.parameters ?? [];
  const filled = parameters.reduce((at, each) => {
    const schema = resolve(each.schema ?? {}, document_);
    const value = schema.enum ? schema.enum[Math.min(1, schema.enum.length - 1)] : `$${each.name}`;
    return at.replace(`{${each.name}}`, value);
  }, path);
  const required = parameters.filter((each) => each.in === "query" && each.required);
  const query = required.map((each) => `${each.name}=${example(each.schema ?? {}, document_)}`).join("&");
  const url = new URL(`.${filled.replaceAll("$", "%24")}`, document.baseURI).href.replaceAll("%24", "$");
  const lines = [`curl -s${method === "get" ? "" : ` -X ${method.toUpperCase()}`} "${url}${query && `?${query}`}"`];
  if (operation.security) lines.push('-H "Authorization: Bearer $TOKEN"');
  const content = operation.requestBody?.content ?? {};
  const type = Object.keys(content)[0];
  if (type) {
    const body = JSON.stringify(example(content[type].schema, document_)).replaceAll("'", "'\\''");
    lines.push(`-H "Content-Type: ${type}"`, `-d '${body}'`);
  }
  return lines.join(" \\\n  ");
}
