"use strict";
/*
 * The state of the page in the fragment of its address, so that a link shows what its sender saw.
 * What differs from the start is written; what is not known here is ignored.
 */
(function (nx) {
  const FLAGS = ["lines", "bands", "losses", "groups"];
  const WAIT_MS = 250; // browsers refuse many changes of the address in a row
  let initial, timer;

  const runNamed = (name) => nx.data.runs.find((run) => run.name === name);
  const optionKeys = () => nx.panels.flatMap(({ options }) => options.map(({ key }) => key));

  /** The changes of the state that a fragment asks for. */
  nx.stateOf = function (fragment) {
    const wanted = new URLSearchParams(fragment), known = (key) => wanted.get(key);
    const changes = { ...initial, run: runNamed(known("run")) ?? initial.run };
    const metrics = nx.data.runs.flatMap((run) => [...run.metrics.keys()]);
    if (metrics.includes(known("metric"))) changes.metric = known("metric");
    changes.step = /^\d+$/.test(known("step") ?? "") ? changes.run.nearest(Number(known("step"))) : changes.run.steps.length - 1;
    if (known("minus") === "first") changes.minus = "first";
    if (known("minus_run") !== null) changes.minus = nx.usableMinus(changes.run, runNamed(known("minus_run")) ?? null);
    if (Object.hasOwn(nx.ORDERS, known("order") ?? "")) changes.order = known("order");
    for (const flag of FLAGS) if (["0", "1"].includes(known(flag))) changes[flag] = known(flag) === "1";
    const sort = /^(-?)(\w+)$/.exec(known("sort") ?? "");
    if (sort && nx.SORT_KEYS.includes(sort[2])) changes.sort = { key: sort[2], descending: sort[1] === "-" };
    if (wanted.has("only")) changes.shown = new Set([...nx.order.keys()].filter((code) => wanted.getAll("only").includes(code)));
    else if (wanted.has("without")) changes.shown = new Set([...nx.order.keys()].filter((code) => !wanted.getAll("without").includes(code)));
    for (const key of optionKeys()) changes[key] = known(key) ?? undefined;
    return changes;
  };

  /** The fragment of the state; empty at the start. */
  nx.fragmentOf = function (state) {
    const written = new URLSearchParams();
    const put = (key, value, usual) => value !== usual && written.set(key, value);
    put("metric", state.metric, initial.metric);
    put("run", state.run.name, initial.run.name);
    put("step", state.run.steps[state.step], state.run.steps.at(-1));
    if (state.minus === "first") written.set("minus", "first");
    else if (state.minus) written.set("minus_run", state.minus.name);
    put("order", state.order, initial.order);
    for (const flag of FLAGS) put(flag, Number(state[flag]), Number(initial[flag]));
    const sort = ({ key, descending }) => (descending ? "-" : "") + key;
    put("sort", sort(state.sort), sort(initial.sort));
    const codes = [...nx.order.keys()], hidden = codes.filter((code) => !state.shown.has(code));
    if (!state.shown.size) written.set("only", "");
    else if (hidden.length > state.shown.size) for (const code of state.shown) written.append("only", code);
    else for (const code of hidden) written.append("without", code);
    for (const key of optionKeys()) if (state[key] !== undefined) written.set(key, state[key]);
    return String(written);
  };

  /** Remembers the state at the start, takes over that of the address, and follows the address. */
  nx.startAddress = function (show) {
    initial = { ...nx.state };
    const read = () => location.hash.slice(1);
    // Other fragments lead to a part of the page.
    const isState = (fragment) => fragment === "" || fragment.includes("=");
    if (isState(read())) Object.assign(nx.state, nx.stateOf(read()));
    window.addEventListener("hashchange", () => {
      if (isState(read()) && read() !== nx.fragmentOf(nx.state)) show(nx.stateOf(read()));
    });
  };

  /** Writes the state to the address, a moment after the last change. */
  nx.writeAddress = function () {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const fragment = nx.fragmentOf(nx.state);
      if (fragment === location.hash.slice(1)) return;
      try {
        history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
      } catch {
        // Some documents may not change their address.
      }
    }, WAIT_MS);
  };
})(window.neuronxa);
