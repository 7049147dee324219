"use strict";
/*
 * The page's data: unpacks what data.py packed, and answers questions about it.
 * A missing number is null everywhere here, so that a chart leaves a gap and a table says n/a.
 */
window.neuronxa = { drawn_ms: null };

(function (nx) {
  const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };

  /** The unpacked data: {columns, names, notes, runs: [Run]}. */
  async function load() {
    const packed = JSON.parse(document.getElementById("data").textContent).zlib;
    const binary = atob(packed);
    const bytes = new Uint8Array(binary.length);
    for (let k = 0; k < bytes.length; k++) bytes[k] = binary.charCodeAt(k);
    if (!("DecompressionStream" in window)) {
      throw new Error("this browser is too old to unpack the page (it needs DecompressionStream, 2023)");
    }
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const size = new DataView(buffer).getUint32(0, true);
    const data = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
    const view = (place) => {
      const length = place.shape.reduce((a, b) => a * b, 1);
      return new TYPES[place.type](buffer, 4 + size + place.at, length);
    };
    data.runs = data.runs.map((plain) => new Run(plain, data.columns, view));
    return data;
  }

  /** One run. A language is its place in `languages`; MEAN stands for all of them. */
  const MEAN = -1;
  nx.MEAN = MEAN;

  class Run {
    constructor(plain, columns, view) {
      Object.assign(this, plain);
      this.columns = columns;
      this.place = new Map(this.languages.map((code, k) => [code, k]));
      this.metrics = new Map(Object.entries(plain.metrics));
      for (const metric of this.metrics.values()) {
        metric.counts = view(metric.counts);
        metric.numbers = view(metric.numbers);
        metric.missing = 2 ** (8 * metric.counts.BYTES_PER_ELEMENT) - 1;
      }
    }

    /** Share of aligned pairs per layer; null for a layer that held NaN. */
    curve(name, step, language) {
      const metric = this.metrics.get(name);
      const layers = metric.layers.length;
      const rows = this.rows(language);
      const found = new Array(layers);
      for (let layer = 0; layer < layers; layer++) {
        let sum = 0;
        for (const row of rows) {
          const count = metric.counts[(step * this.languages.length + row) * layers + layer];
          sum = count === metric.missing ? NaN : sum + count;
        }
        found[layer] = known(sum / (rows.length * this.pairs));
      }
      return found;
    }

    /** Mean over layers, then languages; null where one of the layers held NaN. */
    score(name, step, language) {
      const metric = this.metrics.get(name);
      metric.scores ??= new Map();
      const key = step * (this.languages.length + 1) + language + 1;
      if (!metric.scores.has(key)) {
        const curve = this.curve(name, step, language);
        const whole = curve.length > 0 && !curve.includes(null);
        metric.scores.set(key, whole ? curve.reduce((a, b) => a + b, 0) / curve.length : null);
      }
      return metric.scores.get(key);
    }

    /** One of the packed columns, such as "low". */
    number(name, step, language, column) {
      const row = language === MEAN ? this.languages.length : language;
      const at = (step * (this.languages.length + 1) + row) * this.columns.length;
      return known(this.metrics.get(name).numbers[at + this.columns.indexOf(column)]);
    }

    /** The best layer and its score, the first of equals; nulls where one held NaN. */
    peak(name, step, language) {
      const curve = this.curve(name, step, language);
      if (!curve.length || curve.includes(null)) return { layer: null, at: null, score: null };
      const at = curve.indexOf(Math.max(...curve));
      return { layer: this.metrics.get(name).layers[at], at, score: curve[at] };
    }

    /** The highest score of any single layer at any step: charts keep one scale over steps. */
    top(name) {
      const metric = this.metrics.get(name);
      metric.top ??= metric.counts.reduce((a, b) => (b === metric.missing || b < a ? a : b), 0) / this.pairs;
      return metric.top;
    }

    /** The highest end of any interval of a score: tables keep one scale over steps. */
    reach(name) {
      const metric = this.metrics.get(name);
      if (metric.reach === undefined) {
        const highs = this.languages.flatMap((_, k) => this.over(name, k, "high"));
        metric.reach = highs.reduce((a, b) => (b === null || b < a ? a : b), 0);
      }
      return metric.reach;
    }

    /** What "characters" (3-grams) or "length" alone would align: the sentences' share, no model's. */
    baseline(kind, language) {
      const found = this.rows(language).map((row) => this.diagnostics.surface?.[this.languages[row]]?.[kind]);
      return found.every(Number.isFinite) ? found.reduce((a, b) => a + b, 0) / found.length : null;
    }

    /** All scores over steps. */
    scores(name, language) {
      return this.steps.map((_, step) => this.score(name, step, language));
    }

    /** A packed column over steps. */
    over(name, language, column) {
      return this.steps.map((_, step) => this.number(name, step, language, column));
    }

    rows(language) {
      return language === MEAN ? this.languages.map((_, k) => k) : [language];
    }

    /** The warnings of a step: those that name a language, by its code, and the others. */
    warned(step) {
      const found = { general: [], of: new Map() };
      for (const at of this.warnings.at[step]) {
        const text = this.warnings.texts[at];
        const code = this.languages.find((each) => text.startsWith(each + ": "));
        if (code === undefined) found.general.push(text);
        else found.of.set(code, [...(found.of.get(code) ?? []), text.slice(code.length + 2)]);
      }
      return found;
    }
  }

  /* Begun at once: the rest of the page is read meanwhile. What fails is told where it is awaited. */
  nx.loading = load();
  nx.loading.catch(() => {});

  function known(number) {
    return Number.isFinite(number) ? number : null;
  }

  /* Words. A minus is a real one, and what is unknown is said to be. */
  nx.words = {
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
    several: (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`,
  };

  function minus(text) {
    return text.replace(/^-(0(\.0*)?)$/, "$1").replace("-", "\u2212");
  }
})(window.neuronxa);
