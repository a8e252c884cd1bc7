"use strict";
const id = (name) => document.getElementById(name);

/** Make an element; text is never parsed as HTML. */
function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** A lane's name in links: letters, digits and what no mail program takes for an end. */
const plain = (name) => name.replace(/[^A-Za-z0-9_.-]+/g, "-");

/** The class that gives a lane its colour: users have one each, kernel and QEMU their own. */
const laneClass = (name, lane) => (name === "kernel" ? "lk" : name === "qemu" ? "lq" : `l${lane % 8}`);

const isBad = (word) => word === "contradicted" || word === "error";
const isRefused = (result) => /^(E[A-Z0-9]+( |$)|never returned|not answered)/.test(result);
const isLookUp = (what) => /^(readlink|listdir|access|read_file)\(/.test(what);

/** Names that the events carry by position. */
const LANE = 0, NUMBER = 1, AT = 2, TOOK = 3, WHAT = 4, RESULT = 5, FIELDS = 6, CHANGES = 7;

/** Load the data of scenarios. From a file nothing can be fetched; a script calls show(). */
const loaded = new Map();
function show(slug, packed) {
  const bytes = Uint8Array.from(atob(packed), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  loaded.set(slug, new Response(stream).json());
}
function load(slugs, then, fail) {
  const missing = slugs.find((slug) => !loaded.has(slug));
  if (missing === undefined) return Promise.all(slugs.map((slug) => loaded.get(slug))).then((found) => then(...found));
  if (!/^[0-9a-f]+$/.test(missing)) return fail();
  const script = make("script", { src: `data/${missing}.js`, onerror: fail });
  script.onload = () => (loaded.has(missing) ? load(slugs, then, fail) : fail());
  document.body.append(script);
}

/** Copy a text, and say so on the button that was pressed. */
async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = button.dataset.text ??= button.textContent;
  button.textContent = "Copied";
  button.addEventListener("blur", () => { button.textContent = before; }, { once: true });
}

/** Whether a key was meant for a field or a button, not for the page. */
function typing(event) {
  return event.ctrlKey || event.altKey || event.metaKey
    || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName);
}
