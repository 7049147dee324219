"use strict";
/*
 * Light, dark, and paper.
 */
(function (nx) {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);

  nx.addThemes = function () {
    const name = () => {
      $("theme").textContent = nx.dark() ? "Light" : "Dark";
      $("theme").setAttribute("aria-label", `Switch to the ${nx.dark() ? "light" : "dark"} theme`);
    };
    const redraw = () => (name(), nx.update({}, [...nx.drawings.metric, nx.drawControls]));
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
      for (const draw of [nx.drawOverSteps, nx.drawCurve, nx.drawHeat, nx.drawPanels]) draw(nx.state);
      for (const chart of document.querySelectorAll(".js-plotly-plot")) {
        if (chart.clientWidth) Plotly.relayout(chart, { width: on ? chart.clientWidth : undefined, autosize: !on });
      }
    };
    window.addEventListener("beforeprint", () => printing(true));
    window.addEventListener("afterprint", () => printing(false));
  };
})(window.neuronxa);
