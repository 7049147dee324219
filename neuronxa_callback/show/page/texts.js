"use strict";
/*
 * The texts around the charts, and the main numbers of the chosen probe.
 */
(function (nx) {
  const { el, format, MEAN } = nx;
  const $ = (id) => document.getElementById(id);

  nx.fullName = (code) => (nx.data.names[code] === code ? code : `${nx.data.names[code]} \u00b7 ${code}`);

  /** The texts around the charts. */
  nx.drawTexts = function (state) {
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
    const minus = nx.referenceName(state);
    for (const element of document.querySelectorAll(".pair .at")) element.textContent += minus && ` minus ${minus}`;
    $("difference-note").hidden = !minus;
    const since = nx.single ? "" : ` "Since first" compares the same pairs at step ${format.step(run.steps[0])}; * marks p < 0.05 (Holm over languages, and over groups).`;
    document.querySelector(".last").textContent = `${several ? run.name + ", " : ""}last probe, step ${format.step(run.steps.at(-1))}`;
    $("table-note").textContent = `Chance is ${format.number(run.chance)}.${since} Intervals are 95 %.`;
    drawFacts(state);
  };

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
      ...(nx.single ? [] : [["Since first probe", step ? format.signed(number("change")) : "\u2013", step ? (number("p") === null ? "" : significant ? "significant" : "not significant") : "this is the first"],
      ["Best mean", best < 0 ? "n/a" : format.number(means[best]), best < 0 ? "" : `at step ${format.step(run.steps[best])}`]]),
      ["Highest", ...scoreAndCode(scored[0])], ["Lowest", ...scoreAndCode(scored.at(-1))],
      ["Loss", format.number(loss), loss === null || lossStep === run.steps[step] ? "" : `at step ${format.step(lossStep)}`],
    ];
    box.replaceChildren(...shown.map(([name, value, more]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, el("b", {}, value), el("span", { class: "muted" }, more)))));
    return undefined;
  }
})(window.neuronxa);
