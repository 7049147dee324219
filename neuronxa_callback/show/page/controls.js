"use strict";
/*
 * The controls, which change the state by `update`.
 */
(function (nx) {
  const { el, format } = nx;
  const $ = (id) => document.getElementById(id);
  let highlighted = null;

  nx.addControls = function () {
    const metrics = [...new Set(nx.data.runs.flatMap((run) => [...run.metrics.keys()]))];
    $("metrics").append(...metrics.map((name) => {
      const input = el("input", { type: "radio", name: "metric", value: name });
      input.checked = name === nx.state.metric;
      input.addEventListener("change", () => nx.update({ metric: name }, nx.drawings.metric));
      return el("label", {}, input, el("span", {}, name));
    }));
    $("run-field").hidden = nx.data.runs.length === 1;
    $("run").append(...nx.data.runs.map((run, k) => el("option", { value: k }, run.name)));
    $("run").addEventListener("change", (event) => chooseRun(nx.data.runs[event.target.value]));
    for (const name of ["lines", "bands", "losses"]) {
      $(name).addEventListener("change", () => nx.update({ [name]: $(name).checked }, [nx.drawOverSteps, nx.drawPanels, nx.drawControls]));
    }
    $("groups").addEventListener("change", () => nx.update({ groups: $("groups").checked }, [nx.drawOverSteps, nx.drawCurve, nx.drawControls]));
    $("losses").parentElement.hidden = nx.single || !nx.data.runs.some((run) => run.losses.some((loss) => loss !== null));
    $("groups").parentElement.hidden = !nx.data.runs.some(({ groups }) => groups.length);
    $("minus").addEventListener("change", (event) => chooseMinus(event.target.value));
    $("order").addEventListener("change", (event) => nx.update({ order: event.target.value }, [nx.drawHeat, nx.setHeight]));
    nx.addDownload($("over-steps-options"), nx.stepsTable);
    nx.addDownload($("heat-options"), nx.layersTable);
    nx.addDownload($("languages-options"), nx.languagesTable);
    if (nx.single) leaveOutSteps();
    $("step").addEventListener("input", () => goToStep(Number($("step").value)));
    $("before").addEventListener("click", () => goToStep(nx.state.step - 1));
    $("after").addEventListener("click", () => goToStep(nx.state.step + 1));
    document.addEventListener("keydown", onKey);
    for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, highlight);
    addChips();
    nx.addThemes();
  };

  /** With a single probe of each run there are no curves over steps: only the choice of languages is left. */
  function leaveOutSteps() {
    $("over-steps").hidden = true;
    $("over-steps-title").textContent = "Languages to show";
    for (const name of ["lines", "bands"]) $(name).parentElement.hidden = true;
    $("over-steps-options").querySelector(".csv").hidden = true;
    $("step").parentElement.hidden = true;
    document.querySelector(".keys").hidden = true;
  }

  /** "", "first" or the number of a run, as in the select. */
  function chooseMinus(value) {
    const minus = value === "" || value === "first" ? value || null : nx.data.runs[value];
    nx.update({ minus }, nx.drawings.layers);
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
    const step = run.nearest(nx.state.run.steps[nx.state.step]);
    nx.update({ run, step, minus: nx.usableMinus(run, nx.state.minus) }, nx.drawings.run);
  }

  function goToStep(step) {
    const last = nx.state.run.steps.length - 1;
    nx.update({ step: Math.max(0, Math.min(last, step)) }, [nx.markStep, ...nx.drawings.step, nx.markPanels]);
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
    $("chips").append(every, ...groupChips(), ...buttons, el("span", { class: "muted small hint" }, "shift-click: only this one"));
  }

  /** A button per group of languages: shows its languages only, or all again. */
  function groupChips() {
    const groups = new Map(nx.data.runs.flatMap((run) => run.groups).map(({ name, languages }) => [name, languages]));
    return [...groups].map(([name, codes]) => {
      const chip = el("button", { type: "button", class: "chip group", title: `Only the ${format.count(codes.length, "language")} of this group` }, el("bdi", {}, name));
      chip.addEventListener("click", () => {
        const alone = codes.length === nx.state.shown.size && codes.every((code) => nx.state.shown.has(code));
        showLanguages(alone ? [...nx.order.keys()] : codes);
      });
      return chip;
    });
  }

  function toggle(code, only) {
    const { shown } = nx.state;
    if (only) showLanguages([code]);
    else showLanguages([...nx.order.keys()].filter((other) => shown.has(other) !== (other === code)));
  }

  function showLanguages(codes) {
    nx.update({ shown: new Set(codes), lines: true }, [nx.setHeight, nx.drawOverSteps, nx.drawCurve, nx.drawHeat, nx.drawPanels, nx.drawControls]);
  }

  /** Updates the controls: metric, check boxes, chips, and the choices that depend on the run. */
  nx.drawControls = function () {
    const { run, minus, order, metric } = nx.state;
    for (const input of $("metrics").querySelectorAll("input")) input.checked = input.value === metric;
    for (const name of ["lines", "bands", "losses", "groups"]) $(name).checked = nx.state[name];
    $("bands").disabled = !nx.state.lines;
    const others = nx.data.runs.map((other, k) => [k, other]).filter(([, other]) => other !== run);
    $("minus").replaceChildren(
      el("option", { value: "" }, "nothing"),
      ...(run.steps.length > 1 ? [el("option", { value: "first" }, `its first probe (step ${format.step(run.steps[0])})`)] : []),
      ...others.map(([k, other]) => el("option", { value: k, ...(nx.comparable(run, other) ? {} : { disabled: "", title: "It does not measure the same thing" }) }, other.name)),
    );
    $("minus").value = minus === null ? "" : minus === "first" ? minus : nx.data.runs.indexOf(minus);
    $("minus-field").hidden = $("minus").options.length === 1;
    $("order").replaceChildren(...Object.entries(nx.ORDERS).filter(([key]) => key !== "group" || run.groups.length).map(([value, text]) => el("option", { value }, text)));
    $("order").value = order === "group" && !run.groups.length ? "corpus" : order;
    for (const chip of $("chips").querySelectorAll("[data-code]")) {
      chip.querySelector("svg")?.remove();
      chip.prepend(nx.swatch(nx.lineStyle(nx.order.get(chip.dataset.code))));
      chip.setAttribute("aria-pressed", String(nx.state.shown.has(chip.dataset.code)));
    }
  };

  /** A click on a point of the first chart goes to its step. */
  nx.addClicks = function () {
    if (nx.single) return;
    $("over-steps").on("plotly_click", (event) => {
      const step = nx.state.run.steps.indexOf(event.points[0].x);
      if (step >= 0) goToStep(step);
    });
  };
})(window.neuronxa);
