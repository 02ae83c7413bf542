// Draws /status.json every two seconds. All text from the run goes in as text, never as markup.
"use strict";
const LOSSES = ["retain", "forget"];
let shownLayout = "";
let shownCoverage = "";
let shownTrainings = "";
let shownAttacks = "";
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
  const svg = draw("svg", { viewBox: "0 0 216 54", "aria-hidden": "true" });
  LOSSES.forEach((name, i) => {
    const box = { x: 39 + i * 108, y: 6, w: 64, h: 42 };
    plot(svg, curve, name, box, curve.ranges[name]);
    if (curve.ranges[name]) scale(svg, box, curve.ranges[name], "tick");
  });
  return svg;
}

const brief = (value) => value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(0) : Number(value.toPrecision(2)).toString();

// The ends of a value axis.
function scale(svg, box, [low, high], cls) {
  svg.append(draw("text", { class: cls, x: box.x - 5, y: box.y + 4, "text-anchor": "end" }, brief(high)));
  svg.append(draw("text", { class: cls, x: box.x - 5, y: box.y + box.h + 3, "text-anchor": "end" }, brief(low)));
}

// A name that breaks behind its method, or between two: "npo · seed0 ↔ seed1", "ga/seed0 ↔ npo/seed0".
function named(text) {
  const parts = text.split(text.includes(" · ") ? /(?<= ·) / : /(?<= ↔) /);
  return parts.flatMap((part, i) => [...(i ? [" "] : []), make("span", { cls: "whole", text: part })]);
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

// One block for each forget set, so that blocks stand side by side where there is room.
function layOut(lines) {
  cells.clear();
  byId("grid").replaceChildren(...unique(lines.map((c) => c.section)).map((section, index) => {
    const here = lines.filter((c) => c.section === section);
    const blocks = unique(here.map((c) => c.forget_size)).map((size) => block(size, here.filter((c) => c.forget_size === size)));
    return make("section", { id: `section-${index}` }, make("h2", { text: section }), make("div", { cls: "blocks" }, ...blocks));
  }));
}

function block(size, here) {
  const columns = unique(here.map((c) => c.column));
  const table = make("table", { cls: "curves" });
  const heads = make("tr", {}, make("th", { cls: "size", text: size }), ...columns.map((column) => make("th", { text: column })));
  const byPlace = new Map(here.map((c) => [JSON.stringify([c.row, c.column]), c]));
  const body = make("tbody", {}, ...unique(here.map((c) => c.row)).map((row) =>
    make("tr", {}, make("th", { scope: "row" }, ...named(row)), ...columns.map((column) => {
      const curve = byPlace.get(JSON.stringify([row, column]));
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
  table.append(make("thead", {}, heads), body);
  return make("div", { cls: "scroll wide" }, table);
}

// How many curves are connected, by setting and kind of curve, for each forget set.
function showVerdicts(status) {
  const judged = status.curves.filter((c) => c.is_connected != null);
  byId("verdicts-box").hidden = !judged.length;
  if (!judged.length) return;
  const connected = (curves) => curves.filter((c) => c.is_connected).length;
  byId("verdicts-note").textContent = `${connected(judged)} of ${judged.length} judged curves are connected`;
  const sizes = unique(judged.map((c) => c.forget_size));
  const rows = unique(judged.map((c) => JSON.stringify([c.setting, c.family]))).map((key) => JSON.parse(key));
  const cell = (here) => {
    if (!here.length) return make("td");
    const [yes, all] = [connected(here), here.length];
    return make("td", {}, make("span", { cls: yes === all ? "yes" : yes ? "" : "no", text: `${yes === all ? "✓ " : yes ? "" : "✗ "}${yes} of ${all}` }));
  };
  byId("verdicts").replaceChildren(
    make("thead", {}, make("tr", {}, make("th"), ...sizes.map((size) => make("th", { text: size })))),
    make("tbody", {}, ...rows.map(([setting, family]) => make("tr", {}, make("th", { text: `${setting}, ${family}`, scope: "row" }),
      ...sizes.map((size) => cell(judged.filter((c) => c.setting === setting && c.family === family && c.forget_size === size)))))));
}

// A small panel for each method: the losses of its finished trainings.
function showTrainings(trainings) {
  byId("trainings-box").hidden = !trainings.length;
  const state = JSON.stringify(trainings.map((one) => [one.label, one.forget_size]));
  if (state === shownTrainings) return;
  shownTrainings = state;
  const sizes = unique(trainings.map((one) => one.forget_size).filter(Boolean));
  byId("trainings").replaceChildren(...[...Map.groupBy(trainings, (one) => one.panel)].map(([panel, here]) => {
    const svg = draw("svg", { viewBox: "0 0 210 104", role: "img", "aria-label": `training losses of ${panel}` });
    const box = { x: 40, y: 24, w: 160, h: 60 };
    const points = here.flatMap((one) => one.loss);
    const [low, high] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1]))];
    const last = Math.max(...points.map((p) => p[0]));
    const isLog = low > 0 && high / low > 8;
    const at = (value) => isLog ? Math.log(value) : value;
    const share = (value) => high > low ? (at(value) - at(low)) / (at(high) - at(low)) : 0.5;
    svg.append(draw("text", { class: "head", x: 2, y: 13 }, `${panel}${isLog ? " (log)" : ""}`));
    svg.append(draw("rect", { class: "frame", x: box.x - 3, y: box.y - 3, width: box.w + 6, height: box.h + 6 }));
    for (const one of here) {
      const d = one.loss.map(([step, value], i) =>
        `${i ? "L" : "M"}${(box.x + step / last * box.w).toFixed(1)} ${(box.y + (1 - share(value)) * box.h).toFixed(1)}`).join("");
      const path = draw("path", { class: `training size-${sizes.indexOf(one.forget_size) % 4}`, d });
      path.append(draw("title", {}, [one.forget_size, one.label].filter(Boolean).join(": ")));
      svg.append(path);
    }
    scale(svg, box, [low, high], "tick");
    svg.append(draw("text", { class: "tick", x: box.x + box.w, y: 100, "text-anchor": "end" }, `step ${Math.ceil(last)}`));
    return svg;
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
      make("span", { cls: "count", text: `${done}/${total}` }), make("span", {}, ...named(row)),
      make("progress", { max: Math.max(1, total), value: done, "aria-label": row }));
  const head = make("thead", {}, make("tr", {}, make("th"), ...sizes.map((size) => make("th", { text: size }))));
  const body = make("tbody", {}, ...sections.map((section, index) => make("tr", {}, make("th", { text: section, scope: "row" }),
    ...sizes.map((size) => make("td", {}, make("div", { cls: "chips" },
      ...[...(counts.get(JSON.stringify([section, size])) ?? [])].map(chip(index))))))));
  byId("coverage").replaceChildren(head, body);
}

// What came back: a table for each forget set, models by attacks, darker where more did.
function showAttacks(found) {
  const state = JSON.stringify(found);
  byId("attacks-box").hidden = !found.length;
  if (state === shownAttacks) return;
  shownAttacks = state;
  byId("attacks-metric").textContent = found.length ? found[0].metric : "";
  const cell = (share) => {
    const td = make("td", { cls: "heat", text: share === null ? "–" : share.toFixed(2) });
    if (share !== null) td.style.setProperty("--share", Math.round(70 * Math.min(1, Math.max(0, share))));
    return td;
  };
  byId("attacks").replaceChildren(...found.map((heat) => make("div", { cls: "scroll wide" }, make("table", {},
    make("thead", {}, make("tr", {}, make("th", { text: heat.forget_size }), ...heat.columns.map((name) => make("th", { text: name })))),
    make("tbody", {}, ...heat.rows.map((row) => make("tr", {}, make("th", { text: row.model, scope: "row" }), ...row.shares.map(cell))))))));
}

function showStages(status) {
  byId("stages").replaceChildren(...status.stages.map((stage) => {
    const more = make("div", { cls: "more" });
    const notes = [];
    const isNow = status.driver && status.driver.stage === stage.name;
    const isBeside = status.driver && status.driver.beside.includes(stage.name);
    if (isNow) notes.push(make("span", { text: status.driver.seconds_left == null ? "time left unknown yet" : `about ${duration(status.driver.seconds_left)} left` }));
    if (stage.failed) notes.push(make("span", { cls: "bad", text: `✗ ${stage.failed} failed` }));
    if (stage.skipped) notes.push(make("span", { text: `${stage.skipped} skipped` }));
    if (stage.took_s !== null) notes.push(make("span", { text: duration(stage.took_s) }));
    notes.forEach((note, i) => more.append(...(i ? [" · ", note] : [note])));
    return make("div", { cls: isNow || isBeside ? "stage now" : "stage" },
      make("span", { cls: "count", text: `${stage.done}/${stage.total}` }), make("b", { text: stage.name }),
      make("progress", { max: Math.max(1, stage.total), value: stage.done, "aria-label": stage.name }), more);
  }));
}

function showLists(status) {
  const running = status.driver ? status.driver.running : [];
  byId("running-box").hidden = !running.length;
  byId("running").replaceChildren(...running.map((text, i) => {
    const [share, loss] = status.driver.details[i] ?? [0, null];
    const notes = [share ? `${Math.round(100 * share)}%` : "", loss == null ? "" : `loss ${short(loss)}`].filter(Boolean);
    return make("li", { text: [text, ...notes].join(" · ") });
  }));
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
  showVerdicts(status);
  showAttacks(status.attacks);
  showTrainings(status.trainings);
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
