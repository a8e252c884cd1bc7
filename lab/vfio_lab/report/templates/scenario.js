"use strict";
let scenario, slug, rows = [], visible = [], place = 0;

/** The name of an event in links: its user, or kernel or qemu, and its number there. */
function rowName(event) {
  return event[LANE] < 0 ? "" : `${plain(scenario.lanes[event[LANE]])}.${event[NUMBER]}`;
}

function showScenario() {
  const { title, name, run, word, topology, seconds } = scenario;
  document.title = `${name} - vfio-lab`;
  id("title").textContent = title;
  id("head").className = isBad(word) ? "bad" : "good";
  id("facts").append(make("b", { className: word }, word), ` on ${run}, topology ${topology || "none"}, ${seconds.toFixed(1)} s: ${name}`);
  id("reason").textContent = scenario.reason;
  id("reason").hidden = !scenario.reason;
  id("stacks").textContent = scenario.stacks;
  id("sleeping").hidden = !scenario.stacks;
  id("paste").textContent = scenario.paste;
  for (const [claim, sentence] of scenario.claims)
    id("claims").append(make("li", {}, make("a", { href: `index.html#${claim}` }, claim), ` ${sentence}`));
  for (const [label, other, verdict] of scenario.runs)
    if (other !== slug)
      id("runs").append(make("span", {}, "on ", make("a", { href: `scenario.html#${other}`, className: verdict }, `${label}: ${verdict}`), ", ",
        make("a", { href: `compare.html#${pair(other)}` }, `compare the calls with ${label}`)));
}

/** Two scenarios in the order of the runs. */
function pair(other) {
  const slugs = scenario.runs.map(([, one]) => one);
  return slugs.indexOf(other) < slugs.indexOf(slug) ? `${other}~${slug}` : `${slug}~${other}`;
}

function showTimeline() {
  const body = id("timeline").tBodies[0];
  const busy = lanesBusy(scenario.events);
  rows = scenario.events.map((event, index) => {
    const row = body.insertRow();
    const who = scenario.lanes[event[LANE]] ?? "";
    row.className = who === "kernel" ? "kernel" : event[LANE] < 0 ? "gap" : "";
    row.classList.toggle("refused", isRefused(event[RESULT]));
    row.id = rowName(event);
    const link = make("a", { href: `#${slug}/${row.id}`, className: "here" }, event[AT].toFixed(3));
    link.setAttribute("aria-label", `${event[AT].toFixed(3)} s, step ${index + 1}`);
    row.append(make("td", {}, row.id ? link : ""), graph(event, busy[index]),
      make("td", {}, row.id ? make("span", { className: `who ${laneClass(who, event[LANE])}` }, who) : ""),
      make("td", {}, event[WHAT], event[TOOK] >= 0.5 ? make("span", { className: "took" }, ` ${event[TOOK].toFixed(1)} s`) : ""), make("td", {}, event[RESULT]));
    row.addEventListener("click", (click) => {
      if (click.target.tagName !== "A" && !String(getSelection())) go(index + 1, true);
    });
    return row;
  });
}

/** For each event the lanes whose call has begun and not returned. */
function lanesBusy(events) {
  const busy = events.map(() => new Set());
  events.forEach((event, index) => {
    const end = event[AT] + event[TOOK];
    for (let next = index + 1; next < events.length && events[next][AT] < end; next++) busy[next].add(event[LANE]);
  });
  return busy;
}

function graph(event, busy) {
  const cell = make("td", { className: "graph" });
  cell.setAttribute("aria-hidden", "true");
  scenario.lanes.forEach((name, lane) => {
    const kind = lane === event[LANE] ? " dot" : busy.has(lane) ? " busy" : "";
    cell.append(make("span", { className: `lane ${laneClass(name, lane)}${kind}` }));
  });
  return cell;
}

/** A switch for each lane, and one for what only looks. */
function showLanes() {
  const looks = scenario.events.filter((event) => isLookUp(event[WHAT])).length;
  const counts = scenario.lanes.map((_, lane) => scenario.events.filter((event) => event[LANE] === lane).length);
  const toggle = (text, on, properties) => {
    const button = make("button", { type: "button", className: "lane-switch", ...properties }, text);
    button.setAttribute("aria-pressed", String(on));
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      hide();
    });
    id("lanes").append(button);
  };
  scenario.lanes.forEach((name, lane) => {
    if (counts[lane]) toggle(`${name} ${counts[lane]}`, true, { className: `lane-switch ${laneClass(name, lane)}`, dataset: { lane } });
  });
  if (looks) toggle(`look-ups ${looks}`, isBad(scenario.word), { dataset: { looks: "" }, title: "readlink, listdir, access and read_file" });
}

