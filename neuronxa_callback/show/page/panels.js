"use strict";
/*
 * Further panels. A script of `panels/` adds one; `page.js` makes a card for each and draws it.
 */
(function (nx) {
  const { el } = nx;

  nx.panels = [];

  /**
   * Adds a panel:
   *   id, title: texts;
   *   visible(state): whether there is anything to show;
   *   draw(state, body): fills or redraws the body;
   *   mark(state): all that a new step changes, if that is less than everything;
   *   options: [{ key, label, choices(state): [[value, text]] }], whose values are in `state[key]`
   *     (the default is the first) and in the address of the page;
   *   table(state): {name, header, rows} for a CSV file.
   */
  nx.addPanel = function (panel) {
    panel.options ??= [];
    nx.panels.push(panel);
  };

  /** The cards of all panels, in their order. */
  nx.makePanels = function () {
    const box = document.getElementById("panels");
    for (const panel of nx.panels) {
      const title = `panel-${panel.id}-title`;
      panel.selects = panel.options.map((option) => el("select", { "aria-label": option.label }));
      panel.selects.forEach((select, k) => {
        const { key } = panel.options[k];
        select.addEventListener("change", () => nx.update({ [key]: select.value }, [() => nx.drawPanel(panel, nx.state)]));
      });
      const controls = el("div", { class: "options" }, ...panel.options.map((option, k) => el("label", {}, `${option.label} `, panel.selects[k])));
      const head = el("div", { class: "card-head" }, el("h2", { id: title }, panel.title), controls);
      panel.body = el("div", { class: "panel" });
      panel.card = el("section", { class: "card", id: `panel-${panel.id}`, "aria-labelledby": title, hidden: "" }, head, panel.body);
      box.append(panel.card);
      if (panel.table) nx.addDownload(controls, panel.table);
    }
  };

  /** The chosen value of an option: that of the state if it is a choice, else the first. */
  nx.chosen = function (panel, key, state) {
    const values = panel.options.find((option) => option.key === key).choices(state).map(([value]) => value);
    return values.includes(state[key]) ? state[key] : values[0];
  };

  nx.drawPanel = function (panel, state) {
    panel.card.hidden = !panel.visible(state);
    if (panel.card.hidden) return undefined;
    panel.options.forEach(({ key, choices }, k) => {
      panel.selects[k].replaceChildren(...choices(state).map(([value, text]) => el("option", { value }, text)));
      panel.selects[k].value = nx.chosen(panel, key, state);
      panel.selects[k].parentElement.hidden = choices(state).length < 2;
    });
    return panel.draw(state, panel.body);
  };

  nx.drawPanels = (state) => Promise.all(nx.panels.map((panel) => nx.drawPanel(panel, state)));

  /** What a new step changes in the panels. */
  nx.markPanels = (state) =>
    Promise.all(nx.panels.map((panel) => (panel.mark && !panel.card.hidden ? panel.mark(state) : nx.drawPanel(panel, state))));
})(window.neuronxa);
