"use strict";

/** What differs from run to run and says nothing: addresses, UUIDs, the time a call took. */
const steady = (text) => String(text ?? "")
  .replace(/0x0{4,}[0-9a-f]+\b/g, "ADDRESS")
  .replace(/0x[57][0-9a-f]{11}\b/g, "ADDRESS")
  .replace(/\b1[34]\d{13}\b/g, "ADDRESS")
  .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "UUID");
const steadyWhat = (event) => steady(event[WHAT]);
const steadyResult = (event) => (/^(fork|become)\(/.test(event[WHAT]) ? "" : steady(event[RESULT]));

/** The events of a scenario by the name of their lane. */
function byLane(scenario) {
  const lanes = new Map(scenario.lanes.map((name) => [name, []]));
  for (const event of scenario.events) if (event[LANE] >= 0) lanes.get(scenario.lanes[event[LANE]]).push(event);
  return lanes;
}

/** Pairs of the longest common subsequence; what has no partner is paired with null. */
function align(left, right) {
  const rows = left.length, columns = right.length;
  const longest = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  const keys = [left.map(steadyWhat), right.map(steadyWhat)];
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      longest[i][j] = keys[0][i] === keys[1][j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  const pairs = [];
  let i = 0, j = 0;
  while (i < rows || j < columns)
    if (i < rows && j < columns && keys[0][i] === keys[1][j]) pairs.push([left[i++], right[j++]]);
    else if (j >= columns || (i < rows && longest[i + 1][j] >= longest[i][j + 1])) pairs.push([left[i++], null]);
    else pairs.push([null, right[j++]]);
  return pairs;
}

/** All pairs in the order of the first run; what only the second has follows its neighbour. */
function pairs(first, second) {
  const theirs = byLane(second);
  const found = [];
  for (const [lane, events] of byLane(first)) {
    let at = 0;
    for (const [left, right] of align(events, theirs.get(lane) ?? [])) {
      at = left ? left[AT] : at;
      found.push({ lane, left, right, at });
    }
    theirs.delete(lane);
  }
  for (const [lane, events] of theirs) for (const right of events) found.push({ lane, left: null, right, at: right[AT] });
  return found.sort((one, other) => one.at - other.at);
}

/** The fields of two calls that differ. */
function fieldDifferences(left, right) {
  const there = new Map((right[FIELDS] || []).map(([name, given, answered]) => [name, answered ?? given]));
  const found = [];
  for (const [name, given, answered] of left[FIELDS] || []) {
    const value = answered ?? given, other = there.get(name);
    there.delete(name);
    if (steady(value) !== steady(other)) found.push([name, value, other ?? "–"]);
  }
  for (const [name, other] of there) found.push([name, "–", other]);
  return found;
}

function addPair(body, slugs, { lane, left, right }, lanes) {
  const differing = left && right ? fieldDifferences(left, right) : [];
  const same = left && right && steadyResult(left) === steadyResult(right) && !differing.length;
  const row = body.insertRow();
  row.className = same ? "equal" : left && right ? "differs" : "single";
  row.hidden = same;
  const name = `${plain(lane)}.${(left ?? right)[NUMBER]}`;
  row.append(make("td", {}, make("span", { className: `who ${laneClass(lane, lanes.indexOf(lane))}` }, lane)), make("td", {}, (left ?? right)[WHAT]));
  [left, right].forEach((event, side) => {
    const cell = make("td", { dataset: { run: id(side ? "second" : "first").textContent } });
    if (event) cell.append(make("a", { className: isRefused(event[RESULT]) ? "refused" : "plain", href: `scenario.html#${slugs[side]}/${plain(lane)}.${event[NUMBER]}` }, event[RESULT] || "happened"));
    else cell.append(make("span", { className: "on" }, "did not happen"));
    for (const field of differing) cell.append(make("div", { className: "field" }, `${field[0]} = ${field[1 + side]}`));
    row.append(cell);
  });
  return { row, same, name };
}

const slugs = location.hash.slice(1).split("/")[0].split("~");
addEventListener("hashchange", () => location.reload());
load(slugs.slice(0, 2), (first, second) => {
  document.title = `${first.name}: ${first.run} and ${second.run} - vfio-lab`;
  id("title").textContent = first.title;
  id("head").className = isBad(second.word) ? "bad" : "good";
  id("facts").append(first.name, ": ",
    ...[first, second].flatMap((one, side) => [side ? ", " : "", make("a", { href: `scenario.html#${slugs[side]}`, className: one.word }, `${one.run}: ${one.word}`)]));
  id("first").textContent = first.run;
  id("second").textContent = second.run;
  const lanes = [...new Set([...first.lanes, ...second.lanes])];
  const silent = [first, second].find(({ events }) => !events.length);
  if (silent) {
    id("found").textContent = `No calls were recorded on ${silent.run}: there is nothing to compare.`;
    id("calls").hidden = id("all").hidden = true;
    id("compared").dataset.ready = "yes";
    return;
  }
  const added = pairs(first, second).map((pair) => addPair(id("calls").tBodies[0], slugs, pair, lanes));
  const equal = added.filter(({ same }) => same);
  id("found").textContent = `${added.length - equal.length} of ${added.length} calls, log lines and events differ`;
  id("all").addEventListener("click", () => {
    const on = id("all").getAttribute("aria-pressed") !== "true";
    id("all").setAttribute("aria-pressed", String(on));
    for (const { row } of equal) row.hidden = !on;
  });
  id("compared").dataset.ready = "yes";
}, () => { id("title").textContent = "There are no such scenarios in this report"; });
