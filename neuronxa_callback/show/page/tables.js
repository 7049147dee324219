"use strict";
/*
 * The table of languages. Text enters the page as text nodes only: `el` appends strings, and nothing
 * parses markup.
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

  nx.svg = svg;

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
  nx.SORT_KEYS = COLUMNS.map(([key]) => key);

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

  /** The columns of the page; with a single probe there is no change. */
  const columns = () => COLUMNS.filter(([key]) => key !== "change" || !nx.single);

  function rowOf(state, language, code, warnings) {
    const { run, metric, step } = state;
    const peak = run.peak(metric, step, language);
    const style = language >= 0 ? nx.lineStyle(nx.order.get(code)) : language === MEAN ? null : nx.groupStyle(-2 - language);
    return {
      code, name: language >= 0 ? nx.data.names[code] : `of ${format.count(run.rows(language).length, "language")}`,
      style, colour: style ? style.colour : "currentColor", top: Math.max(0.05, run.highestEnd(metric)),
      score: run.score(metric, step, language), layer: peak.layer, peakIndex: peak.index, peak: peak.score,
      characters: run.baseline("characters", language), length: run.baseline("length", language),
      first: step === 0, warnings, warningCount: warnings.length,
      ...Object.fromEntries(run.columns.map((column) => [column, run.number(metric, step, language, column)])),
    };
  }

  /** Unknown values come last in both directions; equal ones keep the order of the corpus. */
  function compare(a, b, sorting) {
    const [x, y] = [a[sorting.key], b[sorting.key]];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return sorting.descending ? -order : order;
  }

  /** {languages, means}: the rows of the table from top to bottom; none without the metric. */
  nx.tableRows = function (state) {
    const { run } = state;
    if (!run.metrics.has(state.metric)) return { languages: [], means: [] };
    const { byLanguage } = run.warningsAt(state.step);
    const languages = run.languages.map((code, k) => rowOf(state, k, code, byLanguage.get(code) ?? []));
    const groups = run.groups.map(({ name }, k) => rowOf(state, nx.groupIndex(k), name, []));
    return { languages: languages.sort((a, b) => compare(a, b, state.sort)), means: [...groups, rowOf(state, MEAN, "mean", [])] };
  };

  /** The language table at the chosen step. */
  nx.drawTable = function (state) {
    const table = document.getElementById("table"), { key, descending } = state.sort;
    if (!table.tHead) table.append(head(), el("tbody"), el("tfoot"));
    for (const heading of table.tHead.querySelectorAll("th")) {
      const chosen = heading.dataset.key === key;
      heading.setAttribute("aria-sort", chosen ? (descending ? "descending" : "ascending") : "none");
    }
    const { languages, means } = nx.tableRows(state);
    table.tBodies[0].replaceChildren(...languages.map((row) => line(row, { "data-code": row.code })));
    table.tFoot.replaceChildren(...means.map((row, k) => line(row, k === means.length - 1 ? { "data-code": row.code } : { "data-group": row.code })));
  };

  function line(row, attributes) {
    const cells = columns().map(([key, , , content], k) =>
      el(k ? "td" : "th", { class: TEXT.has(key) ? "" : "num", ...(k ? {} : { scope: "row" }) }, content(row)));
    return el("tr", attributes, ...cells);
  }

  function head() {
    const cells = columns().map(([key, heading, title]) => {
      const button = el("button", { type: "button", title }, heading, el("span", { class: "arrow", "aria-hidden": "true" }));
      button.addEventListener("click", () => {
        const { sort } = nx.state;
        const descending = sort.key === key ? !sort.descending : !TEXT.has(key) || key === "warningCount";
        nx.update({ sort: { key, descending } }, []);
        nx.drawTable(nx.state);
      });
      return el("th", { scope: "col", "data-key": key, class: TEXT.has(key) ? "" : "num" }, button);
    });
    return el("thead", {}, el("tr", {}, ...cells));
  }
})(window.neuronxa);
