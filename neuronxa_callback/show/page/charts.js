"use strict";
/*
 * Scores over steps. Languages differ in colour, dash and marker, runs in dash and in the colour of
 * their mean, so that nothing depends on colour alone. Text from a report goes through `label`,
 * which escapes it for plotly.
 */
(function (nx) {
  const { format, label, MEAN } = nx;
  const { DASHES, MARKERS, CONFIG, themeColours, layout, band, markerCount } = nx.plotting;

  /* Plotly adds the uid of a trace to the class of its SVG group; `highlight` looks for it. */
  const uid = (code, run) => `l${nx.order.get(code)}r${run}`;
  nx.uid = uid;

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
    if (state.groups) {
      run.groups.forEach((group, k) => {
        const name = several ? `${run.name}: ${group.name}` : group.name;
        add(nx.groupIndex(k), name, nx.groupStyle(k, number), 2.2, 0.12, { showlegend: true });
      });
    }
    const name = several ? `${run.name}: mean` : "mean";
    add(MEAN, name, nx.meanStyle(number, colours), 3.2, 0.16, { showlegend: true });
    return [...bands, ...lines];
  }

  /** A group of languages: a colour of its own, a larger marker. */
  nx.groupStyle = (k, number = 0) => ({ ...nx.lineStyle(k, number), marker: MARKERS[(k + 1) % MARKERS.length] });

  /** The mean of a run: several runs keep their colours, whatever else is shown. */
  nx.meanStyle = function (number, colours) {
    const several = nx.data.runs.length > 1;
    return {
      colour: several ? nx.lineStyle(number).colour : colours.ink,
      dash: DASHES[several ? number % DASHES.length : 0], marker: MARKERS[number % MARKERS.length],
    };
  };

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
    if (nx.single) return undefined;
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
    if (nx.single) return undefined;
    const top = document.getElementById("over-steps").layout.yaxis.range[1];
    return Plotly.relayout("over-steps", { shapes: [stepLine(state, themeColours()), ...baselineLines(state, top)] });
  };
})(window.neuronxa);
