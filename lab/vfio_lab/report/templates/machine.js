"use strict";

/** The machine after the first events: its functions, and each user's descriptors. */
function stateAfter(scenario, count) {
  const functions = (scenario.machine?.functions ?? []).map(([, , , , driver, , there]) => ({ driver, there }));
  const users = new Map();
  for (const event of scenario.events.slice(0, count))
    for (const [kind, key, ...rest] of event[CHANGES] || []) {
      if (kind === "driver") functions[key].driver = rest[0];
      else if (kind === "there") functions[key].there = rest[0];
      else if (kind === "gone") users.delete(key);
      else if (kind === "close") users.get(key)?.delete(rest[0]);
      else {
        const [fd, what, note, rows] = rest;
        if (!users.has(key)) users.set(key, new Map());
        users.get(key).set(fd, { what, note, rows });
      }
    }
  return { functions, users };
}

/** What an open file is to people who know VFIO. */
function fileName(what) {
  if (what === "/dev/vfio/vfio") return "container";
  if (what === "/dev/iommu") return "iommufd";
  if (/^[0-9a-f]{4}:[0-9a-f]{2}:/.test(what)) return `device ${what.replace(/^0000:/, "")}`;
  return what.replace(/^\/dev\/vfio\/devices\//, "device ").replace(/^\/dev\/vfio\/(noiommu-)?(\d+)/, (_, no, group) => `${no ? "no-IOMMU group" : "group"} ${group}`);
}

/** Draw the machine; what differs from the state before is marked. */
function draw(place, scenario, before, after, event) {
  const parts = [];
  if (scenario.machine) parts.push(hardware(scenario, before, after, event));
  parts.push(descriptors(scenario, before, after));
  place.replaceChildren(...parts.filter(Boolean));
}

function hardware(scenario, before, after, event) {
  const { title, viommu, own, functions } = scenario.machine;
  const groups = make("ul", { className: "groups" });
  const hues = new Map();
  let open = null;
  functions.forEach(([depth, bdf, role, what, , group], index) => {
    if (!after.functions[index].there && !before.functions[index].there) return;
    if (!open || !group || open.dataset.group !== group) {
      if (group && !hues.has(group)) hues.set(group, hues.size % 6);
      open = make("li", { className: group ? `group h${hues.get(group)}` : "group none", dataset: { group } });
      if (group) open.append(make("span", { className: "label" }, `group ${group}`));
      open.append(make("ul"));
      groups.append(open);
    }
    open.lastChild.append(functionRow(scenario, index, { depth, bdf, role, what }, before, after, event));
  });
  groups.append(make("li", { className: "own" }, `and ${own} devices of the lab itself`));
  return make("figure", { className: "machine" },
    make("figcaption", {}, title),
    make("div", { className: "hardware" }, make("span", { className: viommu ? "viommu" : "viommu none" }, viommu || "no vIOMMU"), groups));
}

function functionRow(scenario, index, { depth, bdf, role, what }, before, after, event) {
  const was = before.functions[index], is = after.functions[index];
  const row = make("li", { className: "function", dataset: { bdf } },
    make("code", {}, bdf.replace(/^0000:/, "")), make("b", {}, role), make("span", { className: "model" }, what));
  row.style.setProperty("--depth", depth);
  row.classList.toggle("gone", !is.there);
  row.classList.toggle("changed", was.there !== is.there);
  row.classList.toggle("named", Boolean(event) && scenario.lanes[event[LANE]] === "kernel" && event[WHAT].includes(bdf));
  if (is.driver || was.driver !== is.driver) {
    const driver = make("span", { className: "driver" }, is.driver || "no driver");
    driver.classList.toggle("changed", was.driver !== is.driver);
    row.append(driver);
  }
  for (const [lane, files] of after.users) {
    const mine = [...files].filter(([, { rows }]) => rows.includes(index));
    if (!mine.length) continue;
    const chip = userChip(scenario, lane, ` ${mine.map(([fd]) => fd).join(" ")}`);
    chip.title = mine.map(([fd, file]) => `${fd}: ${fileName(file.what)}`).join(", ");
    chip.classList.toggle("changed", mine.some(([fd, file]) => before.users.get(lane)?.get(fd)?.what !== file.what));
    row.append(chip);
  }
  return row;
}

function userChip(scenario, lane, text = "") {
  return make("span", { className: `user ${laneClass(scenario.lanes[lane], lane)}` }, scenario.lanes[lane] + text);
}

/** Who has what open, by the users' names. */
function descriptors(scenario, before, after) {
  const list = make("dl", { className: "users" });
  for (const lane of new Set([...before.users.keys(), ...after.users.keys()])) {
    const was = before.users.get(lane) ?? new Map(), is = after.users.get(lane) ?? new Map();
    if (!was.size && !is.size) continue;
    const files = make("ul");
    for (const fd of [...new Set([...was.keys(), ...is.keys()])].sort((a, b) => a - b)) {
      const file = is.get(fd), old = was.get(fd);
      const { what, note } = file ?? old;
      const text = [make("code", {}, fd), ` ${fileName(what)}`, note ? make("span", { className: "note" }, ` ${note}`) : ""];
      const item = make("li", {}, ...(file ? text : [make("del", {}, ...text)]));
      item.classList.toggle("changed", file?.what !== old?.what || file?.note !== old?.note);
      files.append(item);
    }
    list.append(make("dt", {}, userChip(scenario, lane)), make("dd", {}, files));
  }
  return list.childElementCount ? list : make("p", { className: "on" }, "No user has anything open.");
}
