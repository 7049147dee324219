"use strict";
/*
 * State and controls. There is one state; every change goes through `update`, which redraws at most
 * once per frame.
 *
 * <html data-drawn-ms> is the time from the start of navigation to the end of the first drawing;
 * data-drawn-step is the step shown.
 */
(async function (nx) {
  const { el, format, MEAN } = nx;
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const MANY = 12;
  let highlighted = null;

  nx.fullName = (code) => (nx.data.names[code] === code ? code : `${nx.data.names[code]} \u00b7 ${code}`);

  function start(data) {
    nx.data = data;
    const codes = [...new Set(data.runs.flatMap((run) => run.languages))];
    nx.order = new Map(codes.map((code, k) => [code, k]));
    const run = data.runs[0];
    nx.state = {
      run, metric: [...run.metrics.keys()][0], step: run.steps.length - 1, shown: new Set(codes),
      lines: data.runs.length === 1, bands: data.runs.length === 1 && codes.length <= MANY,
      losses: data.runs.some((run) => run.losses.some((loss) => loss !== null)),
    };
  }

  /* Controls */

  function addControls() {
    const metrics = [...new Set(nx.data.runs.flatMap((run) => [...run.metrics.keys()]))];
    $("metrics").append(...metrics.map((name) => {
      const input = el("input", { type: "radio", name: "metric", value: name });
      input.checked = name === nx.state.metric;
      input.addEventListener("change", () => update({ metric: name }, allDrawings));
      return el("label", {}, input, el("span", {}, name));
    }));
    $("run-field").hidden = nx.data.runs.length === 1;
    $("run").append(...nx.data.runs.map((run, k) => el("option", { value: k }, run.name)));
    $("run").addEventListener("change", (event) => chooseRun(nx.data.runs[event.target.value]));
    for (const name of ["lines", "bands", "losses"]) {
      $(name).addEventListener("change", () => update({ [name]: $(name).checked }, [nx.drawOverSteps, drawControls]));
    }
    $("losses").parentElement.hidden = !nx.state.losses;
    $("step").addEventListener("input", () => goToStep(Number($("step").value)));
    $("before").addEventListener("click", () => goToStep(nx.state.step - 1));
    $("after").addEventListener("click", () => goToStep(nx.state.step + 1));
    document.addEventListener("keydown", onKey);
    for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, highlight);
    addChips();
    addThemes();
  }

  /** The arrow keys change the step, except in elements that use these keys themselves. */
  function onKey(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const busy = event.target.closest("input, select, textarea, .scroll") || event.altKey || event.ctrlKey || event.metaKey;
    if (by && !busy) {
      event.preventDefault();
      goToStep(nx.state.step + by);
    }
  }

  /** Highlights the language under the pointer or focus, in a chip or a row of the table. */
  function highlight(event) {
    const code = event.target.closest?.("[data-code]")?.dataset.code ?? null;
    const known = nx.order.has(code) && nx.state.shown.has(code) ? code : null;
    if (known === highlighted) return;
    highlighted = known;
    nx.highlight(known);
  }

  function chooseRun(run) {
    const steps = run.steps, current = nx.state.run.steps[nx.state.step];
    const nearest = steps.reduce((best, step, k) => (Math.abs(step - current) < Math.abs(steps[best] - current) ? k : best), 0);
    update({ run, step: nearest }, [...allDrawings, () => nx.drawDiagnostics(run)]);
  }

  function goToStep(step) {
    const last = nx.state.run.steps.length - 1;
    update({ step: Math.max(0, Math.min(last, step)) }, [nx.markStep, ...stepDrawings]);
  }

  function addChips() {
    const buttons = [...nx.order.keys()].map((code) => {
      const chip = el("button", { type: "button", class: "chip", title: nx.fullName(code), "aria-pressed": "true" }, el("bdi", {}, code));
      chip.dataset.code = code;
      chip.addEventListener("click", (event) => toggle(code, event.altKey || event.shiftKey));
      return chip;
    });
    const every = el("button", { type: "button", class: "chip all", title: "Show all languages, or none" }, "all / none");
    every.addEventListener("click", () => showLanguages(nx.state.shown.size ? [] : [...nx.order.keys()]));
    $("chips").append(every, ...buttons, el("span", { class: "muted small hint" }, "shift-click: only this one"));
  }

  function toggle(code, only) {
    const { shown } = nx.state;
    if (only) showLanguages([code]);
    else showLanguages([...nx.order.keys()].filter((other) => shown.has(other) !== (other === code)));
  }

  function showLanguages(codes) {
    update({ shown: new Set(codes), lines: true }, [nx.setHeight, nx.drawOverSteps, nx.drawCurve, nx.drawHeat, drawControls]);
  }

  /** Updates the check boxes and chips of the first chart. */
  function drawControls() {
    for (const name of ["lines", "bands", "losses"]) $(name).checked = nx.state[name];
    $("bands").disabled = !nx.state.lines;
    for (const chip of $("chips").querySelectorAll("[data-code]")) {
      chip.querySelector("svg")?.remove();
      chip.prepend(nx.swatch(nx.lineStyle(nx.order.get(chip.dataset.code))));
      chip.setAttribute("aria-pressed", String(nx.state.shown.has(chip.dataset.code)));
    }
  }

  function addThemes() {
    const name = () => {
      $("theme").textContent = nx.dark() ? "Light" : "Dark";
      $("theme").setAttribute("aria-label", `Switch to the ${nx.dark() ? "light" : "dark"} theme`);
    };
    const redraw = () => (name(), update({}, [...allDrawings, drawControls]));
    $("theme").addEventListener("click", () => {
      nx.setTheme(nx.dark() ? "light" : "dark");
      redraw();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    name();
    let themeOnScreen;
    const printing = (on) => {
      if (on) themeOnScreen = root.dataset.theme;
      if (on) root.dataset.theme = "light";
      else if (themeOnScreen) root.dataset.theme = themeOnScreen;
      else delete root.dataset.theme;
      root.classList.toggle("printing", on);
      for (const draw of [nx.drawOverSteps, nx.drawCurve, nx.drawHeat]) draw(nx.state);
      for (const id of ["over-steps", "curve", "heat"]) Plotly.relayout(id, { width: on ? $(id).clientWidth : undefined, autosize: !on });
    };
    window.addEventListener("beforeprint", () => printing(true));
    window.addEventListener("afterprint", () => printing(false));
  }

  /* Drawing */

  const stepDrawings = [drawTexts, nx.setHeight, nx.drawCurve, nx.drawHeat, nx.drawTable, nx.drawNotes];
  const allDrawings = [nx.drawOverSteps, ...stepDrawings];
  const waiting = new Set();

  /** Changes the state and schedules drawings for the next frame. */
  function update(changes, drawings) {
    Object.assign(nx.state, changes);
    if (!waiting.size) requestAnimationFrame(flush);
    for (const draw of drawings) waiting.add(draw);
  }

  async function flush() {
    const drawings = [...waiting];
    waiting.clear();
    await Promise.all(drawings.map((draw) => draw(nx.state)));
    root.dataset.drawnStep = nx.state.run.steps[nx.state.step];
  }

  /** The texts around the charts. */
  function drawTexts(state) {
    const { run, metric, step } = state;
    const at = `step ${format.step(run.steps[step])}`;
    const several = nx.data.runs.length > 1;
    $("step").max = run.steps.length - 1;
    $("step").value = step;
    $("step").disabled = run.steps.length === 1;
    $("step").setAttribute("aria-valuetext", at);
    $("before").disabled = step === 0;
    $("after").disabled = step === run.steps.length - 1;
    $("run").value = nx.data.runs.indexOf(run);
    $("step-value").textContent = `${format.step(run.steps[step])} (${step + 1} of ${run.steps.length})`;
    $("subtitle").textContent = [
      several ? format.count(nx.data.runs.length, "run") : run.name,
      `${format.count(run.languages.length, "language")} with ${run.pivot}`,
      format.count(run.pairs, "pair"), format.count(run.steps.length, "probe"),
    ].join(" \u00b7 ");
    const place = `${several ? run.name + ", " : ""}${metric}, ${at}`;
    for (const element of document.querySelectorAll(".at")) element.textContent = place;
    document.querySelector(".last").textContent = `${several ? run.name + ", " : ""}last probe, step ${format.step(run.steps.at(-1))}`;
    $("table-note").textContent = `Chance is ${format.number(run.chance)}. "Since first" compares the same pairs at step ${format.step(run.steps[0])}; * marks p < 0.05 (Holm over languages). Intervals are 95 %.`;
    drawFacts(state);
  }

  /** The main numbers of the step. */
  function drawFacts({ run, metric, step }) {
    const box = $("facts");
    if (!run.metrics.has(metric)) return box.replaceChildren();
    const number = (column) => run.number(metric, step, MEAN, column);
    const scored = run.languages.map((code, k) => [code, run.score(metric, step, k)]).filter(([, score]) => score !== null);
    scored.sort((a, b) => b[1] - a[1]);
    const means = run.scores(metric, MEAN);
    const best = means.reduce((top, score, k) => (score !== null && (top === -1 || score > means[top]) ? k : top), -1);
    const scoreAndCode = (pair) => (pair ? [format.number(pair[1]), pair[0]] : ["n/a", ""]);
    const significant = number("p") !== null && number("p") < 0.05;
    const loss = run.losses[step], lossStep = run.loss_steps[step];
    const shown = [
      ["Mean score", format.number(means[step]), format.interval(number("low"), number("high"), 3)],
      ["Since first probe", step ? format.signed(number("change")) : "\u2013", step ? (number("p") === null ? "" : significant ? "significant" : "not significant") : "this is the first"],
      ["Best mean", best < 0 ? "n/a" : format.number(means[best]), best < 0 ? "" : `at step ${format.step(run.steps[best])}`],
      ["Highest", ...scoreAndCode(scored[0])], ["Lowest", ...scoreAndCode(scored.at(-1))],
      ["Loss", format.number(loss), loss === null || lossStep === run.steps[step] ? "" : `at step ${format.step(lossStep)}`],
    ];
    box.replaceChildren(...shown.map(([name, value, more]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, el("b", {}, value), el("span", { class: "muted" }, more)))));
    return undefined;
  }

  /** A click on a point of the first chart goes to its step. */
  function addClicks() {
    $("over-steps").on("plotly_click", (event) => {
      const step = nx.state.run.steps.indexOf(event.points[0].x);
      if (step >= 0) goToStep(step);
    });
  }

  const later = (ms) => new Promise((done) => setTimeout(done, ms));
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

  try {
    start(await nx.loading);
    addControls();
    drawControls();
    await Promise.all(allDrawings.map((draw) => draw(nx.state)));
    addClicks();
    nx.drawDiagnostics(nx.state.run);
    nx.drawFingerprint(nx.data.runs);
    // A page in the background gets no frames, so do not wait for one for long.
    await Promise.race([frame(), later(500)]);
    const ms = Math.round(performance.now());
    root.dataset.drawnStep = nx.state.run.steps[nx.state.step];
    root.dataset.drawnMs = ms;
    $("drawn").textContent = `${(ms / 1000).toFixed(2)} s`;
  } catch (error) {
    $("failure").hidden = false;
    $("failure").textContent = `The page could not be drawn: ${error.message}`;
    throw error;
  }
})(window.neuronxa);
