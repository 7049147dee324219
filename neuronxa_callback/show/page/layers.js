"use strict";
/*
 * The curve by layer and the heat map at the chosen step: scores, or differences from another probe.
 */
(function (nx) {
  const { format, label, MEAN } = nx;
  const { CONFIG, themeColours, layout, markerCount } = nx.plotting;
  const FALL = "#d55e00", RISE = "#0072b2";

  /** An axis with as many labels as fit, none rotated. */
  function layerAxis(layers, id) {
    const room = document.getElementById(id).clientWidth - 120;
    const letters = Math.max(2, ...layers.map((layer) => layer.length));
    const every = Math.max(1, Math.ceil(layers.length / Math.max(2, Math.min(20, room / (12 + 7 * letters)))));
    const ticks = layers.map((_, k) => k).filter((k) => k % every === 0);
    return {
      title: { text: "layer" }, tickvals: ticks, ticktext: ticks.map((k) => label(layers[k])), tickangle: 0,
      range: [-0.5, layers.length - 0.5], showgrid: false,
    };
  }
  nx.plotting.layerAxis = layerAxis;

  /** The range of the values, the same at every step. */
  function range(state) {
    if (nx.reference(state)) {
      const [low, high] = nx.differenceRange(state), room = 0.06 * Math.max(0.05, high - low);
      return [low - room, high + room];
    }
    return [0, Math.min(1.02, Math.max(0.05, state.run.highestScore(state.metric) * 1.06))];
  }

  /** Sets the height of the heat map and the chart beside it by the number of rows. */
  nx.setHeight = function (state) {
    const rows = nx.heatRows(state).length;
    document.querySelector(".pair").style.setProperty("--rows", `${Math.max(340, 90 + 13 * rows)}px`);
  };

  /** The values by layer at the chosen step, one line per language and group, and the mean. */
  nx.drawCurve = function (state) {
    const colours = themeColours(), { run, metric } = state;
    if (!run.metrics.has(metric)) return drawEmpty("curve", colours, state);
    const differs = nx.reference(state) !== null, base = differs ? 0 : run.chance;
    const layers = run.metrics.get(metric).layers;
    const x = layers.map((_, k) => k);
    const traces = [{
      type: "scatter", mode: "lines", x: [-0.5, layers.length - 0.5], y: [base, base],
      line: { color: colours.muted, width: 1, dash: "2px,3px" }, hoverinfo: "skip",
    }];
    const add = (name, language, style, width, more) => {
      const y = nx.layerValues(state, language), ends = nx.layerEnds(state, language);
      traces.push({
        type: "scatter", mode: "lines+markers", x, y, connectgaps: false, name: label(name),
        text: x.map((k) => layerHover(state, layers[k], y[k], ends[k])),
        hovertemplate: `<b>${label(name)}</b><br>%{text}<extra></extra>`,
        line: { color: style.colour, width, dash: style.dash },
        marker: { symbol: style.marker, size: layers.length > 40 ? 4 : 5, maxdisplayed: markerCount(state), color: style.colour },
        ...more,
      });
    };
    for (const code of run.languages) {
      if (state.shown.has(code)) add(nx.fullName(code), run.index.get(code), nx.lineStyle(nx.order.get(code)), 1.4, { uid: nx.uid(code, 0) });
    }
    if (state.groups) run.groups.forEach((group, k) => add(group.name, nx.groupIndex(k), nx.groupStyle(k), 2.2, {}));
    add("mean", MEAN, nx.meanStyle(nx.data.runs.indexOf(run), colours), 3, {});
    traces.push(...nx.pairTraces(state, colours));
    return Plotly.react("curve", traces, layout(colours, {
      xaxis: layerAxis(layers, "curve"), uirevision: "curve",
      yaxis: { title: { text: valueName(state) }, range: range(state) },
    }), CONFIG);
  };

  const valueName = (state) => (nx.reference(state) ? "difference of aligned pairs" : "weakly aligned pairs");

  function layerHover(state, layer, value, ends) {
    const differs = nx.reference(state) !== null;
    const interval = ends ? `<br>95 %${differs ? " or more" : ""}: ${format.interval(ends[0], ends[1], 2)}` : "";
    return `layer ${label(layer)}: ${differs ? format.signed(value) : format.number(value)}${interval}`;
  }

  /** The colours of the heat map; the scale is the same at every step. */
  function colouring(state, colours) {
    if (!nx.reference(state)) {
      return { zmin: 0, zmax: Math.max(0.05, state.run.highestScore(state.metric)), colorscale: "Viridis" };
    }
    const top = Math.max(0.05, ...nx.differenceRange(state).map(Math.abs));
    return { zmin: -top, zmax: top, colorscale: [[0, FALL], [0.5, colours.card], [1, RISE]] };
  }

  /** Values by language and layer at the chosen step. */
  nx.drawHeat = function (state) {
    const colours = themeColours(), { run, metric } = state;
    if (!run.metrics.has(metric)) return drawEmpty("heat", colours, state);
    const layers = run.metrics.get(metric).layers, rows = nx.heatRows(state);
    const index = rows.map(({ code }) => run.index.get(code));
    const differs = nx.reference(state) !== null, unknown = layers.map(() => null);
    const z = index.map((language) => (language === undefined ? unknown : nx.layerValues(state, language)));
    const ends = index.map((language) => (language === undefined || !differs ? unknown : nx.layerEnds(state, language)));
    const text = z.map((row, k) => row.map((value, l) => {
      const { code, group } = rows[k];
      return group === undefined ? `<b>${label(nx.fullName(code))}</b><br>${layerHover(state, layers[l], value, ends[k][l])}` : `<b>${label(group)}</b>`;
    }));
    const gaps = { xgap: layers.length > 40 ? 0 : 1, ygap: 1 };
    return Plotly.react("heat", [{
      type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", hoverongaps: true, ...gaps, ...colouring(state, colours),
      colorbar: { thickness: 10, outlinewidth: 0, len: 1, tickfont: { size: 11, color: colours.muted }, ticklen: 3 },
    }, ...(differs ? [doubtful(z, ends, gaps, colours)] : [])], layout(colours, {
      plot_bgcolor: colours.gap, margin: { l: 72, r: 76, t: 26, b: 52 },
      xaxis: { ...layerAxis(layers, "heat"), ticks: "" },
      yaxis: {
        tickvals: rows.map((_, k) => k), ticktext: rows.map(({ code, group }) => (group === undefined ? label(code) : `<b>${label(group)}</b>`)),
        range: [rows.length - 0.5, -0.5], showgrid: false, ticks: "", tickfont: { size: rows.length > 20 ? 10 : 11 },
      },
    }), CONFIG);
  };

  /** A veil over the cells whose interval holds 0. */
  function doubtful(z, ends, gaps, colours) {
    const veil = nx.plotting.translucent(colours.gap, 0.75);
    return {
      type: "heatmap", z: z.map((row, k) => row.map((value, l) => (value !== null && ends[k][l] && ends[k][l][0] <= 0 && ends[k][l][1] >= 0 ? 1 : null))),
      colorscale: [[0, veil], [1, veil]], showscale: false, hoverinfo: "skip", ...gaps,
    };
  }

  /** An empty chart with one sentence: the run lacks the metric. */
  function drawEmpty(id, colours, state) {
    const text = `${label(state.run.name)} has no ${label(state.metric)}`;
    return Plotly.react(id, [], layout(colours, {
      xaxis: { visible: false }, yaxis: { visible: false },
      annotations: [{ text, showarrow: false, font: { color: colours.muted, size: 13 } }],
    }), CONFIG);
  }
})(window.neuronxa);
