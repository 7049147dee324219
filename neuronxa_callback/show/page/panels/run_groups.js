"use strict";
/*
 * Groups of runs, such as seeds of one recipe: the mean over runs, the spread between runs, and the
 * interval over sentence pairs; and how groups differ at their last common step.
 */
(function (nx) {
  const { el, format, label, MEAN } = nx;
  const { CONFIG, DASHES, MARKERS, themeColours, layout, band } = nx.plotting;

  const data = () => nx.data.run_groups;
  const nameOf = (row) => (row === "mean" ? "mean over languages" : row.startsWith("group:") ? `group ${row.slice(6)}` : nx.fullName(row));

  /** A column at every common step of a group. */
  function column(group, metric, row, name) {
    const { numbers, shape } = group.means[metric], k = data().rows.indexOf(row), c = data().columns.indexOf(name);
    return group.steps.map((_, t) => nx.orNull(numbers[(t * shape[1] + k) * shape[2] + c]));
  }

  /** {difference, low, high, p} of a row. */
  function difference(found, metric, row) {
    const { numbers, shape } = found.metrics[metric], k = data().rows.indexOf(row);
    return Object.fromEntries(data().difference_columns.map((name, c) => [name, nx.orNull(numbers[k * shape[1] + c])]));
  }

  /** The index of a row in a run; undefined if the run does not have it. */
  function indexIn(run, row) {
    if (row === "mean") return MEAN;
    if (!row.startsWith("group:")) return run.index.get(row);
    const k = run.groups.findIndex(({ name }) => name === row.slice(6));
    return k < 0 ? undefined : nx.groupIndex(k);
  }

  function groupTraces(group, number, state, row) {
    const { metric } = state, style = { ...nx.lineStyle(number), dash: DASHES[number % DASHES.length], marker: MARKERS[number % MARKERS.length] };
    const [mean, spread, low, high] = data().columns.map((name) => column(group, metric, row, name));
    const runs = nx.data.runs.filter(({ name }) => group.runs.includes(name)).flatMap((run) => {
      const language = indexIn(run, row);
      return language === undefined ? [] : [{
        type: "scatter", mode: "lines", x: run.steps, y: run.scores(metric, language), showlegend: false, opacity: 0.55,
        line: { color: style.colour, width: 1, dash: style.dash }, hovertemplate: `${label(run.name)}<br>step %{x}: %{y:.3f}<extra></extra>`,
      }];
    });
    const text = mean.map((value, k) => `${format.number(value)}<br>spread between runs ${format.number(spread[k])}<br>95 % over pairs ${format.interval(low[k], high[k], 3)}`);
    return [
      band(group.steps, low, high, style.colour, 0.16, {}), ...runs,
      {
        type: "scatter", mode: "lines+markers", x: group.steps, y: mean, text, name: `${label(group.name)}: mean of ${group.runs.length} runs`,
        hovertemplate: `<b>${label(group.name)}</b><br>step %{x}: %{text}<extra></extra>`,
        line: { color: style.colour, width: 3, dash: style.dash }, marker: { symbol: style.marker, size: 6, color: style.colour },
        error_y: { type: "data", array: spread, color: style.colour, thickness: 1.5, width: 4 },
      },
    ];
  }

  function drawChart(state, row) {
    const colours = themeColours(), traces = data().groups.flatMap((group, k) => groupTraces(group, k, state, row));
    const top = traces.flatMap(({ y, error_y: bars }) => y.map((value, k) => (value ?? 0) + (bars?.array[k] ?? 0))).reduce((a, b) => Math.max(a, b), 0.05);
    return Plotly.react("run-groups", traces, layout(colours, {
      showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
      margin: { l: 64, r: 16, t: 40, b: 52 }, uirevision: state.metric + row,
      xaxis: { title: { text: "step" }, showgrid: false }, yaxis: { title: { text: "weakly aligned pairs" }, range: [0, 1.05 * top] },
    }), CONFIG);
  }

  /** {header, rows}: a row per language, group and mean; [text, sort value] is left to CSV. */
  function numbersOf(state) {
    const { metric } = state;
    return data().rows.map((row) => ({
      row,
      groups: data().groups.map((group) => Object.fromEntries(data().columns.map((name) => [name, column(group, metric, row, name).at(-1)]))),
      differences: data().differences.filter(({ step }) => step !== null).map((found) => difference(found, metric, row)),
    }));
  }

  function drawTable(state) {
    const compared = data().differences.filter(({ step }) => step !== null);
    const header = [
      "", ...data().groups.map(({ name, steps }) => `${name} at step ${format.step(steps.at(-1))}`),
      ...compared.map(({ groups, step }) => `${groups[1]} minus ${groups[0]} at step ${format.step(step)}`),
    ];
    const lines = numbersOf(state).map(({ row, groups, differences }) => el("tr", {}, el("th", { scope: "row" }, el("bdi", {}, nameOf(row))),
      ...groups.map(({ mean, spread, low, high }) => el("td", { class: "num" }, `${format.number(mean)} \u00b1 ${format.number(spread)} `,
        el("span", { class: "muted" }, `[${format.interval(low, high)}]`))),
      ...differences.map(({ difference: value, low, high, p }) => {
        const significant = p !== null && p < 0.05;
        return el("td", { class: "num", title: format.p(p) }, el("span", { class: significant ? "significant" : "muted" },
          `${format.signed(value)} [${format.interval(low, high)}]${significant ? " *" : ""}`));
      })));
    return el("table", {}, el("thead", {}, el("tr", {}, ...header.map((text) => el("th", { scope: "col", class: text ? "num" : "" }, text)))), el("tbody", {}, ...lines));
  }

  const NOTE = "\u00b1 and error bars: standard deviation between runs. Brackets and bands: 95 % over sentence pairs, for these runs."
    + " A difference has both in its interval (runs are the unit); * marks p < 0.05 (Holm over languages, and over groups).";

  const panel = {
    id: "run-groups",
    title: "Groups of runs",
    options: [{ key: "row", label: "Of", choices: () => [...(data()?.rows ?? [])].reverse().map((row) => [row, nameOf(row)]) }],
    visible: (state) => Boolean(data()) && data().groups.every(({ means }) => state.metric in means),
    draw(state, body) {
      if (!body.childElementCount) {
        body.append(el("div", { id: "run-groups", class: "chart tall" }), el("div", { class: "scroll" }), el("p", { class: "muted small" }, NOTE));
      }
      body.children[1].replaceChildren(drawTable(state));
      return drawChart(state, nx.chosen(panel, "row", state));
    },
    mark: () => undefined,
    table(state) {
      const compared = data().differences.filter(({ step }) => step !== null);
      const header = ["language", "metric",
        ...data().groups.flatMap(({ name }) => data().columns.map((column) => `${name} ${column}`)),
        ...compared.flatMap(({ groups }) => data().difference_columns.map((column) => `${groups[1]} minus ${groups[0]} ${column}`))];
      const rows = numbersOf(state).map(({ row, groups, differences }) => [row, state.metric,
        ...groups.flatMap((found) => data().columns.map((column) => found[column])),
        ...differences.flatMap((found) => data().difference_columns.map((column) => found[column]))]);
      return { name: `${state.metric}-groups-of-runs`, header, rows };
    },
  };
  nx.addPanel(panel);
})(window.neuronxa);
