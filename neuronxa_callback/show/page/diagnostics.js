"use strict";
/*
 * Diagnostics, fingerprint, notes. Text enters the page as text nodes only, as in tables.js.
 */
(function (nx) {
  const { el, svg, format } = nx;

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
