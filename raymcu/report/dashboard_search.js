// What both files of the page build with, and the section of a search. Text goes in as text, never as markup.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

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
  if (s < 10) return `${Number(s.toFixed(1))} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
};
const short = (value) => value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e")
  : Number(value.toPrecision(3)).toString();
const unique = (items) => [...new Set(items)];

const MOST_TRIALS = 200;  // rows shown until asked for all
const MOST_COLUMNS = 8;  // parameters that have columns of their own; more share one
const PLOT = { x: 56, y: 24, w: 272, h: 80 };
let shownStudies = "";
let shownTrials = "";
let sorted = { column: null, isUp: false };
let showsAll = false;

// One study's trials along one objective, as [number, value, kind, best so far].
function historyPlot(steps, label, isAlone) {
  const { x: left, y: top, w, h } = PLOT;
  const svg = draw("svg", { viewBox: "0 0 340 128", role: "img", "aria-label": `${label} by trial` });
  svg.append(draw("text", { class: "head", x: left - 6, y: 13 }, label));
  const values = steps.map((step) => step[1]).filter((value) => value !== null);
  const last = Math.max(1, ...steps.map((step) => step[0]));
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const x = (number) => (left + (number / last) * w).toFixed(1);
  const y = (value) => (top + h - (high > low ? (value - low) / (high - low) : 0.5) * h).toFixed(1);
  svg.append(draw("rect", { class: "frame", x: left - 6, y: top - 6, width: w + 12, height: h + 12 }));
  const bests = steps.filter((step) => step[3] !== null);
  if (bests.length) {
    const path = bests.map(([number, , , best], i) => i ? `H${x(number)}V${y(best)}` : `M${x(number)} ${y(best)}`).join("");
    svg.append(draw("path", { class: "best", d: path }));
    svg.append(draw("text", { class: "head", x: left + w + 6, y: 13, "text-anchor": "end" }, `best${isAlone ? " alone" : ""} ${short(bests[bests.length - 1][3])}`));
  }
  for (const [number, value, kind] of steps) {
    const at = { class: `trial ${kind}` };
    let mark;
    if (value === null) mark = draw("path", { ...at, d: `M${x(number)} ${top + h + 6}v-5` });
    else if (kind === "pruned") mark = draw("path", { ...at, d: `M${x(number)} ${y(value)}m-2.5 -2.5l5 5m0 -5l-5 5` });
    else mark = draw("circle", { ...at, cx: x(number), cy: y(value), r: 2.6 });
    mark.append(draw("title", {}, `trial ${number}: ${kind}${value === null ? "" : `, ${short(value)}`}`));
    svg.append(mark);
  }
  if (values.length) {
    svg.append(draw("text", { x: left - 10, y: top + 4, "text-anchor": "end" }, short(high)));
    if (high > low) svg.append(draw("text", { x: left - 10, y: top + h + 4, "text-anchor": "end" }, short(low)));
  }
  svg.append(draw("text", { x: left, y: top + h + 20, "text-anchor": "middle" }, "0"));
  svg.append(draw("text", { x: left + w, y: top + h + 20, "text-anchor": "end" }, `trial ${last}`));
  return svg;
}

function studyCard(study, count, objectives) {
  const words = [`${count.complete + count.pruned + count.failed}${count.budget === null ? "" : ` of ${count.budget}`} ended`];
  for (const kind of ["running", "pruned", "failed"]) if (count[kind]) words.push(`${count[kind]} ${kind}`);
  return make("div", { cls: "study" }, make("b", { text: study.study }), make("span", { cls: "sub", text: words.join(" · ") }),
    ...study.histories.map((steps, i) => historyPlot(steps, objectives[i].label, objectives.length > 1)));
}

// Columns of the table of trials: [head, value to sort by, what to show, class].
function trialColumns(search) {
  const written = (value) => typeof value === "number" ? short(value) : value == null ? "" : String(value);
  const columns = [
    ["trial", (t) => t.number, (t) => `${t.number}${t.is_best ? " ★" : ""}`, "n"],
    ["state", (t) => t.kind, (t) => make("span", { cls: `kind ${t.kind}`, text: t.kind }), ""],
    ...search.objectives.map(({ label }, i) => [label, (t) => t.objectives[i], (t) => written(t.objectives[i]), "n"]),
  ];
  if (search.studies.length > 1) columns.unshift(["study", (t) => t.study, (t) => t.study, ""]);
  const apart = search.parameters.length <= MOST_COLUMNS;
  if (apart) for (const name of search.parameters)
    columns.push([name, (t) => t.parameters[name], (t) => written(t.parameters[name]), "n"]);
  else {
    const all = (t) => Object.entries(t.parameters).map(([name, value]) => `${name}=${written(value)}`).join(", ");
    columns.push(["parameters", all, all, "message"]);
  }
  const told = (t) => t.message ?? t.points.join(" ");
  return [...columns, ["time", (t) => t.took_s, (t) => t.took_s === null ? "" : duration(t.took_s), "n"],
    ["point, or what happened", told, told, "message"]];
}

function inOrder(trials, columns) {
  const newest = (a, b) => b.number - a.number || a.study.localeCompare(b.study);
  const column = columns.find(([head]) => head === sorted.column);
  if (!column) return [...trials].sort(newest);
  const way = sorted.isUp ? 1 : -1;
  return [...trials].sort((a, b) => {
    const [x, y] = [column[1](a) ?? null, column[1](b) ?? null];
    if (x === null || y === null) return (x === null) - (y === null) || newest(a, b);
    return way * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y))) || newest(a, b);
  });
}

function showTrials(search) {
  const state = JSON.stringify([search.trials, sorted, showsAll]);
  if (state === shownTrials) return;
  shownTrials = state;
  const columns = trialColumns(search);
  const table = byId("trials");
  table.tHead.replaceChildren(make("tr", {}, ...columns.map(([head, , , cls]) => {
    const button = make("button", { type: "button", text: head });
    button.addEventListener("click", () => {
      sorted = { column: head, isUp: sorted.column === head && !sorted.isUp };
      showTrials(search);
    });
    const order = sorted.column === head ? { "aria-sort": sorted.isUp ? "ascending" : "descending" } : {};
    return make("th", { cls, scope: "col", ...order }, button);
  })));
  const trials = inOrder(search.trials, columns);
  const rows = showsAll ? trials : trials.slice(0, MOST_TRIALS);
  table.tBodies[0].replaceChildren(...rows.map((t) => make("tr", t.is_best ? { cls: "best" } : {},
    ...columns.map(([, , show, cls]) => make("td", { cls }, show(t))))));
  const order = sorted.column ? `by ${sorted.column}` : "newest first";
  byId("trials-note").textContent = `${rows.length} of ${trials.length}, ${order}; ★ the best of a study that are feasible.`;
  byId("trials-all").hidden = rows.length === trials.length;
}

function showSearch(status) {
  const search = status.search;
  byId("search").hidden = !search;
  if (!search) return;
  const studies = JSON.stringify([search.studies, status.trials]);
  if (studies !== shownStudies)
    byId("studies").replaceChildren(...search.studies.map((study) =>
      studyCard(study, status.trials.find((count) => count.study === study.study), search.objectives)));
  shownStudies = studies;
  byId("trials-all").onclick = () => {
    showsAll = true;
    showTrials(search);
  };
  showTrials(search);
}
