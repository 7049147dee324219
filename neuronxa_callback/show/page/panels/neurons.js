"use strict";
/*
 * Curves of the neuron statistics of the chosen run beside its alignment, over steps or by layer:
 * overlap with the pivot, sharing beyond its null, language neurons.
 */
(function (nx) {
  const { el, format, label, MEAN } = nx;
  const { CONFIG, DASHES, MARKERS, themeColours, layout, band } = nx.plotting;
  const FINEST = 65534;
  const SHARING = ["all", "partial", "specific", "silent"];
  const KINDS = ["specific", "related", "agnostic", "silent"];
  const QUANTILE = 1.96;

  /** The number at an index [step, ...] of a packed array; null if unknown. */
  function at({ numbers, shape }, ...index) {
    const value = numbers[index.reduce((place, k, axis) => place * shape[axis] + k, 0)];
    return value > FINEST ? null : value / FINEST;
  }

  const mean = (values) => (values.length && !values.includes(null) ? values.reduce((a, b) => a + b, 0) / values.length : null);

  /** What a chart draws over steps (a mean over layers each) or by layer (at the chosen step). */
  function points(state, array, values) {
    const layers = array.shape.at(-1), { run, step } = state;
    const ofLayers = (t) => Array.from({ length: layers }, (_, layer) => values(t, layer));
    return view(state) === "layers" ? ofLayers(step) : run.steps.map((_, t) => mean(ofLayers(t)));
  }

  const view = (state) => nx.chosen(panel, "neurons", state);

  /** The colour, dash and marker of kind k, apart from those of languages by its marker. */
  const kindStyle = (k) => ({ ...nx.lineStyle(k), dash: DASHES[k], marker: MARKERS[k] });

  function alignment(state) {
    const { run, metric, step } = state, byLayer = view(state) === "layers";
    if (!run.metrics.has(metric)) return null;
    const values = (language) => (byLayer ? run.curve(metric, step, language) : run.scores(metric, language));
    const ends = (column) => (byLayer ? null : run.column(metric, MEAN, column));
    return {
      title: `${metric}: weakly aligned pairs`, note: "dotted: chance",
      series: [
        ...languages(state, values),
        { name: "mean", y: values(MEAN), low: ends("low"), high: ends("high"), bold: true },
        { name: "chance", y: values(MEAN).map(() => run.chance), base: true },
      ],
    };
  }

  /** A thin line per language shown, as in the chart of scores. */
  function languages(state, values) {
    if (!state.lines) return [];
    return state.run.languages.map((code, k) => [code, k]).filter(([code]) => state.shown.has(code)).map(([code, k]) =>
      ({ name: nx.fullName(code), y: values(k), style: nx.lineStyle(nx.order.get(code)) }));
  }

  function overlap(state) {
    const { overlap_with_pivot: found, overlap_chance: chance, overlap_ceiling: ceiling } = state.run.panels.neurons;
    if (!found) return null;
    const all = state.run.languages.map((_, k) => k);
    return {
      title: "Overlap of the most active neurons with the pivot", note: "dotted: chance; dashed: ceiling, even against odd sentences",
      series: [
        ...languages(state, (k) => points(state, found, (t, layer) => at(found, t, k, layer))),
        { name: "mean", y: points(state, found, (t, layer) => mean(all.map((k) => at(found, t, k, layer)))), bold: true },
        { name: "ceiling", y: points(state, ceiling, (t, layer) => at(ceiling, t, layer)), dash: "dash" },
        { name: "chance", y: points(state, chance, (t, layer) => at(chance, t, layer)), base: true },
      ],
    };
  }

  function sharing(state) {
    const found = state.run.panels.neurons[`sharing_${nx.chosen(panel, "rule", state)}`];
    if (!found) return null;
    const [SHARES, NULL, ERRORS] = [0, 1, 2];
    const series = SHARING.map((name, kind) => {
      const part = (which) => points(state, found, (t, layer) => at(found, t, which, kind, layer));
      const [shares, expected, errors] = [part(SHARES), part(NULL), part(ERRORS)];
      const less = (values) => values.map((value, k) => (value === null || expected[k] === null ? null : value - expected[k]));
      const end = (sign) => shares.map((share, k) => (share === null || errors[k] === null ? null : share + sign * QUANTILE * errors[k]));
      return {
        name: { all: "in all languages", partial: "in some", specific: "in one", silent: "in none" }[name],
        y: less(shares), low: less(end(-1)), high: less(end(1)), style: kindStyle(kind), bold: kind === 0,
        hover: shares.map((share, k) => `share ${format.number(share)}, null ${format.number(expected[k])}`),
      };
    });
    return { title: "Sharing: neurons that fire for a sentence, beyond the null", note: "share minus that of re-paired sentences; bands: 95 %, wide for a mean over layers", series, signed: true };
  }

  function languageNeurons(state) {
    const { language_neurons_kinds: found } = state.run.panels.neurons;
    if (!found) return null;
    const series = KINDS.map((name, kind) => ({ name, y: points(state, found, (t, layer) => at(found, t, kind, layer)), style: kindStyle(kind) }));
    return { title: "Language neurons: share of all neurons", note: "a neuron fires more often than the bar of the first probe in one language, several, all, none", series };
  }

  const CHARTS = { alignment, overlap, sharing, languages: languageNeurons };

  /** {id: chart} of the charts that have data. */
  function charts(state) {
    const entries = Object.entries(CHARTS).map(([id, make]) => [id, make(state)]);
    return Object.fromEntries(entries.filter(([, chart]) => chart));
  }

  function traces(chart, x, colours) {
    const lines = chart.series.map(({ name, y, low, high, style, bold, base, dash, hover }) => {
      const colour = style?.colour ?? (base || dash ? colours.muted : colours.ink);
      const plain = base || dash;
      const text = y.map((value, k) => [
        chart.signed ? format.signed(value) : format.number(value),
        ...(low?.[k] != null ? [`95 %: ${format.interval(low[k], high[k], 3)}`] : []), ...(hover ? [hover[k]] : []),
      ].join("<br>"));
      return [
        ...(low ? [band(x, low, high, colour, 0.14, {})] : []),
        {
          type: "scatter", mode: plain ? "lines" : "lines+markers", x, y, name: label(name), text, connectgaps: false,
          hovertemplate: `<b>${label(name)}</b><br>%{x}: %{text}<extra></extra>`,
          line: { color: colour, width: bold ? 3 : 1.4, dash: base ? "2px,3px" : dash ?? style?.dash ?? "solid" },
          marker: { symbol: style?.marker ?? "circle", size: 5, maxdisplayed: 20, color: colour },
          showlegend: Boolean(chart.series.length <= 5 || bold || plain),
        },
      ];
    });
    return lines.flat();
  }

  function drawChart(id, chart, state) {
    const colours = themeColours(), byLayer = view(state) === "layers", { run } = state;
    const layers = byLayer ? run.metrics.get([...run.metrics.keys()][0]).layers : [];
    const count = chart.series[0].y.length;
    const x = byLayer ? Array.from({ length: count }, (_, k) => layers[k] ?? String(k)) : run.steps;
    const values = chart.series.flatMap(({ y, low, high }) => [...y, ...(low ?? []), ...(high ?? [])]).filter((value) => value !== null);
    const [least, most] = [values.reduce((a, b) => Math.min(a, b), 0), values.reduce((a, b) => Math.max(a, b), 0)];
    const room = (most - least || 0.05) * 0.06;
    return Plotly.react(id, traces(chart, x, colours), layout(colours, {
      showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, itemclick: false, itemdoubleclick: false },
      margin: { l: 46, r: 8, t: 40, b: 44 }, uirevision: view(state),
      xaxis: { title: { text: byLayer ? "layer" : "step" }, showgrid: false, ...(byLayer ? { type: "category", nticks: 12 } : {}) },
      yaxis: { range: [least < 0 ? least - room : 0, most + room], nticks: 6 },
      shapes: shapes(state, colours),
    }), { ...CONFIG, displayModeBar: false });
  }

  /** The line at the chosen step. */
  function shapes(state, colours) {
    const step = state.run.steps[state.step];
    return view(state) === "layers" ? [] : [{
      type: "line", xref: "x", yref: "paper", x0: step, x1: step, y0: 0, y1: 1, layer: "below", line: { color: colours.accent, width: 1.5 },
    }];
  }

  const chartId = (id) => `neurons-${id}`;

  const panel = {
    id: "neurons",
    title: "Neurons",
    options: [
      { key: "neurons", label: "View", choices: ({ run }) => [...(run.steps.length > 1 ? [["steps", "over steps"]] : []), ["layers", "by layer"]] },
      { key: "rule", label: "Sharing by", choices: ({ run }) => [["any", "any token"], ["last", "last token"]].filter(([rule]) => run.panels.neurons[`sharing_${rule}`]) },
    ],
    visible: ({ run }) => Object.keys(run.panels.neurons ?? {}).length > 0,
    draw(state, body) {
      const found = charts(state);
      const wanted = Object.keys(found).map(chartId);
      if (String([...body.querySelectorAll(".chart")].map(({ id }) => id)) !== String(wanted)) {
        body.replaceChildren(el("div", { class: "small-charts" }, ...wanted.map((id) =>
          el("div", {}, el("h3", {}), el("div", { id, class: "chart" }), el("p", { class: "muted small" })))));
      }
      return Promise.all(Object.entries(found).map(([id, chart]) => {
        const box = document.getElementById(chartId(id));
        box.previousElementSibling.textContent = chart.title;
        box.nextElementSibling.textContent = chart.note;
        return drawChart(chartId(id), chart, state);
      }));
    },
    mark(state) {
      if (view(state) === "layers") return nx.drawPanel(panel, state);
      return Promise.all([...panel.body.querySelectorAll(".chart")].map(({ id }) => Plotly.relayout(id, { shapes: shapes(state, themeColours()) })));
    },
    table(state) {
      const { run } = state, byLayer = view(state) === "layers";
      const rows = Object.values(charts(state)).flatMap(({ title, series }) => series.flatMap(({ name, y, low, high }) => y.map((value, k) => [
        run.name, byLayer ? run.steps[state.step] : run.steps[k], byLayer ? k : "mean", title, name, value, low?.[k], high?.[k],
      ])));
      return { name: "neurons", header: ["run", "step", "layer", "chart", "line", "value", "low", "high"], rows };
    },
  };
  nx.addPanel(panel);
})(window.neuronxa);
