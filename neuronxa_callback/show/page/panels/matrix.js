"use strict";
/*
 * The scores of all pairs of languages of the chosen run, as a heat map.
 */
(function (nx) {
  const { el, format, label } = nx;
  const { CONFIG, themeColours, layout } = nx.plotting;
  const FINEST = 65534;

  const known = (value) => (value > FINEST ? null : value / FINEST);
  const tableOf = ({ run, metric }) => run.panels.matrix?.metrics?.[metric];

  /** The number of a pair of languages: cells above the diagonal, row by row. */
  function pairNumber(one, other, count) {
    const [i, j] = one < other ? [one, other] : [other, one];
    return i * count - (i * (i + 1)) / 2 + j - i - 1;
  }

  /** The score of two languages in a layer, or "mean" over layers; null if unknown or the same. */
  function score(table, one, other, layer) {
    if (one === other) return null;
    const { numbers, shape: [layers, pairs] } = table.shares, pair = pairNumber(one, other, table.languages.length);
    if (layer !== "mean") return known(numbers[Number(layer) * pairs + pair]);
    const scores = Array.from({ length: layers }, (_, k) => known(numbers[k * pairs + pair]));
    return scores.includes(null) ? null : scores.reduce((a, b) => a + b, 0) / layers;
  }

  /** The interval of a mean over layers; null for a layer, which has none. */
  function ends(table, one, other, layer) {
    if (layer !== "mean" || one === other) return null;
    const pair = pairNumber(one, other, table.languages.length);
    const [low, high] = [0, 1].map((end) => known(table.intervals.numbers[2 * pair + end]));
    return low === null || high === null ? null : [low, high];
  }

  const layerOf = (state) => nx.chosen(panel, "matrixLayer", state);

  /** The indices of the languages shown, in the chosen order; the pivot is always shown. */
  function rows(state, table) {
    const order = nx.chosen(panel, "matrixOrder", state) === "clustered" ? table.clustered : table.languages.map((_, k) => k);
    return order.filter((k) => k === 0 || state.shown.has(table.languages[k]));
  }

  function hover(table, one, other, layer) {
    const value = score(table, one, other, layer), interval = ends(table, one, other, layer);
    const names = [one, other].map((k) => label(nx.fullName(table.languages[k]))).join(" \u2013 ");
    if (one === other) return `<b>${names.split(" \u2013 ")[0]}</b><br>the same language`;
    return `<b>${names}</b><br>${format.number(value)}${interval ? `<br>95 %: ${format.interval(...interval, 2)}` : ""}`;
  }

  const panel = {
    id: "matrix",
    title: "Language \u00d7 language",
    options: [
      {
        key: "matrixLayer", label: "Layer",
        choices: (state) => [["mean", "mean over layers"], ...(tableOf(state)?.layers ?? []).map((layer, k) => [String(k), layer])],
      },
      { key: "matrixOrder", label: "Order", choices: () => [["clustered", "similar ones together"], ["corpus", "corpus"]] },
    ],
    visible: (state) => tableOf(state) !== undefined,
    draw(state, body) {
      if (!body.childElementCount) body.append(el("div", { id: "matrix", class: "chart" }), el("p", { class: "muted small" }));
      const [chart, note] = body.children, colours = themeColours(), table = tableOf(state), layer = layerOf(state);
      const shown = rows(state, table), ticks = shown.map((_, k) => k), codes = shown.map((k) => label(table.languages[k]));
      chart.style.height = `${Math.max(340, 130 + 15 * shown.length)}px`;
      note.textContent = `Step ${format.step(state.run.panels.matrix.step)}. Share of weakly aligned pairs between every two languages; the diagonal is not measured. Chance is ${format.number(state.run.chance)}.`;
      const z = shown.map((one) => shown.map((other) => score(table, one, other, layer)));
      return Plotly.react(chart, [{
        type: "heatmap", z, text: shown.map((one) => shown.map((other) => hover(table, one, other, layer))),
        hovertemplate: "%{text}<extra></extra>", hoverongaps: true, xgap: 1, ygap: 1, zmin: 0,
        zmax: z.flat().reduce((top, value) => Math.max(top, value ?? 0), 0.05), colorscale: "Viridis",
        colorbar: { thickness: 10, outlinewidth: 0, len: 1, tickfont: { size: 11, color: colours.muted }, ticklen: 3 },
      }], layout(colours, {
        plot_bgcolor: colours.gap, margin: { l: 80, r: 76, t: 26, b: 80 },
        xaxis: { tickvals: ticks, ticktext: codes, tickangle: -60, showgrid: false, ticks: "", range: [-0.5, shown.length - 0.5] },
        yaxis: { tickvals: ticks, ticktext: codes, showgrid: false, ticks: "", range: [shown.length - 0.5, -0.5] },
      }), CONFIG);
    },
    mark: () => undefined,
    table(state) {
      const table = tableOf(state), layer = layerOf(state), shown = rows(state, table);
      const pairs = shown.flatMap((one, k) => shown.slice(k + 1).map((other) => [one, other]));
      return {
        name: `${state.metric}-between-languages`,
        header: ["run", "step", "metric", "language", "other", "layer", "score", "low", "high"],
        rows: pairs.map(([one, other]) => [
          state.run.name, state.run.panels.matrix.step, state.metric, table.languages[one], table.languages[other],
          layer === "mean" ? "mean" : table.layers[layer], score(table, one, other, layer), ...(ends(table, one, other, layer) ?? [null, null]),
        ]),
      };
    },
  };
  nx.addPanel(panel);
})(window.neuronxa);
