"use strict";
/*
 * The three charts. Languages differ in colour, dash and marker, runs in dash, so that nothing
 * depends on colour alone. Text from a report goes through `label`, which escapes it for plotly.
 */
(function (nx) {
  const { format, label, MEAN } = nx;
  const { DASHES, MARKERS, CONFIG, themeColours, layout } = nx.plotting;

  /* Plotly adds the uid of a trace to the class of its SVG group; `highlight` looks for it. */
  const uid = (code, run) => `l${nx.order.get(code)}r${run}`;

  /** Fades the lines of all languages but one; null restores them. */
  nx.highlight = function (code) {
    nx.state.highlighted = code;
    if (nx.state.run.diagnostics.surface) nx.markStep(nx.state);
    for (const id of ["over-steps", "curve"]) {
      const groups = [...document.querySelectorAll(`#${id} .scatterlayer .trace`)];
      const pattern = new RegExp(`trace${uid(code, "")}\\d`);
      const bright = groups.filter((group) => code !== null && pattern.test(group.getAttribute("class")));
      for (const group of groups) group.style.opacity = !bright.length || bright.includes(group) ? "" : 0.12;
    }
  };

  /** The area between low and high: one closed outline per part without a gap. */
  function band(x, low, high, colour, opacity, more) {
    const xs = [], ys = [];
    for (let from = 0; from < x.length; from++) {
      if (low[from] === null) continue;
      let to = from;
      while (to + 1 < x.length && low[to + 1] !== null) to++;
      if (xs.length) { xs.push(null); ys.push(null); }
      for (let k = from; k <= to; k++) { xs.push(x[k]); ys.push(high[k]); }
      for (let k = to; k >= from; k--) { xs.push(x[k]); ys.push(low[k]); }
      from = to;
    }
    return {
      type: "scatter", mode: "lines", x: xs, y: ys, fill: "toself", line: { width: 0, color: colour },
      fillcolor: translucent(colour, opacity), hoverinfo: "skip", showlegend: false, ...more,
    };
  }

  function translucent(colour, opacity) {
    const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
    return `rgba(${r},${g},${b},${opacity})`;
  }

  /** The number of points of a line that have a marker: few for many lines, to draw quickly. */
  const markerCount = ({ shown }) => Math.max(8, Math.round(400 / Math.max(1, shown.size)));

  /** The traces of one run: bands first, so that lines are above them. */
  function runTraces(run, number, state, colours) {
    const several = nx.data.runs.length > 1;
    const bands = [], lines = [];
    const hover = (name) =>
      `<b>${label(name)}</b>${several ? " \u00b7 " + label(run.name) : ""}<br>step %{x}: %{y:.3f}` +
      "<br>95 %: %{customdata[0]:.3f} \u2013 %{customdata[1]:.3f}<extra></extra>";
    const add = (language, name, style, width, opacity, more) => {
      const low = run.column(state.metric, language, "low"), high = run.column(state.metric, language, "high");
      if (opacity) bands.push(band(run.steps, low, high, style.colour, opacity, {}));
      lines.push({
        type: "scatter", mode: "lines+markers", x: run.steps, y: run.scores(state.metric, language),
        customdata: low.map((end, k) => [end, high[k]]), hovertemplate: hover(name), name: label(name),
        connectgaps: false, line: { color: style.colour, width, dash: style.dash },
        marker: { symbol: style.marker, size: run.steps.length > 60 ? 4 : 5, maxdisplayed: markerCount(state), color: style.colour },
        showlegend: false, ...more,
      });
    };
    if (state.lines) {
      for (const code of state.shown) {
        if (!run.index.has(code)) continue;
        const style = nx.lineStyle(nx.order.get(code), number);
        add(run.index.get(code), nx.fullName(code), style, 1.3, state.bands ? 0.09 : 0, { uid: uid(code, number) });
      }
    }
    const colour = several && !state.lines ? nx.lineStyle(number).colour : colours.ink;
    const style = { colour, dash: DASHES[several ? number % DASHES.length : 0], marker: MARKERS[number % MARKERS.length] };
    const name = several ? `${run.name}: mean` : "mean";
    add(MEAN, name, style, 3, 0.16, { showlegend: true });
    return [...bands, ...lines];
  }

  function lossTrace(run, number, colours, first) {
    const several = nx.data.runs.length > 1;
    return {
      type: "scatter", mode: "lines", x: run.loss_steps, y: run.losses, yaxis: "y2", connectgaps: true,
      name: several ? "loss, same dashes as its run" : "loss", showlegend: first, opacity: 0.85,
      line: { color: colours.muted, width: 1.5, dash: several ? DASHES[number % DASHES.length] : "6px,4px" },
      hovertemplate: `<b>loss</b>${several ? " \u00b7 " + label(run.name) : ""}<br>step %{x}: %{y:.4f}<extra></extra>`,
    };
  }

  /** Scores of all runs over steps, with bands, chance, and the loss on the right axis. */
  nx.drawOverSteps = function (state) {
    const colours = themeColours();
    const runs = nx.data.runs.map((run, k) => [run, k]).filter(([run]) => run.metrics.has(state.metric));
    const losses = state.losses ? nx.data.runs.map((run, k) => [run, k]).filter(([run]) => run.losses.some((loss) => loss !== null)) : [];
    const steps = nx.data.runs.flatMap((run) => [...run.steps, ...run.loss_steps]);
    const ends = [Math.min(...steps), Math.max(...steps)];
    const traces = runs.flatMap(([run, k]) => runTraces(run, k, state, colours));
    for (const chance of new Set(runs.map(([run]) => run.chance))) {
      traces.push({
        type: "scatter", mode: "lines", x: ends, y: [chance, chance], name: `chance ${chance.toFixed(3)}`,
        line: { color: colours.muted, width: 1, dash: "2px,3px" }, hoverinfo: "name",
      });
    }
    const top = topOf(traces, state);
    traces.push(...losses.map(([run, k], index) => lossTrace(run, k, colours, index === 0)));
    const room = (ends[1] - ends[0] || 1) * 0.015;
    return Plotly.react("over-steps", traces, layout(colours, {
      showlegend: true, uirevision: state.metric,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, itemclick: false, itemdoubleclick: false },
      margin: { l: 64, r: losses.length ? 54 : 16, t: 48, b: 52 },
      xaxis: { title: { text: "step" }, range: [ends[0] - room, ends[1] + room], showgrid: false },
      yaxis: { title: { text: "weakly aligned pairs" }, range: [0, top] },
      yaxis2: losses.length ? { title: { text: "loss" }, overlaying: "y", side: "right", tickmode: "auto", nticks: 6 } : undefined,
      shapes: [stepLine(state, colours), ...baselineLines(state, top)],
    }), CONFIG);
  };

  /** The line at the chosen step. */
  function stepLine(state, colours) {
    const at = state.run.steps[state.step];
    return {
      type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, layer: "below",
      line: { color: colours.accent, width: 1.5 },
    };
  }

  /* The scores without a model, under the same rule: [kind, name, end of the line with the name]. */
  const BASELINES = [["characters", "3-grams", "start"], ["length", "length", "end"]];

  /** The only language shown, or else the highlighted one, or null. */
  const single = ({ shown, highlighted }) => (shown.size === 1 ? [...shown][0] : shown.has(highlighted) ? highlighted : null);

  /** [score, name, end] of the baselines of that language. */
  function baselineScores(state) {
    const row = state.run.index.get(single(state));
    const scores = row === undefined ? [] : BASELINES.map(([kind, ...more]) => [state.run.baseline(kind, row), ...more]);
    return scores.filter(([score]) => score !== null);
  }

  /** Thin dotted lines; a baseline above the scale has its name only, with an arrow. */
  function baselineLines(state, top) {
    const code = single(state);
    return baselineScores(state).map(([score, name, end]) => {
      const above = score > top, y = above ? top : score, { colour } = nx.lineStyle(nx.order.get(code));
      return {
        type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y,
        line: { color: colour, width: above ? 0 : 1, dash: "dot" },
        label: {
          text: `${label(code)}: ${name} ${format.number(score)}${above ? " \u2191" : ""}`, textposition: end,
          yanchor: y > 0.9 * top ? "top" : "bottom", font: { size: 11, color: colour },
        },
      };
    });
  }

  /** The top of the y-axis, above all traces. */
  function topOf(traces, state) {
    const alone = state.shown.size === 1 ? baselineScores(state).map(([score]) => score) : [];
    return 1.05 * [...traces.map((trace) => trace.y), alone].reduce((top, ys) => ys.reduce((a, b) => (b > a ? b : a), top), 0);
  }

  /** Moves the line of the chosen step and redraws the baselines, and nothing else. */
  nx.markStep = function (state) {
    const top = document.getElementById("over-steps").layout.yaxis.range[1];
    return Plotly.relayout("over-steps", { shapes: [stepLine(state, themeColours()), ...baselineLines(state, top)] });
  };

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

  const top = (state) => Math.min(1.02, Math.max(0.05, state.run.highestScore(state.metric) * 1.06));

  /** Sets the height of the heat map and the chart beside it by the number of rows. */
  nx.setHeight = function ({ run, shown }) {
    const rows = run.languages.filter((code) => shown.has(code)).length;
    document.querySelector(".pair").style.setProperty("--rows", `${Math.max(340, 90 + 13 * rows)}px`);
  };

  /** Score by layer at the chosen step, one line per language and the mean. */
  nx.drawCurve = function (state) {
    const colours = themeColours(), { run, metric, step } = state;
    if (!run.metrics.has(metric)) return drawEmpty("curve", colours, state);
    const layers = run.metrics.get(metric).layers;
    const x = layers.map((_, k) => k);
    const traces = [{
      type: "scatter", mode: "lines", x: [-0.5, layers.length - 0.5], y: [run.chance, run.chance],
      line: { color: colours.muted, width: 1, dash: "2px,3px" }, hoverinfo: "skip",
    }];
    const add = (name, language, style, width, more) => {
      const y = run.curve(metric, step, language);
      const counts = y.map((score) => (score === null ? null : Math.round(score * run.pairs)));
      const interval = (k) => (language === MEAN || counts[k] === null ? null : run.layer_intervals[counts[k]]);
      traces.push({
        type: "scatter", mode: "lines+markers", x, y, connectgaps: false, name: label(name),
        text: x.map((k) => layerHover(layers[k], y[k], interval(k))),
        hovertemplate: `<b>${label(name)}</b><br>%{text}<extra></extra>`,
        line: { color: style.colour, width, dash: style.dash },
        marker: { symbol: style.marker, size: layers.length > 40 ? 4 : 5, maxdisplayed: markerCount(state), color: style.colour },
        ...more,
      });
    };
    for (const code of run.languages) {
      if (state.shown.has(code)) add(nx.fullName(code), run.index.get(code), nx.lineStyle(nx.order.get(code)), 1.4, { uid: uid(code, 0) });
    }
    add("mean", MEAN, { colour: colours.ink, dash: "solid", marker: "circle" }, 3, {});
    return Plotly.react("curve", traces, layout(colours, {
      xaxis: layerAxis(layers, "curve"), uirevision: "curve",
      yaxis: { title: { text: "weakly aligned pairs" }, range: [0, top(state)] },
    }), CONFIG);
  };

  function layerHover(layer, score, ends) {
    const interval = ends ? `<br>95 %: ${format.interval(ends[0], ends[1], 3)}` : "";
    return `layer ${label(layer)}: ${format.number(score)}${interval}`;
  }

  /** Score by language and layer at the chosen step; the scale is the same at every step. */
  nx.drawHeat = function (state) {
    const colours = themeColours(), { run, metric, step } = state;
    if (!run.metrics.has(metric)) return drawEmpty("heat", colours, state);
    const layers = run.metrics.get(metric).layers;
    const codes = run.languages.filter((code) => state.shown.has(code));
    const z = codes.map((code) => run.curve(metric, step, run.index.get(code)));
    const text = z.map((row, k) => row.map((score, l) => `<b>${label(nx.fullName(codes[k]))}</b><br>${layerHover(layers[l], score)}`));
    const ticks = codes.map((_, k) => k);
    return Plotly.react("heat", [{
      type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", hoverongaps: true,
      zmin: 0, zmax: Math.max(0.05, run.highestScore(metric)), colorscale: "Viridis",
      xgap: layers.length > 40 ? 0 : 1, ygap: 1,
      colorbar: { thickness: 10, outlinewidth: 0, len: 1, tickfont: { size: 11, color: colours.muted }, ticklen: 3 },
    }], layout(colours, {
      plot_bgcolor: colours.gap, margin: { l: 72, r: 76, t: 26, b: 52 },
      xaxis: { ...layerAxis(layers, "heat"), ticks: "" },
      yaxis: {
        tickvals: ticks, ticktext: codes.map(label), range: [codes.length - 0.5, -0.5], showgrid: false,
        ticks: "", tickfont: { size: codes.length > 20 ? 10 : 11 },
      },
    }), CONFIG);
  };

  /** An empty chart with one sentence: the run lacks the metric. */
  function drawEmpty(id, colours, state) {
    const text = `${label(state.run.name)} has no ${label(state.metric)}`;
    return Plotly.react(id, [], layout(colours, {
      xaxis: { visible: false }, yaxis: { visible: false },
      annotations: [{ text, showarrow: false, font: { color: colours.muted, size: 13 } }],
    }), CONFIG);
  }
})(window.neuronxa);
