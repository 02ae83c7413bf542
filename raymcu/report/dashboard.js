// Draws /status.json every two seconds. All text from the run goes in as text, never as markup.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const LOSSES = ["retain", "forget"];
let shownLayout = "";
let zoomed = null;
const cells = new Map();

function make(tag, options = {}, ...children) {
  const { cls, text, ...attributes } = options;
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const duration = (s) => {
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
};
const short = (value) => Number(value.toPrecision(3)).toString();

// The range of a loss over the curve families of one pair, so that these compare.
function rangeOf(curves, name) {
  const values = curves.flatMap((curve) => curve[name].map((point) => point[1]));
  if (!values.length) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const least = Math.max(0.05, 0.1 * Math.abs(low + high) / 2);
  return high - low < least ? [(low + high - least) / 2, (low + high + least) / 2] : [low, high];
}

// One loss in a box: its curve and its chord.
function plot(svg, points, name, box, range) {
  if (!points.length) return;  // the range is null then
  const [low, high] = range;
  const x = (t) => (box.x + t * box.w).toFixed(1);
  const y = (value) => (box.y + box.h - ((value - low) / (high - low)) * box.h).toFixed(1);
  const [first, last] = [points[0], points[points.length - 1]];
  if (first[0] === 0 && last[0] === 1)
    svg.append(draw("path", { class: "chord", d: `M${x(0)} ${y(first[1])}L${x(1)} ${y(last[1])}` }));
  const path = points.map(([t, value], i) => `${i ? "L" : "M"}${x(t)} ${y(value)}`).join("");
  svg.append(draw("path", { class: name, d: path }));
  if (box.dots || points.length === 1)
    for (const [t, value] of points)
      svg.append(draw("circle", { class: name, cx: x(t), cy: y(value), r: box.dots ? 3.2 : 2 }));
}

function smallPlot(curve) {
  const svg = draw("svg", { viewBox: "0 0 134 46", "aria-hidden": "true" });
  LOSSES.forEach((name, i) => plot(svg, curve[name], name, { x: 3 + i * 70, y: 4, w: 58, h: 38 }, curve.ranges[name]));
  return svg;
}

function largePlot(curve) {
  const svg = draw("svg", { viewBox: "0 0 720 300", role: "img", "aria-label": "losses along the curve" });
  LOSSES.forEach((name, i) => {
    const box = { x: 52 + i * 360, y: 40, w: 290, h: 210, dots: true };
    svg.append(draw("rect", { class: "frame", x: box.x - 8, y: box.y - 8, width: box.w + 16, height: box.h + 16 }));
    const head = name === "retain" ? "retain loss ↓ (nats)" : "forget loss ↑ (nats)";
    svg.append(draw("text", { class: "head", x: box.x - 8, y: 22 }, head));
    const range = curve.ranges[name];
    if (range) {
      plot(svg, curve[name], name, box, range);
      svg.append(draw("text", { x: box.x - 14, y: box.y + 4, "text-anchor": "end" }, short(range[1])));
      svg.append(draw("text", { x: box.x - 14, y: box.y + box.h + 4, "text-anchor": "end" }, short(range[0])));
    }
    for (const t of [0, 0.5, 1])
      svg.append(draw("text", { x: box.x + t * box.w, y: box.y + box.h + 26, "text-anchor": "middle" }, `t = ${t}`));
  });
  return svg;
}

const nameOf = (c) => `${c.setting} · ${c.pair} · ${c.family} · ${c.forget_size}`;
const unique = (items) => [...new Set(items)];

function verdict(curve) {
  if (curve.is_connected === null) return make("span");
  return curve.is_connected ? make("span", { cls: "yes", text: "✓ connected" }) : make("span", { cls: "no", text: "✗ barrier" });
}

function fillZoom(curve) {
  byId("zoom-title").textContent = nameOf(curve);
  byId("zoom-plot").replaceChildren(largePlot(curve));
  const barriers = curve.retain_barrier === null || curve.forget_barrier === null ? "" :
    ` Retain barrier ${short(curve.retain_barrier)}, forget barrier ${short(curve.forget_barrier)} nats: ${curve.is_connected ? "connected" : "not connected"}.`;
  byId("zoom-note").textContent = `${curve.done} of ${curve.total} points scored.${barriers}`;
}

function fillCell(cell, curve) {
  cell.curve = curve;
  const state = JSON.stringify(curve);
  if (cell.state === state) return;
  cell.state = state;
  cell.button.className = curve.done ? "cell" : "cell empty";
  cell.button.setAttribute("aria-label", `${nameOf(curve)}: ${curve.done} of ${curve.total} points`);
  const foot = make("span", { cls: "foot" }, make("span", { text: `${curve.done}/${curve.total}` }), verdict(curve));
  cell.button.replaceChildren(smallPlot(curve), foot);
}

function layOut(curves) {
  cells.clear();
  byId("grid").replaceChildren(...unique(curves.map((c) => c.setting)).map((setting) => {
    const here = curves.filter((c) => c.setting === setting);
    const columns = unique(here.map((c) => JSON.stringify([c.forget_size, c.family]))).map((key) => JSON.parse(key));
    columns.sort((a, b) => here.findIndex((c) => c.forget_size === a[0]) - here.findIndex((c) => c.forget_size === b[0]));
    const sizes = unique(columns.map((column) => column[0]));
    const table = make("table", { cls: "curves" });
    const top = make("tr", {}, make("th"), ...sizes.map((size) =>
      make("th", { cls: "size", text: size, colspan: columns.filter((column) => column[0] === size).length })));
    const second = make("tr", {}, make("th"), ...columns.map((column) => make("th", { text: column[1] })));
    const body = make("tbody", {}, ...unique(here.map((c) => c.pair)).map((pair) =>
      make("tr", {}, make("th", { text: pair, scope: "row" }), ...columns.map((column) => {
        const curve = here.find((c) => c.pair === pair && c.forget_size === column[0] && c.family === column[1]);
        if (!curve) return make("td");
        const cell = { button: make("button", { type: "button" }), curve };
        cell.button.addEventListener("click", () => {
          if (!cell.curve.done) return;
          zoomed = cell.curve.id;
          fillZoom(cell.curve);
          byId("zoom").showModal();
        });
        cells.set(curve.id, cell);
        return make("td", {}, cell.button);
      }))));
    table.append(make("thead", {}, top, second), body);
    const head = make("h2", { text: setting });
    head.append(make("span", { cls: "sub progress", "data-setting": setting }));
    return make("section", {}, head, make("div", { cls: "scroll wide" }, table));
  }));
}

function showStages(status) {
  byId("stages").replaceChildren(...status.stages.map((stage) => {
    const more = make("div", { cls: "more" });
    const notes = [];
    if (stage.failed) notes.push(make("span", { cls: "bad", text: `✗ ${stage.failed} failed` }));
    if (stage.skipped) notes.push(make("span", { text: `${stage.skipped} skipped` }));
    if (stage.took_s !== null) notes.push(make("span", { text: duration(stage.took_s) }));
    notes.forEach((note, i) => more.append(...(i ? [" · ", note] : [note])));
    const isNow = status.driver && status.driver.stage === stage.name;
    return make("div", { cls: isNow ? "stage now" : "stage" },
      make("span", { cls: "count", text: `${stage.done}/${stage.total}` }), make("b", { text: stage.name }),
      make("progress", { max: Math.max(1, stage.total), value: stage.done, "aria-label": stage.name }), more);
  }));
}

function showLists(status) {
  const running = status.driver ? status.driver.running : [];
  byId("running-box").hidden = !running.length;
  byId("running").replaceChildren(...running.map((text) => make("li", { text })));
  byId("failures-box").hidden = !status.failures.length;
  byId("failures").replaceChildren(...status.failures.map((row) => make("tr", {},
    ...["stage", "label", "reason"].map((key) => make("td", { text: row[key] ?? "" })),
    make("td", { cls: "message", text: row.message ?? "" }))));
}

function show(status) {
  document.title = `${status.name} · raymcu`;
  byId("name").textContent = status.name;
  byId("where").textContent = [status.url, status.device].filter(Boolean).join(" · ");
  byId("sentence").textContent = status.sentence;
  byId("sentence").className = "";
  byId("report").hidden = !status.has_report;
  showStages(status);
  showLists(status);
  const layout = JSON.stringify(status.curves.map((c) => c.id));
  if (layout !== shownLayout) layOut(status.curves);
  shownLayout = layout;
  const rows = Map.groupBy(status.curves, (c) => JSON.stringify([c.setting, c.forget_size, c.pair]));
  for (const row of rows.values()) {
    const ranges = Object.fromEntries(LOSSES.map((name) => [name, rangeOf(row, name)]));
    for (const curve of row) curve.ranges = ranges;
  }
  for (const curve of status.curves) fillCell(cells.get(curve.id), curve);
  for (const node of document.querySelectorAll(".progress")) {
    const here = status.cells.filter((cell) => cell.setting === node.dataset.setting);
    node.textContent = "  " + here.map((cell) => `${cell.forget_size}: ${cell.points_done}/${cell.points} points`).join(" · ");
  }
  if (zoomed && byId("zoom").open) fillZoom(cells.get(zoomed).curve);
}

function lost(reason) {
  byId("sentence").textContent = reason;
  byId("sentence").className = "lost";
}

async function poll() {
  try {
    const answer = await fetch("/status.json", { cache: "no-cache" });
    const body = await answer.json();
    if (answer.ok) show(body);
    else lost(body.error);
  } catch (error) {
    lost("the dashboard does not answer; is `raymcu dashboard` still running?");
  }
  setTimeout(poll, document.hidden ? 10000 : 2000);
}
poll();
