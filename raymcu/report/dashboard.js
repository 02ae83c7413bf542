// Draws /status.json every two seconds. All text from the run goes in as text, never as markup.
"use strict";
const LOSSES = ["retain", "forget"];
let shownLayout = "";
let shownCoverage = "";
let zoomed = null;
const cells = new Map();

// Curves and walks in one form: a section, a row and a column of it, and where along x each t is.
function linesOf(status) {
  const curves = status.curves.map((c) => ({ ...c, section: c.setting, row: c.pair, column: c.family, x: (t) => t,
    ticks: [0, 0.5, 1].map((t) => [t, `t = ${t}`]) }));
  const walks = status.walk_lines.map((w) => {
    const place = new Map(w.steps.map(([t], i) => [t, w.steps.length > 1 ? i / (w.steps.length - 1) : 0.5]));
    const every = Math.ceil(w.steps.length / 5);
    return { ...w, section: `Walk: ${w.family}`, row: w.model, column: "", x: (t) => place.get(t),
      ticks: w.steps.filter((_, i) => i % every === 0).map(([t, label]) => [place.get(t), label]) };
  });
  return [...curves, ...walks];
}

// The range of a loss over the lines of one row, so that these compare.
function rangeOf(curves, name) {
  const values = curves.flatMap((curve) => curve[name].map((point) => point[1]));
  if (!values.length) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const least = Math.max(0.05, 0.1 * Math.abs(low + high) / 2);
  return high - low < least ? [(low + high - least) / 2, (low + high + least) / 2] : [low, high];
}

// One loss in a box: its curve and its chord.
function plot(svg, line, name, box, range) {
  const points = line[name];
  if (!points.length) return;  // the range is null then
  const [low, high] = range;
  const x = (t) => (box.x + line.x(t) * box.w).toFixed(1);
  const y = (value) => (box.y + box.h - ((value - low) / (high - low)) * box.h).toFixed(1);
  const [first, last] = [points[0], points[points.length - 1]];
  if (line.setting && first[0] === 0 && last[0] === 1)
    svg.append(draw("path", { class: "chord", d: `M${x(0)} ${y(first[1])}L${x(1)} ${y(last[1])}` }));
  const path = points.map(([t, value], i) => `${i ? "L" : "M"}${x(t)} ${y(value)}`).join("");
  svg.append(draw("path", { class: name, d: path }));
  if (box.dots || points.length === 1)
    for (const [t, value] of points)
      svg.append(draw("circle", { class: name, cx: x(t), cy: y(value), r: box.dots ? 3.2 : 2 }));
}

function smallPlot(curve) {
  const svg = draw("svg", { viewBox: "0 0 134 46", "aria-hidden": "true" });
  LOSSES.forEach((name, i) => plot(svg, curve, name, { x: 3 + i * 70, y: 4, w: 58, h: 38 }, curve.ranges[name]));
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
      plot(svg, curve, name, box, range);
      svg.append(draw("text", { x: box.x - 14, y: box.y + 4, "text-anchor": "end" }, short(range[1])));
      svg.append(draw("text", { x: box.x - 14, y: box.y + box.h + 4, "text-anchor": "end" }, short(range[0])));
    }
    for (const [at, label] of curve.ticks)
      svg.append(draw("text", { x: box.x + at * box.w, y: box.y + box.h + 26, "text-anchor": "middle" }, label));
  });
  return svg;
}

const nameOf = (c) => [c.section, c.row, c.column, c.forget_size].filter(Boolean).join(" · ");

function verdict(curve) {
  if (curve.is_connected == null) return make("span");
  return curve.is_connected ? make("span", { cls: "yes", text: "✓ connected" }) : make("span", { cls: "no", text: "✗ barrier" });
}

function fillZoom(curve) {
  byId("zoom-title").textContent = nameOf(curve);
  byId("zoom-plot").replaceChildren(largePlot(curve));
  const barriers = curve.retain_barrier == null || curve.forget_barrier == null ? "" :
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

function layOut(lines) {
  cells.clear();
  byId("grid").replaceChildren(...unique(lines.map((c) => c.section)).map((section, index) => {
    const here = lines.filter((c) => c.section === section);
    const columns = unique(here.map((c) => JSON.stringify([c.forget_size, c.column]))).map((key) => JSON.parse(key));
    columns.sort((a, b) => here.findIndex((c) => c.forget_size === a[0]) - here.findIndex((c) => c.forget_size === b[0]));
    const sizes = unique(columns.map((column) => column[0]));
    const table = make("table", { cls: "curves" });
    const heads = [make("tr", {}, make("th"), ...sizes.map((size) =>
      make("th", { cls: "size", text: size, colspan: columns.filter((column) => column[0] === size).length })))];
    if (columns.some((column) => column[1])) heads.push(make("tr", {}, make("th"), ...columns.map((column) => make("th", { text: column[1] }))));
    const byPlace = new Map(here.map((c) => [JSON.stringify([c.row, c.forget_size, c.column]), c]));
    const body = make("tbody", {}, ...unique(here.map((c) => c.row)).map((row) =>
      make("tr", {}, make("th", { text: row, scope: "row" }), ...columns.map((column) => {
        const curve = byPlace.get(JSON.stringify([row, ...column]));
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
    table.append(make("thead", {}, ...heads), body);
    return make("section", { id: `section-${index}` }, make("h2", { text: section }), make("div", { cls: "scroll wide" }, table));
  }));
}

// The whole grid at a glance: rows are settings and walks, columns forget sets, inside pairs and models.
function showCoverage(lines) {
  const sections = unique(lines.map((c) => c.section));
  const sizes = unique(lines.map((c) => c.forget_size));
  const counts = new Map();
  for (const c of lines) {
    const key = JSON.stringify([c.section, c.forget_size]);
    if (!counts.has(key)) counts.set(key, new Map());
    const rows = counts.get(key);
    const [done, total] = rows.get(c.row) ?? [0, 0];
    rows.set(c.row, [done + c.done, total + c.total]);
  }
  const state = JSON.stringify([...counts].map(([key, rows]) => [key, [...rows]]));
  byId("coverage-box").hidden = byId("lines-key").hidden = !lines.length;
  if (state === shownCoverage) return;
  shownCoverage = state;
  const chip = (index) => ([row, [done, total]]) =>
    make("a", { cls: done === total ? "chip full" : "chip", href: `#section-${index}` },
      make("span", { text: row }), make("span", { cls: "count", text: `${done}/${total}` }),
      make("progress", { max: Math.max(1, total), value: done, "aria-label": row }));
  const head = make("thead", {}, make("tr", {}, make("th"), ...sizes.map((size) => make("th", { text: size }))));
  const body = make("tbody", {}, ...sections.map((section, index) => make("tr", {}, make("th", { text: section, scope: "row" }),
    ...sizes.map((size) => make("td", {}, make("div", { cls: "chips" },
      ...[...(counts.get(JSON.stringify([section, size])) ?? [])].map(chip(index))))))));
  byId("coverage").replaceChildren(head, body);
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
  showSearch(status);
  const lines = linesOf(status);
  showCoverage(lines);
  const layout = JSON.stringify(lines.map((c) => c.id));
  if (layout !== shownLayout) layOut(lines);
  shownLayout = layout;
  const rows = Map.groupBy(lines, (c) => JSON.stringify([c.section, c.forget_size, c.row]));
  for (const row of rows.values()) {
    const ranges = Object.fromEntries(LOSSES.map((name) => [name, rangeOf(row, name)]));
    for (const curve of row) curve.ranges = ranges;
  }
  for (const curve of lines) fillCell(cells.get(curve.id), curve);
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
