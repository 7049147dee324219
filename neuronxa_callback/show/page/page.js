"use strict";
/*
 * The state, and when what is drawn. There is one state; every change goes through `update`, which
 * redraws at most once per frame.
 *
 * <html data-drawn-ms> is the time from the start of navigation to the end of the first drawing,
 * without further panels; data-drawn-panels tells that these are drawn, too; data-drawn-step is the
 * step shown.
 */
(async function (nx) {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const MANY = 12;

  function start(data) {
    nx.data = data;
    const codes = [...new Set(data.runs.flatMap((run) => run.languages))];
    nx.order = new Map(codes.map((code, k) => [code, k]));
    const run = data.runs[0], grouped = data.runs.some(({ groups }) => groups.length);
    nx.single = data.runs.every(({ steps }) => steps.length === 1);
    nx.state = {
      run, metric: [...run.metrics.keys()][0], step: run.steps.length - 1, shown: new Set(codes), minus: null, order: "corpus",
      lines: data.runs.length === 1 && (nx.single || !grouped || codes.length <= MANY), bands: data.runs.length === 1 && codes.length <= MANY,
      losses: data.runs.some((run) => run.losses.some((loss) => loss !== null)),
      groups: grouped, sort: { key: "score", descending: true },
    };
  }

  /* What is drawn anew for another probe, or run, or all of it. */
  const layers = [nx.drawTexts, nx.setHeight, nx.drawCurve, nx.drawHeat];
  const step = [...layers, nx.drawTable, nx.drawNotes];
  const first = [nx.drawOverSteps, ...step, nx.drawControls, ({ run }) => nx.drawDiagnostics(run)];
  nx.drawings = { layers, step, metric: [nx.drawOverSteps, ...step, nx.drawPanels], run: [...first, nx.drawPanels] };

  const waiting = new Set();

  /** Changes the state and schedules drawings for the next frame. */
  function update(changes, drawings) {
    Object.assign(nx.state, changes);
    if (!waiting.size) requestAnimationFrame(flush);
    for (const draw of drawings) waiting.add(draw);
  }
  nx.update = update;

  async function flush() {
    const drawings = [...waiting];
    waiting.clear();
    await Promise.all(drawings.map((draw) => draw(nx.state)));
    root.dataset.drawnStep = nx.state.run.steps[nx.state.step];
    nx.writeAddress();
  }

  const later = (ms) => new Promise((done) => setTimeout(done, ms));
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

  try {
    start(await nx.loading);
    nx.startAddress((state) => update(state, nx.drawings.run));
    nx.makePanels();
    nx.addControls();
    await Promise.all(first.map((draw) => draw(nx.state)));
    nx.addClicks();
    nx.drawFingerprint(nx.data.runs);
    // A page in the background gets no frames, so do not wait for one for long.
    await Promise.race([frame(), later(500)]);
    const ms = Math.round(performance.now());
    root.dataset.drawnStep = nx.state.run.steps[nx.state.step];
    root.dataset.drawnMs = ms;
    $("drawn").textContent = `${(ms / 1000).toFixed(2)} s`;
    // Further panels are below the first screen, so they may come later.
    await nx.drawPanels(nx.state);
    root.dataset.drawnPanels = "";
  } catch (error) {
    $("failure").hidden = false;
    $("failure").textContent = `The page could not be drawn: ${error.message}`;
    throw error;
  }
})(window.neuronxa);
