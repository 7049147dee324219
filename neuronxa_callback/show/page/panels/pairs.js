"use strict";
/*
 * The pairs of a language at the first, best or last probe: how many layers align each, and which
 * sentence wins where it fails. A chosen pair is marked on the curve by layer; a click on the curve
 * leaves the pairs that fail in that layer. Sentences are there only if the page was made with them.
 */
(function (nx) {
  const { el, format, label } = nx;
  const MOST = 200;
  const NAMES = { first: "first probe", best: "best probe", last: "last probe" };
  let search = "";

  const chosenLanguage = (state) => nx.chosen(panel, "pairLanguage", state);

  /** The pairs of a metric, language and probe: {layers, probe, language, hit(layer, pair), rival(pair)}. */
  function found(state) {
    const { run, metric } = state, { probes, metrics } = run.panels.pairs;
    const name = nx.chosen(panel, "pairProbe", state), probe = probes.findIndex(([each]) => each === name);
    const language = run.index.get(chosenLanguage(state)), { hits, known, rivals } = metrics[metric];
    const [, languages, layers, bytes] = hits.shape, row = probe * languages + language;
    return {
      layers, name, step: run.steps[probes[probe][1]],
      /** Whether a layer aligns a pair; null if the layer holds NaN. */
      hit(layer, pair) {
        const cell = row * layers + layer;
        return known.numbers[cell] ? Boolean((hits.numbers[cell * bytes + (pair >> 3)] >> (pair & 7)) & 1) : null;
      },
      /** The sentence that wins in most layers: {side, pair, layers}; null if none is known. */
      rival(pair) {
        const at = (row * run.pairs + pair) * 2, code = rivals.numbers[at];
        return code ? { side: code % 2 ? "target" : "pivot", pair: (code - 1) >> 1, layers: rivals.numbers[at + 1] } : null;
      },
    };
  }

  const sentences = (state) => nx.data.sentences?.[state.run.name]?.[chosenLanguage(state)] ?? null;

  /** The rows of the list, the least aligned first: {pair, verdicts, aligned, known, rival, texts, winner}. */
  function rows(state) {
    const data = found(state), texts = sentences(state);
    const all = Array.from({ length: state.run.pairs }, (_, pair) => {
      const verdicts = Array.from({ length: data.layers }, (_, layer) => data.hit(layer, pair));
      const rival = data.rival(pair), known = verdicts.filter((hit) => hit !== null);
      const winner = rival && texts ? texts[rival.pair][rival.side === "pivot" ? 0 : 1] : "";
      return { pair, verdicts, aligned: known.filter(Boolean).length, known: known.length, rival, texts: texts?.[pair] ?? [], winner };
    });
    return all.sort((a, b) => a.aligned - b.aligned || a.pair - b.pair);
  }

  /** Whether a row has what is searched: its number, or a part of a sentence. */
  function matches({ pair, texts, winner }) {
    const wanted = search.trim().toLowerCase();
    return !wanted || String(pair + 1) === wanted || [...texts, winner].some((text) => text.toLowerCase().includes(wanted));
  }

  /** One rectangle per layer, filled where the pair is aligned. */
  function strip(verdicts) {
    const width = Math.max(2, Math.min(8, Math.floor(220 / verdicts.length))), gap = width > 3 ? 1 : 0;
    const path = (wanted) => verdicts.map((hit, k) => (hit === wanted ? `M${k * width} 0h${width - gap}v12h${-(width - gap)}z` : "")).join("");
    const shape = (name, wanted) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", "path");
      element.setAttribute("class", name);
      element.setAttribute("d", path(wanted));
      return element;
    };
    const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [key, value] of Object.entries({ width: verdicts.length * width, height: 12, class: "strip", "aria-hidden": "true" })) box.setAttribute(key, value);
    box.append(shape("aligned", true), shape("fails", false));
    return box;
  }

  const rivalText = ({ rival }) => (rival ? `${rival.side} ${rival.pair + 1} in ${format.count(rival.layers, "layer")}` : "");

  function tableRow(row, state) {
    const button = el("button", { type: "button", class: "plain", "aria-pressed": String(state.pair === row.pair), title: "Mark its layers on the curve" }, String(row.pair + 1));
    button.addEventListener("click", () => choosePair(state.pair === row.pair ? null : row.pair));
    const winner = row.winner ? `${rivalText(row)}: ${row.winner}` : rivalText(row);
    return el("tr", {}, el("td", {}, button), el("td", {}, strip(row.verdicts)), el("td", {}, `${row.aligned}/${row.known}`),
      ...row.texts.map((text) => el("td", { class: "text", dir: "auto" }, text)), el("td", { class: "text", dir: "auto" }, winner));
  }

  const redraw = () => nx.update({}, [(state) => nx.drawPanel(panel, state)]);

  function choosePair(pair) {
    nx.update({ pair }, [nx.drawCurve, (state) => nx.drawPanel(panel, state)]);
  }

  function chooseLayer(layer) {
    nx.update({ pairLayer: layer }, [(state) => nx.drawPanel(panel, state)]);
  }

  /** Fills the body once; later drawings only change the table, so that the search keeps its focus. */
  function prepare(body) {
    const input = el("input", { type: "search", placeholder: "number, or part of a sentence", "aria-label": "Search pairs" });
    input.addEventListener("input", () => {
      search = input.value;
      redraw();
    });
    const layer = el("button", { type: "button", class: "plain layer", title: "Show the pairs of all layers" });
    layer.addEventListener("click", () => chooseLayer(null));
    body.replaceChildren(el("div", { class: "options" }, input, layer, el("span", { class: "muted small count" })),
      el("div", { class: "scroll pairs" }, el("table", {})));
  }

  /** A click on the curve leaves the pairs that fail in that layer. */
  function listen() {
    const curve = document.getElementById("curve");
    if (curve.on && !curve.dataset.pairs) {
      curve.dataset.pairs = "yes";
      curve.on("plotly_click", (event) => chooseLayer(Math.round(event.points[0].x)));
    }
  }

  function draw(state, body) {
    if (!body.firstChild) prepare(body);
    listen();
    const { layers, name, step } = found(state), names = state.run.metrics.get(state.metric).layers;
    const at = state.pairLayer ?? null, layer = at !== null && at < layers ? at : null;
    const kept = rows(state).filter((row) => (layer === null || row.verdicts[layer] === false) && matches(row));
    const texts = sentences(state) ? ["Sentence", "Translation"] : [];
    const heads = ["Pair", "By layer", "Aligned", ...texts, "Wins where it fails"];
    const button = body.querySelector(".layer");
    button.hidden = layer === null;
    button.textContent = layer === null ? "" : `fails in layer ${names[layer]} \u00d7`;
    const shown = kept.slice(0, MOST);
    body.querySelector(".count").textContent =
      `${shown.length} of ${format.count(state.run.pairs, "pair")}, the least aligned first; ${NAMES[name]}, step ${format.step(step)}`;
    body.querySelector("table").replaceChildren(
      el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...shown.map((row) => tableRow(row, state))));
  }

  /** Marks of the chosen pair for the curve by layer: rings where it is aligned, crosses where it fails. */
  nx.pairTraces = function (state, colours) {
    if (typeof state.pair !== "number" || !panel.visible(state) || state.pair >= state.run.pairs) return [];
    const data = found(state), code = chosenLanguage(state);
    const y = nx.layerValues(state, state.run.index.get(code));
    return [[true, "circle-open", "aligned"], [false, "x-thin-open", "fails"]].map(([wanted, symbol, word]) => {
      const x = y.map((_, layer) => layer).filter((layer) => data.hit(layer, state.pair) === wanted);
      return {
        type: "scatter", mode: "markers", x, y: x.map((layer) => y[layer]), name: `pair ${state.pair + 1} ${word}`,
        hovertemplate: `${label(code)}, pair ${state.pair + 1}: ${word} (${NAMES[data.name]})<extra></extra>`,
        marker: { symbol, size: 12, color: colours.ink, line: { width: 2, color: colours.ink } }, showlegend: false,
      };
    });
  };

  const panel = {
    id: "pairs",
    title: "Pairs",
    options: [
      { key: "pairLanguage", label: "Language", choices: ({ run }) => run.languages.map((code) => [code, nx.fullName(code)]) },
      { key: "pairProbe", label: "Probe", choices: ({ run }) => [...(run.panels.pairs?.probes ?? [])].reverse().map(([name]) => [name, NAMES[name]]) },
    ],
    visible: ({ run, metric }) => Boolean(run.panels.pairs?.metrics[metric]),
    draw,
    mark: () => undefined,
    table(state) {
      const data = rows(state).filter(matches);
      return {
        name: "pairs", header: ["run", "metric", "language", "pair", "aligned", "layers", "rival_side", "rival_pair", "rival_layers"],
        rows: data.map(({ pair, aligned, known, rival }) => [
          state.run.name, state.metric, chosenLanguage(state), pair + 1, aligned, known,
          rival?.side, rival && rival.pair + 1, rival?.layers,
        ]),
      };
    },
  };
  nx.addPanel(panel);
})(window.neuronxa);
