"use strict";
/*
 * Alignment against downstream scores: one named dot per language, and the correlation.
 */
(function (nx) {
  const { el, format, label } = nx;
  const { CONFIG, themeColours, layout } = nx.plotting;
  const MANY = 30;

  const all = () => nx.data.scatter?.found ?? [];

  /** Whether a correlation is that of the chosen run, metric and task. */
  const isChosen = (state) => ({ run, metric, task }) =>
    run === state.run.name && metric === state.metric && task === nx.chosen(panel, "task", state);
  const chosen = (state) => all().find(isChosen(state));

  function caption(found, state) {
    if (!found) return [`There is no correlation of ${state.run.name} and ${state.metric} with this task.`];
    const given = Object.entries(found.partial).map(([name, r]) => `${format.signed(r, 2)} given ${name}`);
    const groups = nx.data.scatter.in_groups.filter(isChosen(state))
      .map(({ group, n, r, low, high }) => `in ${group} ${format.signed(r, 2)} [${format.interval(low, high)}] over ${n}`);
    return [
      el("b", {}, `r = ${format.signed(found.r, 2)} [${format.interval(found.low, found.high)}]`),
      ` over ${found.n} languages at step ${format.step(found.step)}, ${format.p(found.p)} by permutation; Spearman ${format.signed(found.spearman, 2)}`,
      [...given, ...groups].map((text) => `; ${text}`).join(""),
      ". The interval (95 %, Fisher) takes languages as independent, which is too narrow for related ones.",
    ];
  }

  /** One trace per script, so that colour and marker tell Latin from others. */
  function traces(found, colours) {
    const latin = new Set(nx.data.scatter.latin), named = found.languages.length <= MANY;
    return [[true, "Latin script", "circle", 0], [false, "other script", "diamond", 1]].map(([wanted, name, symbol, k]) => {
      const kept = found.languages.map((_, index) => index).filter((index) => latin.has(found.languages[index]) === wanted);
      const codes = kept.map((index) => found.languages[index]);
      return {
        type: "scatter", mode: "markers+text", name, textposition: "top center", textfont: { size: 10.5, color: colours.ink },
        x: kept.map((index) => found.alignment[index]), y: kept.map((index) => found.downstream[index]),
        text: codes.map((code) => label(named ? nx.data.names[code] : code.split("_")[0])), customdata: codes.map((code) => label(nx.fullName(code))),
        marker: { symbol, size: 8, color: nx.lineStyle(k).colour }, cliponaxis: false,
        hovertemplate: `<b>%{customdata}</b><br>${label(found.metric)} %{x:.3f}<br>${label(found.task)} %{y:.4g}<extra></extra>`,
      };
    });
  }

  const panel = {
    id: "scatter",
    title: "Alignment and downstream scores",
    options: [{ key: "task", label: "Task", choices: () => [...new Set(all().map(({ task }) => task))].map((task) => [task, task]) }],
    visible: () => all().length > 0,
    draw(state, body) {
      const found = chosen(state), colours = themeColours();
      if (!body.childElementCount) body.append(el("p", {}), el("div", { id: "scatter", class: "chart tall" }), el("p", { class: "muted small" }));
      const [text, chart, notes] = body.children;
      text.replaceChildren(...caption(found, state));
      notes.replaceChildren(nx.data.scatter.notes.join("; "));
      chart.hidden = !found;
      if (!found) return undefined;
      return Plotly.react(chart, traces(found, colours), layout(colours, {
        showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
        margin: { l: 64, r: 24, t: 40, b: 52 }, uirevision: `${found.run} ${found.task} ${found.metric}`,
        xaxis: { title: { text: `${label(found.metric)} at step ${format.step(found.step)}` } }, yaxis: { title: { text: label(found.task) } },
      }), CONFIG);
    },
    mark: () => undefined,
    table(state) {
      const found = chosen(state);
      const rows = found ? found.languages.map((code, k) => [found.run, found.step, code, found.metric, found.alignment[k], found.task, found.downstream[k]]) : [];
      return { name: "downstream", header: ["run", "step", "language", "metric", "score", "task", "downstream"], rows };
    },
  };
  nx.addPanel(panel);
})(window.neuronxa);
