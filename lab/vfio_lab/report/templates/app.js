"use strict";
const id = (name) => document.getElementById(name);

function filter() {
  const words = id("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const only = id("only").value;
  let shown = 0;
  for (const row of document.querySelectorAll("tbody tr")) {
    const text = row.dataset.text ??= row.textContent.toLowerCase();
    const fits = words.every((word) => text.includes(word))
      && (!only || row.dataset.words.split(" ").includes(only));
    row.hidden = !fits;
    shown += fits;
  }
  for (const thread of document.querySelectorAll("details"))
    thread.hidden = !thread.querySelector("tbody tr:not([hidden])");
  id("found").textContent = words.length || only ? `${shown} claims` : "";
}

function cell(row, text) {
  row.insertCell().textContent = text;
}

function show(one) {
  document.title = `${one.name} - vfio-lab`;
  id("title").textContent = one.title;
  id("head").className = one.word === "contradicted" || one.word === "error" ? "bad" : "good";
  id("facts").textContent = `${one.word} on ${one.kernel}, topology ${one.topology || "none"}, ${one.seconds} s: ${one.name}`;
  id("reason").textContent = one.reason;
  id("reason").hidden = !one.reason;
  id("stacks").textContent = one.stacks;
  id("sleeping").hidden = !one.stacks;
  for (const [name, sentence] of one.claims) {
    const item = id("claims").appendChild(document.createElement("li"));
    const link = item.appendChild(document.createElement("a"));
    link.href = `index.html#${name}`;
    link.textContent = name;
    item.append(` ${sentence}`);
  }
  id("paste").textContent = one.paste;
  if (one.picture) {
    id("picture").src = one.picture;
    id("picture").alt = one.alt;
  }
  const body = id("timeline").tBodies[0];
  for (const [at, who, what, result] of one.timeline) {
    const row = body.insertRow();
    row.classList.toggle("kernel", who === "kernel");
    row.classList.toggle("refused", /^(E[A-Z0-9]+( |$)|never returned)/.test(result));
    row.dataset.who = who;
    for (const text of [at.toFixed(3), who, what, result]) cell(row, text);
  }
  id("scenario").dataset.ready = "yes";
}

function quiet() {
  for (const row of id("timeline").tBodies[0].rows)
    row.hidden = id("quiet").checked && (row.dataset.who === "root" || /^(readlink|listdir|access)\(/.test(row.cells[2].textContent));
}

if (id("search")) {
  id("search").addEventListener("input", filter);
  id("only").addEventListener("change", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== id("search")) {
      event.preventDefault();
      id("search").focus();
    } else if (event.key === "Escape") {
      id("search").value = "";
      filter();
    }
  });
} else {
  // From a file nothing can be fetched; a script can be loaded, and calls show().
  const script = document.createElement("script");
  script.src = `data/${encodeURIComponent(location.hash.slice(1))}.js`;
  script.onerror = () => { id("title").textContent = "there is no such scenario in this report"; };
  document.body.append(script);
  id("quiet").addEventListener("change", quiet);
  window.addEventListener("hashchange", () => location.reload());
}
