"use strict";
/*
 * The three charts. Colour is never alone: languages differ in colour and in stroke and marker,
 * runs in stroke. Plotly reads a little HTML in labels, so `label` spells out what it would read.
 */
(function (nx) {
  const { words, label, MEAN } = nx;
  const { DASHES, MARKERS, CONFIG, theme, layout } = nx.style;

  /* Plotly puts a trace's uid into the class of its group: `light` finds it there. */
  const uid = (code, run) => `l${nx.order.get(code)}r${run}`;

  /** Brings out the lines of one language and fades the others; null puts all back. */
  nx.light = function (code) {
    nx.state.lit = code;
    if (nx.state.run.diagnostics.surface) nx.markStep(nx.state);
    for (const id of ["emergence", "curve"]) {
      const groups = [...document.querySelectorAll(`#${id} .scatterlayer .trace`)];
      const name = new RegExp(`trace${uid(code, "")}\\d`);
      const own = groups.filter((group) => code !== null && name.test(group.getAttribute("class")));
      for (const group of groups) group.style.opacity = !own.length || own.includes(group) ? "" : 0.12;
    }
  };

  /** A closed outline around low..high for each stretch without a gap. */
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

  /** How many points of a line carry a marker: with many lines few, or drawing takes long. */
  const marked = ({ shown }) => Math.max(8, Math.round(400 / Math.max(1, shown.size)));

  /** Traces of one run: bands first, so that lines lie above them. */
  function emergenceOf(run, number, state, colours) {
    const several = nx.data.runs.length > 1;
    const bands = [], lines = [];
    const hover = (name) =>
      `<b>${label(name)}</b>${several ? " \u00b7 " + label(run.name) : ""}<br>step %{x}: %{y:.3f}` +
      "<br>95 %: %{customdata[0]:.3f} \u2013 %{customdata[1]:.3f}<extra></extra>";
    const add = (language, name, look, width, opacity, more) => {
      const low = run.over(state.metric, language, "low"), high = run.over(state.metric, language, "high");
      if (opacity) bands.push(band(run.steps, low, high, look.colour, opacity, {}));
      lines.push({
        type: "scatter", mode: "lines+markers", x: run.steps, y: run.scores(state.metric, language),
        customdata: low.map((each, k) => [each, high[k]]), hovertemplate: hover(name), name: label(name),
        connectgaps: false, line: { color: look.colour, width, dash: look.dash },
        marker: { symbol: look.marker, size: run.steps.length > 60 ? 4 : 5, maxdisplayed: marked(state), color: look.colour },
        showlegend: false, ...more,
      });
    };
    if (state.lines) {
      for (const code of state.shown) {
        if (!run.place.has(code)) continue;
        const look = nx.look(nx.order.get(code), number);
        add(run.place.get(code), nx.named(code), look, 1.3, state.bands ? 0.09 : 0, { uid: uid(code, number) });
      }
    }
    const colour = several && !state.lines ? nx.look(number).colour : colours.ink;
    const look = { colour, dash: DASHES[several ? number % DASHES.length : 0], marker: MARKERS[number % MARKERS.length] };
    const name = several ? `${run.name}: mean` : "mean";
    add(MEAN, name, look, 3, 0.16, { showlegend: true });
    return [...bands, ...lines];
  }

  function lossOf(run, number, colours, first) {
    const several = nx.data.runs.length > 1;
    return {
      type: "scatter", mode: "lines", x: run.loss_steps, y: run.losses, yaxis: "y2", connectgaps: true,
      name: several ? "loss, dashed as its run" : "loss", showlegend: first, opacity: 0.85,
      line: { color: colours.muted, width: 1.5, dash: several ? DASHES[number % DASHES.length] : "6px,4px" },
      hovertemplate: `<b>loss</b>${several ? " \u00b7 " + label(run.name) : ""}<br>step %{x}: %{y:.4f}<extra></extra>`,
    };
  }

  /** Scores over steps of all runs, with bands, chance, and the loss on the right. */
  nx.drawEmergence = function (state) {
    const colours = theme();
    const runs = nx.data.runs.map((run, k) => [run, k]).filter(([run]) => run.metrics.has(state.metric));
    const losses = state.losses ? nx.data.runs.map((run, k) => [run, k]).filter(([run]) => run.losses.some((each) => each !== null)) : [];
    const steps = nx.data.runs.flatMap((run) => [...run.steps, ...run.loss_steps]);
    const ends = [Math.min(...steps), Math.max(...steps)];
    const traces = runs.flatMap(([run, k]) => emergenceOf(run, k, state, colours));
    for (const chance of new Set(runs.map(([run]) => run.chance))) {
      traces.push({
        type: "scatter", mode: "lines", x: ends, y: [chance, chance], name: `chance ${chance.toFixed(3)}`,
        line: { color: colours.muted, width: 1, dash: "2px,3px" }, hoverinfo: "name",
      });
    }
    const top = topOf(traces, state);
    traces.push(...losses.map(([run, k], place) => lossOf(run, k, colours, place === 0)));
    const room = (ends[1] - ends[0] || 1) * 0.015;
    return Plotly.react("emergence", traces, layout(colours, {
      showlegend: true, uirevision: state.metric,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, itemclick: false, itemdoubleclick: false },
      margin: { l: 64, r: losses.length ? 54 : 16, t: 48, b: 52 },
      xaxis: { title: { text: "step" }, range: [ends[0] - room, ends[1] + room], showgrid: false },
      yaxis: { title: { text: "weakly aligned pairs" }, range: [0, top] },
      yaxis2: losses.length ? { title: { text: "loss" }, overlaying: "y", side: "right", tickmode: "auto", nticks: 6 } : undefined,
      shapes: [marker(state, colours), ...baselines(state, top)],
    }), CONFIG);
  };

  function marker(state, colours) {
    const at = state.run.steps[state.step];
    return {
      type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, layer: "below",
      line: { color: colours.accent, width: 1.5 },
    };
  }

  /* What the sentences alone would score under the same rule; at which end each is named. */
  const BASELINES = [["characters", "3-grams", "start"], ["length", "length", "end"]];

  /** The language that is shown alone, or else the one that is pointed at. */
  const single = ({ shown, lit }) => (shown.size === 1 ? [...shown][0] : shown.has(lit) ? lit : null);

  function surface(state) {
    const row = state.run.place.get(single(state));
    const found = row === undefined ? [] : BASELINES.map(([kind, ...more]) => [state.run.baseline(kind, row), ...more]);
    return found.filter(([score]) => score !== null);
  }

  /** Thin dotted lines; one that lies above the scale is only named, with an arrow. */
  function baselines(state, top) {
    const code = single(state);
    return surface(state).map(([score, name, end]) => {
      const above = score > top, y = above ? top : score, { colour } = nx.look(nx.order.get(code));
      return {
        type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y,
        line: { color: colour, width: above ? 0 : 1, dash: "dot" },
        label: {
          text: `${label(code)}: ${name} ${words.number(score)}${above ? " \u2191" : ""}`, textposition: end,
          yanchor: y > 0.9 * top ? "top" : "bottom", font: { size: 11, color: colour },
        },
      };
    });
  }

  /** The top of the scale: above all that is drawn on it. */
  function topOf(traces, state) {
    const alone = state.shown.size === 1 ? surface(state).map(([score]) => score) : [];
    return 1.05 * [...traces.map((trace) => trace.y), alone].reduce((top, ys) => ys.reduce((a, b) => (b > a ? b : a), top), 0);
  }

  /** Moves the line that marks the chosen step, and those of a language; nothing else is drawn anew. */
  nx.markStep = function (state) {
    const top = document.getElementById("emergence").layout.yaxis.range[1];
    return Plotly.relayout("emergence", { shapes: [marker(state, theme()), ...baselines(state, top)] });
  };

  /** As many labels as there is room for, none turned. */
  function layerAxis(layers, id) {
    const room = document.getElementById(id).clientWidth - 120;
    const letters = Math.max(2, ...layers.map((each) => each.length));
    const every = Math.max(1, Math.ceil(layers.length / Math.max(2, Math.min(20, room / (12 + 7 * letters)))));
    const at = layers.map((_, k) => k).filter((k) => k % every === 0);
    return {
      title: { text: "layer" }, tickvals: at, ticktext: at.map((k) => label(layers[k])), tickangle: 0,
      range: [-0.5, layers.length - 0.5], showgrid: false,
    };
  }

  const top = (state) => Math.min(1.02, Math.max(0.05, state.run.top(state.metric) * 1.06));

  /** Room for the rows of the heat map; the chart beside it is as tall. */
  nx.makeRoom = function ({ run, shown }) {
    const rows = run.languages.filter((code) => shown.has(code)).length;
    document.querySelector(".pair").style.setProperty("--rows", `${Math.max(340, 90 + 13 * rows)}px`);
  };

  /** Score by layer at the chosen step, one line per language and the mean. */
  nx.drawCurve = function (state) {
    const colours = theme(), { run, metric, step } = state;
    if (!run.metrics.has(metric)) return nothing("curve", colours, state);
    const layers = run.metrics.get(metric).layers;
    const x = layers.map((_, k) => k);
    const traces = [{
      type: "scatter", mode: "lines", x: [-0.5, layers.length - 0.5], y: [run.chance, run.chance],
      line: { color: colours.muted, width: 1, dash: "2px,3px" }, hoverinfo: "skip",
    }];
    const add = (name, language, look, width, more) => {
      const y = run.curve(metric, step, language);
      const counts = y.map((each) => (each === null ? null : Math.round(each * run.pairs)));
      const around = (k) => (language === MEAN || counts[k] === null ? null : run.layer_intervals[counts[k]]);
      traces.push({
        type: "scatter", mode: "lines+markers", x, y, connectgaps: false, name: label(name),
        text: x.map((k) => layerHover(layers[k], y[k], around(k))),
        hovertemplate: `<b>${label(name)}</b><br>%{text}<extra></extra>`,
        line: { color: look.colour, width, dash: look.dash },
        marker: { symbol: look.marker, size: layers.length > 40 ? 4 : 5, maxdisplayed: marked(state), color: look.colour },
        ...more,
      });
    };
    for (const code of run.languages) {
      if (state.shown.has(code)) add(nx.named(code), run.place.get(code), nx.look(nx.order.get(code)), 1.4, { uid: uid(code, 0) });
    }
    add("mean", MEAN, { colour: colours.ink, dash: "solid", marker: "circle" }, 3, {});
    return Plotly.react("curve", traces, layout(colours, {
      xaxis: layerAxis(layers, "curve"), uirevision: "curve",
      yaxis: { title: { text: "weakly aligned pairs" }, range: [0, top(state)] },
    }), CONFIG);
  };

  function layerHover(layer, score, around) {
    const interval = around ? `<br>95 %: ${words.interval(around[0], around[1], 3)}` : "";
    return `layer ${label(layer)}: ${words.number(score)}${interval}`;
  }

  /** Score by language and layer at the chosen step, on one scale over all steps. */
  nx.drawHeat = function (state) {
    const colours = theme(), { run, metric, step } = state;
    if (!run.metrics.has(metric)) return nothing("heat", colours, state);
    const layers = run.metrics.get(metric).layers;
    const codes = run.languages.filter((code) => state.shown.has(code));
    const z = codes.map((code) => run.curve(metric, step, run.place.get(code)));
    const text = z.map((row, k) => row.map((each, l) => `<b>${label(nx.named(codes[k]))}</b><br>${layerHover(layers[l], each)}`));
    const ticks = codes.map((_, k) => k);
    return Plotly.react("heat", [{
      type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", hoverongaps: true,
      zmin: 0, zmax: Math.max(0.05, run.top(metric)), colorscale: "Viridis",
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

  function nothing(id, colours, state) {
    const text = `${label(state.run.name)} has no ${label(state.metric)}`;
    return Plotly.react(id, [], layout(colours, {
      xaxis: { visible: false }, yaxis: { visible: false },
      annotations: [{ text, showarrow: false, font: { color: colours.muted, size: 13 } }],
    }), CONFIG);
  }
})(window.neuronxa);
