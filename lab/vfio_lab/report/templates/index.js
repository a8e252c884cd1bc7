"use strict";

function filter() {
  const words = id("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const only = id("only").value;
  const active = words.length || only;
  const shown = { claim: 0, scenario: 0 };
  for (const row of document.querySelectorAll("tr.claim, tr.scenario")) {
    const file = row.closest("table").caption?.textContent ?? "";
    const text = row.dataset.text ??= `${file} ${row.textContent}`.toLowerCase();
    const fits = words.every((word) => text.includes(word))
      && (!only || row.dataset.words.split(" ").includes(only));
    row.hidden = !fits;
    shown[row.className] += fits;
  }
  const row = "tbody tr:not([hidden])";
  for (const part of document.querySelectorAll(".thread, table.file")) part.hidden = !part.querySelector(row);
  for (const fold of document.querySelectorAll("details.fold"))
    if (active && !fold.open && fold.querySelector(row)) fold.open = fold.dataset.opened = true;
    else if (fold.dataset.opened && !active) fold.open = false;
  id("found").textContent = active ? `${shown.claim} claims, ${shown.scenario} scenarios` : "";
}

/** Open what a link leads into. */
function reveal() {
  const target = location.hash && id(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  const inside = target.tagName === "SECTION" && target.firstElementChild;
  if (inside && inside.tagName === "DETAILS") inside.open = true;
  target.scrollIntoView();
}

id("search").addEventListener("input", filter);
id("only").addEventListener("change", filter);
addEventListener("hashchange", reveal);
reveal();
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !typing(event)) {
    event.preventDefault();
    id("search").focus();
  } else if (event.key === "Escape") {
    id("search").value = "";
    filter();
  }
});
