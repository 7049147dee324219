"use strict";
/*
 * What the curve by layer and the heat map show: scores, or the difference from another probe, which
 * is the first one of the run or that of another run on the same sentences.
 */
(function (nx) {
  const { format, MEAN } = nx;

  /** Whether two runs measure the same thing, so that their difference means something. */
  nx.comparable = (one, other) => one.measurement === other.measurement;

  /** What may be subtracted from a run: "first" or another run that is comparable; else null. */
  nx.usableMinus = function (run, minus) {
    if (minus === "first") return run.steps.length > 1 ? minus : null;
    return minus !== null && minus !== run && nx.comparable(run, minus) ? minus : null;
  };

  /** What is subtracted from a step of the chosen run: {run, step}, or null. */
  function referenceAt(state, step) {
    const { run, minus } = state;
    if (minus === "first") return { run, step: 0 };
    if (minus === null || !minus.metrics.has(state.metric)) return null;
    return { run: minus, step: minus.nearest(run.steps[step]) };
  }
  nx.reference = (state) => referenceAt(state, state.step);

  /** The reference as text, such as "step 0" or "other, step 100". */
  nx.referenceName = function (state) {
    const reference = nx.reference(state);
    if (!reference) return "";
    const at = `step ${format.step(reference.run.steps[reference.step])}`;
    return reference.run === state.run ? at : `${reference.run.name}, ${at}`;
  };

  /** The same language, group or mean in another run; undefined if it has none. */
  function sameLanguage(run, language, other) {
    if (run === other || language === MEAN) return language;
    if (language >= 0) return other.index.get(run.languages[language]);
    const group = run.groups[-2 - language];
    const k = other.groups.findIndex(({ name, languages }) => name === group.name && String(languages) === String(group.languages));
    return k < 0 ? undefined : nx.groupIndex(k);
  }

  /** [layer of the run, the same layer of the other run or -1]. */
  function sameLayers(run, other, metric) {
    const layers = other.metrics.get(metric).layers;
    return run.metrics.get(metric).layers.map((layer) => layers.indexOf(layer));
  }

  /** The values by layer: scores, or differences; null where unknown. */
  nx.layerValues = function (state, language, step = state.step) {
    const { run, metric } = state, scores = run.curve(metric, step, language);
    const reference = referenceAt(state, step);
    if (!reference) return scores;
    const other = sameLanguage(run, language, reference.run);
    if (other === undefined) return scores.map(() => null);
    const subtracted = reference.run.curve(metric, reference.step, other);
    const layers = sameLayers(run, reference.run, metric);
    return scores.map((score, k) => {
      const less = subtracted[layers[k]] ?? null;
      return score === null || less === null ? null : score - less;
    });
  };

  /**
   * The 95 % intervals of a language's values by layer; null where unknown, as for means.
   * A difference has that of two independent scores (MOVER: G. Zou & A. Donner, 2008, Statistics in
   * Medicine 27), which is too wide for scores of the same sentences.
   */
  nx.layerEnds = function (state, language) {
    const { run, metric, step } = state, reference = nx.reference(state);
    const one = run.curve(metric, step, language);
    if (language < 0) return one.map(() => null);
    const own = one.map((_, k) => run.layerInterval(metric, step, language, k));
    if (!reference) return own;
    const other = sameLanguage(run, language, reference.run);
    if (other === undefined) return one.map(() => null);
    const two = reference.run.curve(metric, reference.step, other);
    const layers = sameLayers(run, reference.run, metric);
    return one.map((score, k) => {
      const less = two[layers[k]] ?? null;
      const its = less === null ? null : reference.run.layerInterval(metric, reference.step, other, layers[k]);
      return score === null || !own[k] || !its ? null : differenceEnds(score, own[k], less, its);
    });
  };

  function differenceEnds(one, [low, high], two, [itsLow, itsHigh]) {
    return [one - two - Math.hypot(one - low, itsHigh - two), one - two + Math.hypot(high - one, two - itsLow)];
  }

  const extremes = new Map();

  /** The lowest and highest difference of a language in a layer at any step: charts keep one scale. */
  nx.differenceRange = function (state) {
    const { run, metric, minus } = state;
    const key = JSON.stringify([run.name, metric, minus === "first" ? null : minus.name]);
    if (!extremes.has(key)) {
      let low = 0, high = 0;
      for (let step = 0; step < run.steps.length; step++) {
        for (let language = 0; language < run.languages.length; language++) {
          for (const value of nx.layerValues(state, language, step)) {
            low = Math.min(low, value ?? 0);
            high = Math.max(high, value ?? 0);
          }
        }
      }
      extremes.set(key, [low, high]);
    }
    return extremes.get(key);
  };

  /** The orders of the rows of the heat map. */
  nx.ORDERS = { corpus: "corpus", score: "score", name: "name", group: "group" };

  /**
   * The rows of the heat map: {code}, or {group} for the heading of a group. The order by score is
   * that of the last probe, so that rows do not jump from step to step.
   */
  nx.heatRows = function (state) {
    const { run, order } = state;
    const shown = run.languages.filter((code) => state.shown.has(code));
    if (order === "group" && run.groups.length) {
      const grouped = run.groups.flatMap(({ name, languages }) => {
        const members = shown.filter((code) => languages.includes(code));
        return members.length ? [{ group: name }, ...members.map((code) => ({ code }))] : [];
      });
      const others = shown.filter((code) => !run.groups.some(({ languages }) => languages.includes(code)));
      return [...grouped, ...(others.length ? [{ group: "no group" }] : []), ...others.map((code) => ({ code }))];
    }
    if (order === "name") shown.sort((a, b) => nx.data.names[a].localeCompare(nx.data.names[b]));
    if (order === "score" && run.metrics.has(state.metric)) {
      const scores = new Map(shown.map((code) => [code, meanAtEnd(state, run.index.get(code))]));
      shown.sort((a, b) => scores.get(b) - scores.get(a));
    }
    return shown.map((code) => ({ code }));
  };

  function meanAtEnd(state, language) {
    const values = nx.layerValues(state, language, state.run.steps.length - 1);
    return values.includes(null) ? -Infinity : values.reduce((a, b) => a + b, 0) / values.length;
  }
})(window.neuronxa);