function hide() {
  const off = new Set();
  let looks = true;
  for (const button of id("lanes").children)
    if (button.getAttribute("aria-pressed") !== "true")
      if ("looks" in button.dataset) looks = false;
      else off.add(Number(button.dataset.lane));
  visible = [];
  scenario.events.forEach((event, index) => {
    rows[index].hidden = off.has(event[LANE]) || (!looks && isLookUp(event[WHAT]));
    if (!rows[index].hidden) visible.push(index + 1);
  });
  id("place").max = visible.length;
  go(place, false);
}

/** Show the machine after the first events; select the last of them if it is to be shown. */
function go(count, select) {
  const selected = document.querySelector("#timeline .selected");
  selected?.classList.remove("selected");
  selected?.removeAttribute("aria-current");
  document.querySelector("#timeline tr.fields")?.remove();
  const moved = place !== count;
  place = count;
  const event = scenario.events[count - 1];
  const after = stateAfter(scenario, count);
  draw(id("drawing"), scenario, select ? stateAfter(scenario, count - 1) : after, after, select && event);
  const step = visible.filter((one) => one <= count).length;
  id("place").value = step;
  id("place").setAttribute("aria-valuetext", event ? `step ${step} of ${visible.length}: ${event[WHAT]}` : "the start");
  id("when").textContent = !count ? "at the start" : count === scenario.events.length ? "at the end" : `after step ${step} of ${visible.length}`;
  id("now").textContent = !count ? "The start" : select ? `${step} of ${visible.length}: ${event[LANE] < 0 ? "" : `${scenario.lanes[event[LANE]]}: `}${event[WHAT]} ${event[RESULT] && `= ${event[RESULT]}`}` : `${visible.length} steps`;
  if (select && event) choose(rows[count - 1], event);
  if (moved && !event) history.replaceState(null, "", `#${slug}`);
}

function choose(row, event) {
  row.hidden = false;
  row.classList.add("selected");
  row.setAttribute("aria-current", "step");
  if (event[FIELDS]?.length) row.after(make("tr", { className: "fields" }, fields(event)));
  if (row.id) history.replaceState(null, "", `#${slug}/${row.id}`);
  if (innerWidth >= 1024 || id("machine").getBoundingClientRect().bottom < 80) row.scrollIntoView({ block: "nearest" });
}

/** A call's arguments and answers, a row each; what the call changed stands out. */
function fields(event) {
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...["field", "given", "answered"].map((text) => make("th", { scope: "col" }, text)))));
  const body = table.createTBody();
  for (const [name, given, answered] of event[FIELDS]) {
    const row = make("tr", { className: /pad(_\d+)?$|reserved/.test(name) ? "padding" : "" }, make("td", {}, name), make("td", {}, given), make("td", {}, answered ?? ""));
    row.classList.toggle("answered", answered !== undefined);
    body.append(row);
  }
  return make("td", { colSpan: 5 }, table);
}

function step(by) {
  const at = visible.filter((one) => one <= place).length;
  const whole = by < 0 && !document.querySelector("#timeline .selected");
  const next = Math.min(Math.max(at + (whole ? 0 : by), 0), visible.length);
  go(next ? visible[next - 1] : 0, next > 0);
}

/** What can be pasted into a mail: the sentence, the verdict, the call, the link. */
function linkText() {
  const event = document.querySelector("#timeline .selected") && scenario.events[place - 1];
  const call = event ? [`${scenario.lanes[event[LANE]]}: ${event[WHAT]} = ${event[RESULT]}`] : [];
  return [scenario.title, `${scenario.word} on ${scenario.run}: ${scenario.name}`, ...call, location.href].join("\n");
}

function follow() {
  const [wanted, name] = decodeURIComponent(location.hash.slice(1)).split("/");
  if (slug !== undefined && wanted !== slug) return location.reload();
  slug = wanted;
  const at = scenario ? scenario.events.findIndex((event) => name && rowName(event) === name) : -1;
  if (at >= 0) {
    go(at + 1, true);
    rows[at].scrollIntoView({ block: "center" });
  } else if (scenario) go(scenario.events.length, false);
}

addEventListener("hashchange", follow);
follow();
load([slug], (found) => {
  scenario = found;
  place = scenario.events.length;
  showScenario();
  showTimeline();
  showLanes();
  hide();
  follow();
  id("back").addEventListener("click", () => step(-1));
  id("next").addEventListener("click", () => step(1));
  id("place").addEventListener("input", (event) => {
    const at = Number(event.target.value);
    go(at ? visible[at - 1] : 0, at > 0);
  });
  id("link").addEventListener("click", () => copy(id("link"), linkText()));
  document.addEventListener("keydown", (event) => {
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (!by || typing(event)) return;
    event.preventDefault();
    step(by);
  });
  id("scenario").dataset.ready = "yes";
}, () => { id("title").textContent = "There is no such scenario in this report"; });
