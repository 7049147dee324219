"use strict";
/*
 * The data of the page: unpacks what data.py packed, and computes scores from it.
 * A missing number is null, so that a chart has a gap there and a table shows n/a.
 */
window.neuronxa = {};

(function (nx) {
  const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

  /** The unpacked data: {columns, palette, names, notes, runs: [Run], run_groups?, scatter?}. */
  async function load() {
    const packed = JSON.parse(document.getElementById("data").textContent).zlib;
    const binary = atob(packed);
    const bytes = new Uint8Array(binary.length);
    for (let k = 0; k < bytes.length; k++) bytes[k] = binary.charCodeAt(k);
    if (!("DecompressionStream" in window)) {
      throw new Error("this browser has no DecompressionStream; use a browser of 2023 or later");
    }
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const size = new DataView(buffer).getUint32(0, true);
    const data = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
    const view = ({ shape, type, offset }) => {
      const length = shape.reduce((a, b) => a * b, 1);
      return new TYPES[type](buffer, 4 + size + offset, length);
    };
    data.runs = data.runs.map((plain) => new Run(plain, data.columns, view));
    viewArrays(data.run_groups, view);
    return data;
  }

  const isPacked = (node) => Number.isInteger(node.offset) && node.type in TYPES && Array.isArray(node.shape);

  /** Replaces packed arrays below a node by {numbers, shape}. */
  function viewArrays(node, view) {
    for (const [key, child] of Object.entries(node ?? {})) {
      if (child === null || typeof child !== "object") continue;
      if (isPacked(child)) node[key] = { numbers: view(child), shape: child.shape };
      else viewArrays(child, view);
    }
  }

  /**
   * One run. A language is its index in `languages`; MEAN is the mean over all of them, and
   * `groupIndex(k)` the mean over the languages of group k.
   */
  const MEAN = -1;
  nx.MEAN = MEAN;
  nx.groupIndex = (k) => -2 - k;

  class Run {
    constructor(plain, columns, view) {
      Object.assign(this, plain);
      this.columns = columns;
      this.index = new Map(this.languages.map((code, k) => [code, k]));
      for (const group of this.groups) group.rows = group.languages.map((code) => this.index.get(code));
      viewArrays(this.panels, view);
      this.metrics = new Map(Object.entries(plain.metrics));
      for (const metric of this.metrics.values()) {
        metric.counts = view(metric.counts);
        metric.numbers = view(metric.numbers);
        metric.layer_intervals = view(metric.layer_intervals);
        metric.missing = 2 ** (8 * metric.counts.BYTES_PER_ELEMENT) - 1;
      }
    }

    /** Share of aligned pairs per layer; null for a layer with NaN. */
    curve(name, step, language) {
      const metric = this.metrics.get(name);
      const layers = metric.layers.length;
      const rows = this.rows(language);
      const scores = new Array(layers);
      for (let layer = 0; layer < layers; layer++) {
        let sum = 0;
        for (const row of rows) {
          const count = metric.counts[(step * this.languages.length + row) * layers + layer];
          sum = count === metric.missing ? NaN : sum + count;
        }
        scores[layer] = orNull(sum / (rows.length * this.pairs));
      }
      return scores;
    }

    /** The ends of the interval of one layer's score; null for a layer with NaN. */
    layerInterval(name, step, language, layer) {
      const metric = this.metrics.get(name);
      const cell = (step * this.languages.length + language) * metric.layers.length + layer;
      const ends = metric.layer_intervals.subarray(2 * cell, 2 * cell + 2);
      return ends[0] === 255 ? null : [ends[0] / 250, ends[1] / 250];
    }

    /** Mean over layers and languages; null if one of the layers has NaN. */
    score(name, step, language) {
      const metric = this.metrics.get(name);
      metric.scores ??= new Map();
      const key = this.place(step, language);
      if (!metric.scores.has(key)) {
        const curve = this.curve(name, step, language);
        const complete = curve.length > 0 && !curve.includes(null);
        metric.scores.set(key, complete ? curve.reduce((a, b) => a + b, 0) / curve.length : null);
      }
      return metric.scores.get(key);
    }

    /** One number of a packed column, such as "low". */
    number(name, step, language, column) {
      const at = this.place(step, language) * this.columns.length;
      return orNull(this.metrics.get(name).numbers[at + this.columns.indexOf(column)]);
    }

    /** The layer with the highest score (the first of equals); nulls if a layer has NaN. */
    peak(name, step, language) {
      const curve = this.curve(name, step, language);
      if (!curve.length || curve.includes(null)) return { layer: null, index: null, score: null };
      const index = curve.indexOf(Math.max(...curve));
      return { layer: this.metrics.get(name).layers[index], index, score: curve[index] };
    }

    /** The highest score of a language in a layer at any step: charts keep one scale over steps. */
    highestScore(name) {
      const metric = this.metrics.get(name);
      metric.highest ??= metric.counts.reduce((a, b) => (b === metric.missing || b < a ? a : b), 0) / this.pairs;
      return metric.highest;
    }

    /** The highest end of an interval of a score at any step: the table keeps one scale. */
    highestEnd(name) {
      const metric = this.metrics.get(name);
      if (metric.highestEnd === undefined) {
        const highs = this.languages.flatMap((_, k) => this.column(name, k, "high"));
        metric.highestEnd = highs.reduce((a, b) => (b === null || b < a ? a : b), 0);
      }
      return metric.highestEnd;
    }

    /** The score of "characters" (3-grams) or "length" under the same rule, without a model. */
    baseline(kind, language) {
      const scores = this.rows(language).map((row) => this.diagnostics.surface?.[this.languages[row]]?.[kind]);
      return scores.every(Number.isFinite) ? scores.reduce((a, b) => a + b, 0) / scores.length : null;
    }

    /** The score at every step. */
    scores(name, language) {
      return this.steps.map((_, step) => this.score(name, step, language));
    }

    /** A packed column at every step. */
    column(name, language, column) {
      return this.steps.map((_, step) => this.number(name, step, language, column));
    }

    /** The indices of the languages to average. */
    rows(language) {
      if (language >= 0) return [language];
      return language === MEAN ? this.languages.map((_, k) => k) : this.groups[-2 - language].rows;
    }

    /** The number of a row of `numbers`: languages, the mean, groups, at one step after another. */
    place(step, language) {
      const count = this.languages.length;
      const row = language >= 0 ? language : language === MEAN ? count : count - 1 - language;
      return step * (count + 1 + this.groups.length) + row;
    }

    /** The index of the probe nearest to a step. */
    nearest(step) {
      return this.steps.reduce((best, other, k) => (Math.abs(other - step) < Math.abs(this.steps[best] - step) ? k : best), 0);
    }

    /** The warnings of a step: those that start with the code of a language, and the others. */
    warningsAt(step) {
      const general = [], byLanguage = new Map();
      for (const number of this.warnings.by_step[step]) {
        const text = this.warnings.texts[number];
        const code = this.languages.find((language) => text.startsWith(language + ": "));
        if (code === undefined) general.push(text);
        else byLanguage.set(code, [...(byLanguage.get(code) ?? []), text.slice(code.length + 2)]);
      }
      return { general, byLanguage };
    }
  }

  /* Starts now, while the browser parses the rest. page.js awaits it and shows its error. */
  nx.loading = load();
  nx.loading.catch(() => {});

  nx.orNull = orNull;

  function orNull(number) {
    return Number.isFinite(number) ? number : null;
  }

  /* Numbers as text: with a real minus sign, and "n/a" for null. */
  nx.format = {
    number: (value, digits = 3) => (value === null ? "n/a" : minus(value.toFixed(digits))),
    signed: (value, digits = 3) =>
      value === null ? "n/a" : (value > 0 ? "+" : "") + minus(value.toFixed(digits)),
    interval: (low, high, digits = 2) =>
      low === null || high === null
        ? "n/a"
        : `${minus(low.toFixed(digits))}\u2009\u2013\u2009${minus(high.toFixed(digits))}`,
    p: (p) => (p === null ? "n/a" : p < 0.0001 ? "p < 0.0001" : `p = ${p.toFixed(4)}`),
    short: (value) =>
      value === null ? "n/a" : minus(Number.isInteger(value) ? String(value) : String(+value.toPrecision(3))),
    step: (step) => String(step).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009"),
    count: (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`,
  };

  function minus(text) {
    return text.replace(/^-(0(\.0*)?)$/, "$1").replace("-", "\u2212");
  }
})(window.neuronxa);
