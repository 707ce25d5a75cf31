// JSON Schema, as far as the service's document uses it, in tables and examples.

import { h } from "./dom.js";

const DEEPEST = 6;

/** Follow references within the document. */
export function resolve(schema, document_) {
  let found = schema ?? {};
  for (let step = 0; found.$ref && step < 20; step += 1) {
    const parts = found.$ref.split("/").slice(1);
    found = parts.reduce((at, part) => at?.[part], document_) ?? {};
  }
  return found;
}

function nameOf(schema) {
  return schema.$ref ? schema.$ref.split("/").at(-1) : null;
}

/** A type in words: `number, 5 to 43200`. */
export function typeOf(schema, document_) {
  const variants = schema.anyOf ?? schema.oneOf;
  if (variants) return [...new Set(variants.map((each) => typeOf(each, document_)))].join(" or ");
  const found = resolve(schema, document_);
  if (found.anyOf || found.oneOf) return typeOf(found, document_);
  if (found.enum) return found.enum.join(" | ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.type === "array") return `array of ${typeOf(found.items ?? {}, document_)}`;
  const format = found.format ? ` (${found.format})` : "";
  return `${nameOf(schema) ?? found.type ?? "any"}${format}${bounds(found)}`;
}

function bounds({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return `, ${minimum} to ${maximum}`;
  if (minimum !== undefined) return `, at least ${minimum}`;
  return maximum === undefined ? "" : `, at most ${maximum}`;
}

/** The fields of an object schema as a table; null for what has none. */
export function fieldTable(schema, document_, caption) {
  const found = objectOf(schema, document_);
  if (!found?.properties) return null;
  const required = new Set(found.required ?? []);
  const rows = Object.entries(found.properties).map(([name, field]) => h(
    "tr", {},
    h("td", {}, name),
    h("td", {}, typeOf(field, document_), required.has(name) ? "" : ", optional"),
    h("td", {}, note(field, document_)),
  ));
  return table(["Field", "Type", "Meaning"], rows, caption);
}

/** A table of parameters. */
export function parameterTable(parameters, document_) {
  const rows = parameters.map((each) => h(
    "tr", {},
    h("td", {}, each.name),
    h("td", {}, `${typeOf(each.schema ?? {}, document_)}, in the ${each.in}`, each.required ? "" : ", optional"),
    h("td", {}, [each.description, defaultOf(each.schema)].filter(Boolean).join(" ")),
  ));
  return table(["Parameter", "Type", "Meaning"], rows, "Parameters");
}

function table(columns, rows, caption) {
  return h(
    "div", { class: "flow", tabindex: "0", role: "group", "aria-label": caption },
    h("table", { class: "fields" },
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows)),
  );
}

function note(field, document_) {
  const found = resolve(field, document_);
  return [field.description ?? found.description, defaultOf(field)].filter(Boolean).join(" ");
}

function defaultOf(field) {
  const value = field?.default;
  return value === undefined || value === null ? "" : `Default: ${JSON.stringify(value)}.`;
}

/** The object behind a schema: itself, an array's items, or the first variant that is one. */
function objectOf(schema, document_) {
  const found = resolve(schema, document_);
  if (found.properties) return found;
  if (found.type === "array") return objectOf(found.items ?? {}, document_);
  for (const variant of found.anyOf ?? found.oneOf ?? []) {
    const inner = objectOf(variant, document_);
    if (inner) return inner;
  }
  return null;
}

/** A value that fits a schema, for showing what a body looks like. */
export function example(schema, document_, depth = 0) {
  const found = resolve(schema, document_);
  if (found.examples?.length) return found.examples[0];
  if (found.example !== undefined) return found.example;
  if (found.default !== undefined && found.default !== null) return found.default;
  if (found.const !== undefined) return found.const;
  if (found.enum) return found.enum[0];
  const variants = found.anyOf ?? found.oneOf;
  if (variants) return example(variants[0], document_, depth);
  if (depth > DEEPEST) return null;
  switch (found.type) {
    case "object": return exampleObject(found, document_, depth);
    case "array": return found.items && depth < DEEPEST ? [example(found.items, document_, depth + 1)] : [];
    case "integer": return found.minimum ?? 1;
    case "number": return found.minimum ?? 1.5;
    case "boolean": return true;
    case "string": return exampleText(found);
    default: return null;
  }
}

function exampleObject(schema, document_, depth) {
  const required = new Set(schema.required ?? []);
  const entries = Object.entries(schema.properties ?? {}).filter(
    // What a body may leave out is left out of its example, unless all of it is optional.
    ([name]) => required.size === 0 || required.has(name),
  );
  return Object.fromEntries(entries.map(([name, field]) => [name, example(field, document_, depth + 1)]));
}

function exampleText(schema) {
  const known = { "date-time": "2026-11-21T08:30:00Z", qel: "objectId = 'pump-7'", uri: "https://hooks.example.com/in" };
  return known[schema.format] ?? "text";
}
