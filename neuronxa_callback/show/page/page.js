"use strict";
/*
 * State and controls. One state, one function per kind of change; drawing is coalesced, so that
 * a slider that is dragged draws at most once per frame.
 *
 * For tests and for the curious: window.neuronxa.drawn_ms, also <html data-drawn-ms>, is the time
 * from the start of navigation to the end of the first drawing; data-drawn-step is the step shown.
 */
(async function (nx) {
  const { el, words, MEAN } = nx;
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const MANY = 12;
  let lit = null;

  nx.named = (code) => (nx.data.names[code] === code ? code : `${nx.data.names[code]} \u00b7 ${code}`);

  function start(data) {
    nx.data = data;
    const codes = [...new Set(data.runs.flatMap((run) => run.languages))];
    nx.order = new Map(codes.map((code, k) => [code, k]));
    const run = data.runs[0];
    nx.state = {
      run, metric: [...run.metrics.keys()][0], step: run.steps.length - 1, shown: new Set(codes),
      lines: data.runs.length === 1, bands: data.runs.length === 1 && codes.length <= MANY,
      losses: data.runs.some((each) => each.losses.some((loss) => loss !== null)),
    };
  }

  /* Controls */

  function controls() {
    const metrics = [...new Set(nx.data.runs.flatMap((run) => [...run.metrics.keys()]))];
    $("metrics").append(...metrics.map((name) => {
      const input = el("input", { type: "radio", name: "metric", value: name });
      input.checked = name === nx.state.metric;
      input.addEventListener("change", () => change({ metric: name }, all));
      return el("label", {}, input, el("span", {}, name));
    }));
    $("run-field").hidden = nx.data.runs.length === 1;
    $("run").append(...nx.data.runs.map((run, k) => el("option", { value: k }, run.name)));
    $("run").addEventListener("change", (event) => choose(nx.data.runs[event.target.value]));
    for (const name of ["lines", "bands", "losses"]) {
      $(name).addEventListener("change", () => change({ [name]: $(name).checked }, [nx.drawEmergence, looks]));
    }
    $("losses").parentElement.hidden = !nx.state.losses;
    $("step").addEventListener("input", () => move(Number($("step").value)));
    $("before").addEventListener("click", () => move(nx.state.step - 1));
    $("after").addEventListener("click", () => move(nx.state.step + 1));
    document.addEventListener("keydown", keys);
    for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, lighten);
    chips();
    themes();
  }

  /** Arrows move the step from anywhere, except where they have a meaning of their own. */
  function keys(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const busy = event.target.closest("input, select, textarea, .scroll") || event.altKey || event.ctrlKey || event.metaKey;
    if (by && !busy) {
      event.preventDefault();
      move(nx.state.step + by);
    }
  }

  /** A language that is pointed at, in a chip or a row of the table, stands out in the charts. */
  function lighten(event) {
    const code = event.target.closest?.("[data-code]")?.dataset.code ?? null;
    const known = nx.order.has(code) && nx.state.shown.has(code) ? code : null;
    if (known === lit) return;
    lit = known;
    nx.light(known);
  }

  function choose(run) {
    const steps = run.steps, at = nx.state.run.steps[nx.state.step];
    const near = steps.reduce((best, step, k) => (Math.abs(step - at) < Math.abs(steps[best] - at) ? k : best), 0);
    change({ run, step: near }, [...all, () => nx.drawDiagnostics(run)]);
  }

  function move(step) {
    const last = nx.state.run.steps.length - 1;
    change({ step: Math.max(0, Math.min(last, step)) }, [nx.markStep, ...atStep]);
  }

  function chips() {
    const buttons = [...nx.order.keys()].map((code) => {
      const chip = el("button", { type: "button", class: "chip", title: nx.named(code), "aria-pressed": "true" }, el("bdi", {}, code));
      chip.dataset.code = code;
      chip.addEventListener("click", (event) => toggle(code, event.altKey || event.shiftKey));
      return chip;
    });
    const every = el("button", { type: "button", class: "chip all", title: "Show all languages, or none" }, "all / none");
    every.addEventListener("click", () => show(nx.state.shown.size ? [] : [...nx.order.keys()]));
    $("chips").append(every, ...buttons, el("span", { class: "muted small hint" }, "shift-click: only this one"));
  }

  function toggle(code, only) {
    const { shown } = nx.state;
    if (only) show([code]);
    else show([...nx.order.keys()].filter((each) => shown.has(each) !== (each === code)));
  }

  function show(codes) {
    change({ shown: new Set(codes), lines: true }, [nx.makeRoom, nx.drawEmergence, nx.drawCurve, nx.drawHeat, looks]);
  }

  /** What the first chart's boxes and chips look like. */
  function looks() {
    for (const name of ["lines", "bands", "losses"]) $(name).checked = nx.state[name];
    $("bands").disabled = !nx.state.lines;
    for (const chip of $("chips").querySelectorAll("[data-code]")) {
      chip.querySelector("svg")?.remove();
      chip.prepend(nx.swatch(nx.look(nx.order.get(chip.dataset.code))));
      chip.setAttribute("aria-pressed", String(nx.state.shown.has(chip.dataset.code)));
    }
  }

  function themes() {
    const name = () => {
      $("theme").textContent = nx.dark() ? "Light" : "Dark";
      $("theme").setAttribute("aria-label", `Switch to the ${nx.dark() ? "light" : "dark"} theme`);
    };
    const redraw = () => (name(), change({}, [...all, looks]));
    $("theme").addEventListener("click", () => {
      nx.choose(nx.dark() ? "light" : "dark");
      redraw();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    name();
    let kept;
    const paper = (on) => {
      if (on) kept = root.dataset.theme;
      if (on) root.dataset.theme = "light";
      else if (kept) root.dataset.theme = kept;
      else delete root.dataset.theme;
      root.classList.toggle("paper", on);
      for (const draw of [nx.drawEmergence, nx.drawCurve, nx.drawHeat]) draw(nx.state);
      for (const id of ["emergence", "curve", "heat"]) Plotly.relayout(id, { width: on ? $(id).clientWidth : undefined, autosize: !on });
    };
    window.addEventListener("beforeprint", () => paper(true));
    window.addEventListener("afterprint", () => paper(false));
  }

  /* Drawing */

  const atStep = [texts, nx.makeRoom, nx.drawCurve, nx.drawHeat, nx.drawTable, nx.drawNotes];
  const all = [nx.drawEmergence, ...atStep];
  const waiting = new Set();

  /** Takes a change and has what it touches drawn in the next frame. */
  function change(what, drawings) {
    Object.assign(nx.state, what);
    if (!waiting.size) requestAnimationFrame(flush);
    for (const each of drawings) waiting.add(each);
  }

  async function flush() {
    const drawings = [...waiting];
    waiting.clear();
    await Promise.all(drawings.map((draw) => draw(nx.state)));
    root.dataset.drawnStep = nx.state.run.steps[nx.state.step];
  }

  /** All words around the charts. */
  function texts(state) {
    const { run, metric, step } = state;
    const at = `step ${words.step(run.steps[step])}`;
    const several = nx.data.runs.length > 1;
    $("step").max = run.steps.length - 1;
    $("step").value = step;
    $("step").disabled = run.steps.length === 1;
    $("step").setAttribute("aria-valuetext", at);
    $("before").disabled = step === 0;
    $("after").disabled = step === run.steps.length - 1;
    $("run").value = nx.data.runs.indexOf(run);
    $("step-value").textContent = `${words.step(run.steps[step])} (${step + 1} of ${run.steps.length})`;
    $("subtitle").textContent = [
      several ? words.several(nx.data.runs.length, "run") : run.name,
      `${words.several(run.languages.length, "language")} with ${run.pivot}`,
      words.several(run.pairs, "pair"), words.several(run.steps.length, "probe"),
    ].join(" \u00b7 ");
    const where = `${several ? run.name + ", " : ""}${metric}, ${at}`;
    for (const each of document.querySelectorAll(".at")) each.textContent = where;
    document.querySelector(".last").textContent = `${several ? run.name + ", " : ""}last probe, step ${words.step(run.steps.at(-1))}`;
    $("table-note").textContent = `Chance is ${words.number(run.chance)}. "Since first" compares the same pairs at step ${words.step(run.steps[0])}; * marks p < 0.05 (Holm over languages). Intervals are 95 %.`;
    facts(state);
  }

  /** The numbers that one looks for first. */
  function facts({ run, metric, step }) {
    const box = $("facts");
    if (!run.metrics.has(metric)) return box.replaceChildren();
    const of = (column) => run.number(metric, step, MEAN, column);
    const scored = run.languages.map((code, k) => [code, run.score(metric, step, k)]).filter(([, score]) => score !== null);
    scored.sort((a, b) => b[1] - a[1]);
    const means = run.scores(metric, MEAN);
    const best = means.reduce((top, score, k) => (score !== null && (top === -1 || score > means[top]) ? k : top), -1);
    const end = (pair) => (pair ? [words.number(pair[1]), pair[0]] : ["n/a", ""]);
    const sure = of("p") !== null && of("p") < 0.05;
    const loss = run.losses[step], logged = run.loss_steps[step];
    const shown = [
      ["Mean score", words.number(means[step]), words.interval(of("low"), of("high"), 3)],
      ["Since first probe", step ? words.signed(of("change")) : "\u2013", step ? (of("p") === null ? "" : sure ? "significant" : "not significant") : "this is the first"],
      ["Best mean", best < 0 ? "n/a" : words.number(means[best]), best < 0 ? "" : `at step ${words.step(run.steps[best])}`],
      ["Highest", ...end(scored[0])], ["Lowest", ...end(scored.at(-1))],
      ["Loss", words.number(loss), loss === null || logged === run.steps[step] ? "" : `at step ${words.step(logged)}`],
    ];
    box.replaceChildren(...shown.map(([name, value, more]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, el("b", {}, value), el("span", { class: "muted" }, more)))));
    return undefined;
  }

  /** Clicking a point of the first chart goes to its step. */
  function clicks() {
    $("emergence").on("plotly_click", (event) => {
      const at = nx.state.run.steps.indexOf(event.points[0].x);
      if (at >= 0) move(at);
    });
  }

  const later = (ms) => new Promise((done) => setTimeout(done, ms));
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

  try {
    start(await nx.loading);
    controls();
    looks();
    await Promise.all(all.map((draw) => draw(nx.state)));
    clicks();
    nx.drawDiagnostics(nx.state.run);
    nx.drawFingerprint(nx.data.runs);
    // A page in the background gets no frames: what counts there is that all is drawn.
    await Promise.race([frame(), later(500)]);
    nx.drawn_ms = Math.round(performance.now());
    root.dataset.drawnStep = nx.state.run.steps[nx.state.step];
    root.dataset.drawnMs = nx.drawn_ms;
    $("drawn").textContent = `${(nx.drawn_ms / 1000).toFixed(2)} s`;
  } catch (error) {
    $("failure").hidden = false;
    $("failure").textContent = `The page could not be drawn: ${error.message}`;
    throw error;
  }
})(window.neuronxa);
