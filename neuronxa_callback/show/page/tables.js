"use strict";
/*
 * The tables: languages, diagnostics, fingerprint, notes. Text enters the page as text nodes only:
 * `el` appends strings, and nothing parses markup.
 */
(function (nx) {
  const { format, MEAN } = nx;
  const SVG = "http://www.w3.org/2000/svg";

  /** An element with attributes and children; strings become text. */
  function el(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }
  nx.el = el;

  function svg(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** A short line with the dashes and the marker of a language. */
  nx.swatch = function (style) {
    const dash = { dash: "6 3", dot: "2 2.5", dashdot: "6 2 2 2", longdash: "10 3", longdashdot: "9 2 2 2" }[style.dash];
    const shapes = {
      square: ["rect", { x: 9.5, y: 3.5, width: 7, height: 7 }],
      diamond: ["path", { d: "M13 2.5 17.5 7 13 11.5 8.5 7Z" }],
      "triangle-up": ["path", { d: "M13 2.5 17.5 11 8.5 11Z" }],
      cross: ["path", { d: "M11.5 3h3v2.5H17v3h-2.5V11h-3V8.5H9v-3h2.5Z" }],
      star: ["path", { d: "M13 2l1.5 3.5 3.5.3-2.7 2.4.9 3.6L13 9.8l-3.2 2 .9-3.6L8 5.8l3.5-.3Z" }],
    };
    const [tag, attributes] = shapes[style.marker] ?? ["circle", { cx: 13, cy: 7, r: 3.5 }];
    const stroke = { x1: 1, x2: 25, y1: 7, y2: 7, stroke: style.colour, "stroke-width": 2, ...(dash ? { "stroke-dasharray": dash } : {}) };
    return svg("svg", { width: 26, height: 14, viewBox: "0 0 26 14", class: "swatch", "aria-hidden": "true" },
      svg("line", stroke), svg(tag, { ...attributes, fill: style.colour }));
  };

  /** A score as a dot in its interval, on a scale from 0 to `top`, as in a forest plot. */
  function forest(row, top) {
    const x = (value) => 3 + 114 * Math.min(1, value / top);
    const plot = svg("svg", { width: 120, height: 14, viewBox: "0 0 120 14", class: "forest", "aria-hidden": "true" },
      svg("line", { x1: 3, x2: 117, y1: 7, y2: 7, class: "track" }));
    if (row.low !== null) plot.append(svg("line", { x1: x(row.low), x2: x(row.high), y1: 7, y2: 7, class: "range", stroke: row.colour }));
    if (row.score !== null) plot.append(svg("circle", { cx: x(row.score), cy: 7, r: 3.5, fill: row.colour }));
    return plot;
  }

  /* [key of a row, to sort by; heading; explanation; content of a cell]. */
  const COLUMNS = [
    ["code", "Code", "Code of the language", (row) => codeCell(row)],
    ["name", "Language", "Name of the language", (row) => row.name],
    ["score", "Score", "Share of weakly aligned pairs, mean over layers", (row) => format.number(row.score)],
    ["low", "95\u202f% interval", "Interval of the score; sorted by its lower end", (row) => intervalCell(row)],
    ["peakIndex", "Best layer", "The layer with the highest score", (row) => peakCell(row)],
    ["pivot_to_target", "From pivot", "Nearest-neighbour accuracy from pivot to language", (row) => format.number(row.pivot_to_target, 2)],
    ["target_to_pivot", "To pivot", "Nearest-neighbour accuracy from language to pivot", (row) => format.number(row.target_to_pivot, 2)],
    ["shuffled_baseline", "Shuffled", "Expected score if the same similarities were paired at random", (row) => format.number(row.shuffled_baseline)],
    ["characters", "3-grams", "Score of spelling alone: character 3-grams under the same rule", (row) => format.number(row.characters, 2)],
    ["length", "Length", "Score of sentence length alone, under the same rule", (row) => format.number(row.length, 2)],
    ["change", "Since first", "Paired change since the first probe, with its 95 % interval", (row) => changeCell(row)],
    ["warningCount", "Warnings", "Reasons to doubt the score", (row) => warningCell(row)],
  ];
  const TEXT = new Set(["code", "name", "warningCount"]);
  const sorting = { key: "score", descending: true };

  function codeCell(row) {
    return el("span", { class: "code" }, ...(row.style ? [nx.swatch(row.style)] : []), el("bdi", {}, row.code));
  }

  function intervalCell(row) {
    return el("span", { class: "interval" }, forest(row, row.top), el("span", {}, format.interval(row.low, row.high)));
  }

  function peakCell(row) {
    if (row.layer === null) return "n/a";
    return el("span", {}, el("bdi", {}, row.layer), el("span", { class: "muted" }, ` (${format.number(row.peak, 2)})`));
  }

  function changeCell(row) {
    if (row.first) return el("span", { class: "muted" }, "first probe");
    if (row.change === null) return "n/a";
    const significant = row.p !== null && row.p < 0.05;
    const verdict = significant ? "significant" : "not significant";
    return el("span", { class: significant ? "significant" : "muted", title: `${verdict}, ${format.p(row.p)} (Holm over languages)` },
      `${format.signed(row.change)} `,
      el("span", { class: "muted" }, `[${format.interval(row.change_low, row.change_high)}]`),
      significant ? " *" : el("span", { class: "sr" }, " not significant"));
  }

  function warningCell(row) {
    if (!row.warnings.length) return "";
    const [first, ...others] = row.warnings;
    const more = others.length ? [el("ul", {}, ...others.map((warning) => el("li", {}, warning)))] : [];
    return el("details", { class: "warn" },
      el("summary", { title: first }, others.length ? `${format.count(row.warnings.length, "warning")}: ${first}` : first), ...more);
  }

  function rowOf(state, language, code, warnings) {
    const { run, metric, step } = state;
    const peak = run.peak(metric, step, language);
    const style = language === MEAN ? null : nx.lineStyle(nx.order.get(code));
    return {
      code, name: language === MEAN ? `of ${format.count(run.languages.length, "language")}` : nx.data.names[code],
      style, colour: style ? style.colour : "currentColor", top: Math.max(0.05, run.highestEnd(metric)),
      score: run.score(metric, step, language), layer: peak.layer, peakIndex: peak.index, peak: peak.score,
      characters: run.baseline("characters", language), length: run.baseline("length", language),
      first: step === 0, warnings, warningCount: warnings.length,
      ...Object.fromEntries(run.columns.map((column) => [column, run.number(metric, step, language, column)])),
    };
  }

  /** Unknown values come last in both directions; equal ones keep the order of the corpus. */
  function compare(a, b) {
    const [x, y] = [a[sorting.key], b[sorting.key]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return sorting.descending ? -order : order;
  }

  /** The language table at the chosen step. */
  nx.drawTable = function (state) {
    const table = document.getElementById("table");
    if (!table.tHead) table.append(head(), el("tbody"), el("tfoot"));
    for (const heading of table.tHead.querySelectorAll("th")) {
      const chosen = heading.dataset.key === sorting.key;
      heading.setAttribute("aria-sort", chosen ? (sorting.descending ? "descending" : "ascending") : "none");
    }
    const [body, foot] = [table.tBodies[0], table.tFoot];
    body.replaceChildren();
    foot.replaceChildren();
    if (!state.run.metrics.has(state.metric)) return;
    const { byLanguage } = state.run.warningsAt(state.step);
    const rows = state.run.languages.map((code, k) => rowOf(state, k, code, byLanguage.get(code) ?? []));
    body.append(...rows.sort(compare).map((row) => line(row)));
    foot.append(line(rowOf(state, MEAN, "mean", [])));
  };

  function line(row) {
    const cells = COLUMNS.map(([key, , , content], k) =>
      el(k ? "td" : "th", { class: TEXT.has(key) ? "" : "num", ...(k ? {} : { scope: "row" }) }, content(row)));
    return el("tr", { "data-code": row.code }, ...cells);
  }

  function head() {
    const cells = COLUMNS.map(([key, heading, title]) => {
      const button = el("button", { type: "button", title }, heading, el("span", { class: "arrow", "aria-hidden": "true" }));
      button.addEventListener("click", () => {
        sorting.descending = sorting.key === key ? !sorting.descending : !TEXT.has(key) || key === "warningCount";
        sorting.key = key;
        nx.drawTable(nx.state);
      });
      return el("th", { scope: "col", "data-key": key, class: TEXT.has(key) ? "" : "num" }, button);
    });
    return el("thead", {}, el("tr", {}, ...cells));
  }

  /** Numbers as a small line chart, with gaps for missing ones. */
  function spark(numbers, low, high) {
    const span = high - low || 1;
    const x = (k) => 2 + (76 * k) / Math.max(1, numbers.length - 1);
    const y = (value) => 15 - (12 * (value - low)) / span;
    let path = "";
    numbers.forEach((value, k) => {
      if (value === null) return;
      const joined = k > 0 && numbers[k - 1] !== null;
      path += `${joined ? "L" : "M"}${x(k).toFixed(1)} ${y(value).toFixed(1)}${joined ? "" : "h.01"}`;
    });
    return svg("svg", { width: 80, height: 18, viewBox: "0 0 80 18", class: "spark", "aria-hidden": "true" }, svg("path", { d: path }));
  }

  const isNumber = (value) => value === null || typeof value === "number";
  const isCurve = (value) => Array.isArray(value) && value.length > 0 && value.every(isNumber);
  const isNode = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  function leafCell(value, bounds) {
    if (value === undefined) return "";
    if (isNumber(value)) return format.short(value);
    if (!isCurve(value)) return typeof value === "string" ? value : JSON.stringify(value);
    const known = value.filter((number) => number !== null);
    if (!known.length) return "n/a";
    const ends = `${format.short(Math.min(...known))} \u2026 ${format.short(Math.max(...known))}`;
    const gaps = value.length - known.length;
    return el("span", { class: "sparkcell", title: `${value.map(format.short).join("  ")}` },
      spark(value, ...bounds), el("span", { class: "muted" }, ends + (gaps ? `, ${gaps} n/a` : "")));
  }

  /** [path, value] of the leaves below a node. */
  function leaves(node, path = []) {
    return isNode(node) ? Object.entries(node).flatMap(([key, child]) => leaves(child, [...path, key])) : [[path.join(" \u203a ").replaceAll("_", " "), node]];
  }

  /** The lowest and highest number of all curves. */
  function bounds(values) {
    const numbers = values.flatMap((value) => (isCurve(value) ? value : [])).filter((number) => number !== null);
    return numbers.length ? [numbers.reduce((a, b) => Math.min(a, b)), numbers.reduce((a, b) => Math.max(a, b))] : [0, 1];
  }

  /** A table with a row per entry; the curves of a column have the same scale. */
  function grid(node) {
    const rows = Object.entries(node).map(([key, child]) => [key, new Map(leaves(child))]);
    const columns = [...new Set(rows.flatMap(([, values]) => [...values.keys()]))];
    const scales = columns.map((column) => bounds(rows.map(([, values]) => values.get(column))));
    const header = el("tr", {}, el("th", { scope: "col" }, ""), ...columns.map((column) => el("th", { scope: "col", class: "num" }, column)));
    const lines = rows.map(([key, values]) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, key)),
      ...columns.map((column, k) => el("td", { class: "num" }, leafCell(values.get(column), scales[k])))));
    return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, header), el("tbody", {}, ...lines)));
  }

  /** [path, node] of each table of a nested value; the rows are languages if the keys are. */
  function tables(node, languages, path = []) {
    const entries = Object.entries(node);
    const byLanguage = entries.length > 0 && entries.every(([key]) => languages.has(key));
    const deeper = entries.filter(([, child]) => isNode(child));
    if (byLanguage || !deeper.length) return [[path, node]];
    const flat = Object.fromEntries(entries.filter(([, child]) => !isNode(child)));
    return [
      ...(Object.keys(flat).length ? [[path, { "": flat }]] : []),
      ...deeper.flatMap(([key, child]) => tables(child, languages, [...path, key])),
    ];
  }

  /** The diagnostics of the last report; a table is drawn when it is opened. */
  nx.drawDiagnostics = function (run) {
    const languages = new Set(run.languages);
    const all = Object.entries(run.diagnostics).flatMap(([name, node]) => tables(isNode(node) ? node : { "": node }, languages, [name]));
    const sections = all.map(([path, node]) => {
      const details = el("details", { class: "diagnostic" }, el("summary", {}, path.join(" \u203a ").replaceAll("_", " ")));
      const fill = () => details.childElementCount > 1 || details.append(grid(node));
      details.addEventListener("toggle", fill);
      return details;
    });
    document.getElementById("diagnostics").replaceChildren(...(sections.length ? sections : [el("p", { class: "muted" }, "none in this report")]));
  };

  /** The fingerprints of all runs; entries that differ are marked. */
  nx.drawFingerprint = function (runs) {
    const several = runs.length > 1;
    const text = (value) => {
      if (value === undefined) return "\u2013";
      if (value === null) return "none";
      if (Array.isArray(value)) return value.join(", ");
      if (!isNode(value)) return String(value);
      return Object.entries(value).map(([key, child]) => `${key} ${JSON.stringify(child)}`).join(", ");
    };
    const parts = [...new Set(runs.flatMap((run) => Object.keys(run.fingerprint)))];
    const bodies = parts.map((part) => {
      const keys = [...new Set(runs.flatMap((run) => Object.keys(run.fingerprint[part] ?? {})))];
      const lines = keys.map((key) => {
        const values = runs.map((run) => text(run.fingerprint[part]?.[key]));
        const differs = new Set(values).size > 1;
        return el("tr", differs ? { class: "differs" } : {}, el("th", { scope: "row" }, key),
          ...values.map((value) => el("td", {}, el("bdi", {}, value))), ...(several ? [el("td", { class: "muted" }, differs ? "differs" : "")] : []));
      });
      return el("tbody", {}, el("tr", { class: "part" }, el("th", { scope: "rowgroup", colspan: runs.length + 1 + several }, part)), ...lines);
    });
    const names = runs.map((run) => el("th", { scope: "col" }, el("bdi", {}, run.name)));
    const header = several ? [el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), ...names, el("th", { scope: "col" }, "")))] : [];
    document.getElementById("fingerprint").replaceChildren(...header, ...bodies);
  };

  /** The notes of the page, then the warnings of the step that concern no single language. */
  nx.drawNotes = function (state) {
    const { general } = state.run.warningsAt(state.step);
    const box = document.getElementById("notes");
    const notes = [...nx.data.notes, ...general];
    box.hidden = !notes.length;
    box.replaceChildren(el("ul", {}, ...notes.map((note) => el("li", {}, note))));
  };
})(window.neuronxa);
