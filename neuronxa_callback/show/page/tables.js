"use strict";
/*
 * The tables: languages, diagnostics, fingerprint, notes. Text enters the page as text nodes only
 * (`el` appends strings, nothing parses markup), whatever a corpus or a run is called.
 */
(function (nx) {
  const { words, MEAN } = nx;
  const SVG = "http://www.w3.org/2000/svg";

  /** An element with attributes and children; strings become text. */
  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }
  nx.el = el;

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  /** A short stroke with the marker of a language, as its lines are drawn. */
  nx.swatch = function (look) {
    const dash = { dash: "6 3", dot: "2 2.5", dashdot: "6 2 2 2", longdash: "10 3", longdashdot: "9 2 2 2" }[look.dash];
    const shapes = {
      square: ["rect", { x: 9.5, y: 3.5, width: 7, height: 7 }],
      diamond: ["path", { d: "M13 2.5 17.5 7 13 11.5 8.5 7Z" }],
      "triangle-up": ["path", { d: "M13 2.5 17.5 11 8.5 11Z" }],
      cross: ["path", { d: "M11.5 3h3v2.5H17v3h-2.5V11h-3V8.5H9v-3h2.5Z" }],
      star: ["path", { d: "M13 2l1.5 3.5 3.5.3-2.7 2.4.9 3.6L13 9.8l-3.2 2 .9-3.6L8 5.8l3.5-.3Z" }],
    };
    const [tag, attributes] = shapes[look.marker] ?? ["circle", { cx: 13, cy: 7, r: 3.5 }];
    const stroke = { x1: 1, x2: 25, y1: 7, y2: 7, stroke: look.colour, "stroke-width": 2, ...(dash ? { "stroke-dasharray": dash } : {}) };
    return svg("svg", { width: 26, height: 14, viewBox: "0 0 26 14", class: "swatch", "aria-hidden": "true" },
      svg("line", stroke), svg(tag, { ...attributes, fill: look.colour }));
  };

  /** A score as a dot within its interval, on a scale from 0 to `top`. */
  function forest(row, top) {
    const at = (value) => 3 + 114 * Math.min(1, value / top);
    const made = svg("svg", { width: 120, height: 14, viewBox: "0 0 120 14", class: "forest", "aria-hidden": "true" },
      svg("line", { x1: 3, x2: 117, y1: 7, y2: 7, class: "track" }));
    if (row.low !== null) made.append(svg("line", { x1: at(row.low), x2: at(row.high), y1: 7, y2: 7, class: "range", stroke: row.colour }));
    if (row.score !== null) made.append(svg("circle", { cx: at(row.score), cy: 7, r: 3.5, fill: row.colour }));
    return made;
  }

  /* key, heading, what it is, how a row shows it; the key's value is what rows are sorted by. */
  const COLUMNS = [
    ["code", "Code", "Code of the language", (row) => codeCell(row)],
    ["name", "Language", "Name of the language", (row) => row.name],
    ["score", "Score", "Share of weakly aligned pairs, mean over layers", (row) => words.number(row.score)],
    ["low", "95\u202f% interval", "Interval of the score, by its lower end", (row) => intervalCell(row)],
    ["peakAt", "Best layer", "The layer with the highest score", (row) => peakCell(row)],
    ["pivot_to_target", "From pivot", "Nearest-neighbour accuracy from pivot to language", (row) => words.number(row.pivot_to_target, 2)],
    ["target_to_pivot", "To pivot", "Nearest-neighbour accuracy from language to pivot", (row) => words.number(row.target_to_pivot, 2)],
    ["shuffled_baseline", "Shuffled", "Expected score if the same similarities were paired at random", (row) => words.number(row.shuffled_baseline)],
    ["characters", "3-grams", "What spelling alone would score: character 3-grams under the same rule", (row) => words.number(row.characters, 2)],
    ["length", "Length", "What length alone would score, under the same rule", (row) => words.number(row.length, 2)],
    ["change", "Since first", "Paired change since the first probe, with its 95 % interval", (row) => changeCell(row)],
    ["warned", "Warnings", "What makes the score doubtful", (row) => warningCell(row)],
  ];
  const TEXT = new Set(["code", "name", "warned"]);
  const sorting = { key: "score", descending: true };

  function codeCell(row) {
    return el("span", { class: "code" }, ...(row.look ? [nx.swatch(row.look)] : []), el("bdi", {}, row.code));
  }

  function intervalCell(row) {
    return el("span", { class: "interval" }, forest(row, row.top), el("span", {}, words.interval(row.low, row.high)));
  }

  function peakCell(row) {
    if (row.layer === null) return "n/a";
    return el("span", {}, el("bdi", {}, row.layer), el("span", { class: "muted" }, ` (${words.number(row.peak, 2)})`));
  }

  function changeCell(row) {
    if (row.first) return el("span", { class: "muted" }, "first probe");
    if (row.change === null) return "n/a";
    const sure = row.p !== null && row.p < 0.05;
    const verdict = sure ? "significant" : "not significant";
    return el("span", { class: sure ? "sure" : "muted", title: `${verdict}, ${words.p(row.p)} (Holm over languages)` },
      `${words.signed(row.change)} `,
      el("span", { class: "muted" }, `[${words.interval(row.change_low, row.change_high)}]`),
      sure ? " *" : el("span", { class: "sr" }, " not significant"));
  }

  function warningCell(row) {
    if (!row.warnings.length) return "";
    const [first, ...others] = row.warnings;
    const more = others.length ? [el("ul", {}, ...others.map((each) => el("li", {}, each)))] : [];
    return el("details", { class: "warn" },
      el("summary", { title: first }, others.length ? `${words.several(row.warnings.length, "warning")}: ${first}` : first), ...more);
  }

  function rowOf(state, language, code, warnings) {
    const { run, metric, step } = state;
    const peak = run.peak(metric, step, language);
    const of = (column) => run.number(metric, step, language, column);
    const look = language === MEAN ? null : nx.look(nx.order.get(code));
    return {
      code, name: language === MEAN ? `of ${words.several(run.languages.length, "language")}` : nx.data.names[code],
      look, colour: look ? look.colour : "currentColor", top: Math.max(0.05, run.reach(metric)),
      score: run.score(metric, step, language), layer: peak.layer, peakAt: peak.at, peak: peak.score,
      characters: run.baseline("characters", language), length: run.baseline("length", language),
      first: step === 0, warnings, warned: warnings.length,
      ...Object.fromEntries(run.columns.map((column) => [column, of(column)])),
    };
  }

  /** What is unknown comes last, whichever way is up; equals stay in the order of the corpus. */
  function compare(a, b) {
    const [x, y] = [a[sorting.key], b[sorting.key]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return sorting.descending ? -order : order;
  }

  /** The language table at the chosen step. */
  nx.drawTable = function (state) {
    const table = document.getElementById("table");
    if (!table.tHead) table.append(head(state), el("tbody"), el("tfoot"));
    for (const each of table.tHead.querySelectorAll("th")) {
      const chosen = each.dataset.key === sorting.key;
      each.setAttribute("aria-sort", chosen ? (sorting.descending ? "descending" : "ascending") : "none");
    }
    const [body, foot] = [table.tBodies[0], table.tFoot];
    body.replaceChildren();
    foot.replaceChildren();
    if (!state.run.metrics.has(state.metric)) return;
    const { of } = state.run.warned(state.step);
    const rows = state.run.languages.map((code, k) => rowOf(state, k, code, of.get(code) ?? []));
    body.append(...rows.sort(compare).map((row) => line(row)));
    foot.append(line(rowOf(state, MEAN, "mean", [])));
  };

  function line(row) {
    const cells = COLUMNS.map(([key, , , show], k) =>
      el(k ? "td" : "th", { class: TEXT.has(key) ? "" : "num", ...(k ? {} : { scope: "row" }) }, show(row)));
    return el("tr", { "data-code": row.code }, ...cells);
  }

  function head(state) {
    const cells = COLUMNS.map(([key, title, says]) => {
      const button = el("button", { type: "button", title: says }, title, el("span", { class: "arrow", "aria-hidden": "true" }));
      button.addEventListener("click", () => {
        sorting.descending = sorting.key === key ? !sorting.descending : !TEXT.has(key) || key === "warned";
        sorting.key = key;
        nx.drawTable(nx.state);
      });
      return el("th", { scope: "col", "data-key": key, class: TEXT.has(key) ? "" : "num" }, button);
    });
    return el("thead", {}, el("tr", {}, ...cells));
  }

  /** A line of numbers as a small stroke, broken where one is missing. */
  function spark(numbers, low, high) {
    const span = high - low || 1;
    const x = (k) => 2 + (76 * k) / Math.max(1, numbers.length - 1);
    const y = (value) => 15 - (12 * (value - low)) / span;
    let path = "";
    numbers.forEach((value, k) => {
      if (value === null) return;
      const goes = k > 0 && numbers[k - 1] !== null;
      path += `${goes ? "L" : "M"}${x(k).toFixed(1)} ${y(value).toFixed(1)}${goes ? "" : "h.01"}`;
    });
    return svg("svg", { width: 80, height: 18, viewBox: "0 0 80 18", class: "spark", "aria-hidden": "true" }, svg("path", { d: path }));
  }

  const isNumber = (value) => value === null || typeof value === "number";
  const isCurve = (value) => Array.isArray(value) && value.length > 0 && value.every(isNumber);
  const isNode = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  function leafCell(value, bounds) {
    if (value === undefined) return "";
    if (isNumber(value)) return words.short(value);
    if (!isCurve(value)) return typeof value === "string" ? value : JSON.stringify(value);
    const known = value.filter((each) => each !== null);
    if (!known.length) return "n/a";
    const ends = `${words.short(Math.min(...known))} \u2026 ${words.short(Math.max(...known))}`;
    const gaps = value.length - known.length;
    return el("span", { class: "sparkcell", title: `${value.map(words.short).join("  ")}` },
      spark(value, ...bounds), el("span", { class: "muted" }, ends + (gaps ? `, ${gaps} n/a` : "")));
  }

  /** The leaves below a node, by the words that lead there. */
  function leaves(node, path = []) {
    return isNode(node) ? Object.entries(node).flatMap(([key, each]) => leaves(each, [...path, key])) : [[path.join(" \u203a ").replaceAll("_", " "), node]];
  }

  function bounds(values) {
    const numbers = values.flatMap((each) => (isCurve(each) ? each : [])).filter((each) => each !== null);
    return numbers.length ? [numbers.reduce((a, b) => Math.min(a, b)), numbers.reduce((a, b) => Math.max(a, b))] : [0, 1];
  }

  /** A table with a row per entry; each column of curves has one scale. */
  function grid(node) {
    const rows = Object.entries(node).map(([key, each]) => [key, new Map(leaves(each))]);
    const columns = [...new Set(rows.flatMap(([, known]) => [...known.keys()]))];
    const scales = columns.map((column) => bounds(rows.map(([, known]) => known.get(column))));
    const header = el("tr", {}, el("th", { scope: "col" }, ""), ...columns.map((each) => el("th", { scope: "col", class: "num" }, each)));
    const lines = rows.map(([key, known]) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, key)),
      ...columns.map((column, k) => el("td", { class: "num" }, leafCell(known.get(column), scales[k])))));
    return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, header), el("tbody", {}, ...lines)));
  }

  /** Tables for whatever nests: rows are languages where a level's keys are languages. */
  function tables(node, languages, path = []) {
    const entries = Object.entries(node);
    const byLanguage = entries.length > 0 && entries.every(([key]) => languages.has(key));
    const deeper = entries.filter(([, each]) => isNode(each));
    if (byLanguage || !deeper.length) return [[path, node]];
    const flat = Object.fromEntries(entries.filter(([, each]) => !isNode(each)));
    return [
      ...(Object.keys(flat).length ? [[path, { "": flat }]] : []),
      ...deeper.flatMap(([key, each]) => tables(each, languages, [...path, key])),
    ];
  }

  /** Diagnostics of a run's last report, drawn when they are opened. */
  nx.drawDiagnostics = function (run) {
    const languages = new Set(run.languages);
    const found = Object.entries(run.diagnostics).flatMap(([name, node]) => tables(isNode(node) ? node : { "": node }, languages, [name]));
    const made = found.map(([path, node]) => {
      const details = el("details", { class: "diagnostic" }, el("summary", {}, path.join(" \u203a ").replaceAll("_", " ")));
      const fill = () => details.childElementCount > 1 || details.append(grid(node));
      details.addEventListener("toggle", fill);
      return details;
    });
    document.getElementById("diagnostics").replaceChildren(...(made.length ? made : [el("p", { class: "muted" }, "none in this report")]));
  };

  /** What each run measured, entry by entry; entries in which runs differ are marked. */
  nx.drawFingerprint = function (runs) {
    const several = runs.length > 1;
    const said = (value) => (value === undefined ? "\u2013" : value === null ? "none" : Array.isArray(value) ? value.join(", ") : isNode(value) ? Object.entries(value).map(([key, each]) => `${key} ${JSON.stringify(each)}`).join(", ") : String(value));
    const parts = [...new Set(runs.flatMap((run) => Object.keys(run.fingerprint)))];
    const bodies = parts.map((part) => {
      const keys = [...new Set(runs.flatMap((run) => Object.keys(run.fingerprint[part] ?? {})))];
      const lines = keys.map((key) => {
        const values = runs.map((run) => said(run.fingerprint[part]?.[key]));
        const differs = new Set(values).size > 1;
        return el("tr", differs ? { class: "differs" } : {}, el("th", { scope: "row" }, key),
          ...values.map((each) => el("td", {}, el("bdi", {}, each))), ...(several ? [el("td", { class: "muted" }, differs ? "differs" : "")] : []));
      });
      return el("tbody", {}, el("tr", { class: "part" }, el("th", { scope: "rowgroup", colspan: runs.length + 1 + several }, part)), ...lines);
    });
    const names = runs.map((run) => el("th", { scope: "col" }, el("bdi", {}, run.name)));
    const header = several ? [el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), ...names, el("th", { scope: "col" }, "")))] : [];
    document.getElementById("fingerprint").replaceChildren(...header, ...bodies);
  };

  /** Notes on the file, then the step's warnings that concern no single language. */
  nx.drawNotes = function (state) {
    const { general } = state.run.warned(state.step);
    const box = document.getElementById("notes");
    const said = [...nx.data.notes, ...general];
    box.hidden = !said.length;
    box.replaceChildren(el("ul", {}, ...said.map((each) => el("li", {}, each))));
  };
})(window.neuronxa);
