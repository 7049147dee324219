"use strict";
/*
 * CSV files of what is shown. A text that a spreadsheet would run gets an apostrophe in front of it,
 * as in the other tables of the package.
 */
(function (nx) {
  const { el, MEAN } = nx;
  const FORMULA_STARTS = ["=", "+", "-", "@", "\t", "\r"];

  /** A cell of a CSV file; null is empty. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    const text = FORMULA_STARTS.includes(value[0]) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  /** A table as the text of a CSV file. */
  nx.csv = (header, rows) => [header, ...rows].map((row) => row.map(cell).join(",") + "\n").join("");

  /** Adds a button to the head of a card; `table` returns {name, header, rows} of what is shown. */
  nx.addDownload = function (heading, table) {
    const button = el("button", { type: "button", class: "plain csv", title: "Download what is shown here as a CSV file" }, "CSV");
    button.addEventListener("click", () => {
      const { name, header, rows } = table(nx.state);
      const url = URL.createObjectURL(new Blob([nx.csv(header, rows)], { type: "text/csv" }));
      const link = el("a", { href: url, download: `${name}.csv` });
      link.click();
      // Some browsers begin the download later.
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
    heading.append(button);
  };

  /** The languages, groups and the mean that are shown: [index, code]. */
  function shownRows(state, run, languages) {
    return [
      ...(languages ? run.languages.map((code, k) => [k, code]).filter(([, code]) => state.shown.has(code)) : []),
      ...(state.groups ? run.groups.map(({ name }, k) => [nx.groupIndex(k), `group:${name}`]) : []),
      [MEAN, "mean"],
    ];
  }

  /** The scores of all runs over steps. */
  nx.stepsTable = function (state) {
    const { metric } = state;
    const rows = nx.data.runs.filter((run) => run.metrics.has(metric)).flatMap((run) =>
      shownRows(state, run, state.lines).flatMap(([language, code]) => run.steps.map((step, k) => [
        run.name, step, code, metric, run.score(metric, k, language),
        run.number(metric, k, language, "low"), run.number(metric, k, language, "high"), run.losses[k],
      ])));
    return { name: `${metric}-over-steps`, header: ["run", "step", "language", "metric", "score", "low", "high", "loss"], rows };
  };

  /** The values by layer of the chosen run and step. */
  nx.layersTable = function (state) {
    const { run, metric, step } = state, reference = nx.reference(state);
    const layers = run.metrics.get(metric)?.layers ?? [];
    const rows = layers.length ? shownRows(state, run, true).flatMap(([language, code]) => {
      const values = nx.layerValues(state, language), ends = nx.layerEnds(state, language);
      return values.map((value, k) => [
        run.name, run.steps[step], ...(reference ? [reference.run.name, reference.run.steps[reference.step]] : []),
        code, layers[k], metric, value, ends[k]?.[0], ends[k]?.[1],
      ]);
    }) : [];
    const minus = reference ? ["minus_run", "minus_step"] : [];
    const header = ["run", "step", ...minus, "language", "layer", "metric", reference ? "difference" : "score", "low", "high"];
    return { name: `${metric}-by-layer`, header, rows };
  };

  /** The table of languages, in its order. */
  nx.languagesTable = function (state) {
    const { run, metric, step } = state;
    const keys = [
      "code", "name", "score", "low", "high", "layer", "peak", "pivot_to_target", "target_to_pivot", "shuffled_baseline",
      "characters", "length", ...(nx.single ? [] : ["change", "change_low", "change_high", "p"]),
    ];
    const { languages, means } = nx.tableRows(state);
    const rows = [...languages, ...means].map((row) =>
      [run.name, run.steps[step], metric, ...keys.map((key) => row[key]), row.warnings.join("; ")]);
    return { name: `${metric}-languages`, header: ["run", "step", "metric", ...keys, "warnings"], rows };
  };
})(window.neuronxa);
