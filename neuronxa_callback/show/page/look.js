"use strict";
/*
 * How things look: theme, colours, strokes, and what all charts have in common. It stands before
 * plotly, so that no page is seen in another theme than the one that its reader chose.
 */
(function (nx) {
  const root = document.documentElement;
  const preference = window.matchMedia("(prefers-color-scheme: dark)");
  const KEY = "neuronxa-theme";

  nx.dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preference.matches);

  /** Takes a theme and remembers it, where a browser lets a file keep anything. */
  nx.choose = function (theme) {
    root.dataset.theme = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Then it holds until the page is left.
    }
  };

  function remembered() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();

  /* Okabe and Ito's palette, without its yellow, which is not seen on white; two more. */
  const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A6FB0", "#7A5C3E"];
  const DARK = ["#4BA6E0", "#F0803C", "#2CC295", "#E39BC4", "#8FD0F5", "#F2B632", "#B49BDB", "#C2A07E"];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const MARKERS = ["circle", "square", "diamond", "triangle-up", "cross", "star"];
  const CONFIG = {
    responsive: true,
    displaylogo: false,
    scrollZoom: false,
    displayModeBar: "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
    toImageButtonOptions: { filename: "neuronxa", scale: 2 },
  };

  /** Text as plotly shows it, letter by letter: no tags, no entities, no %{templates}, no TeX. */
  function label(text) {
    const spelt = (each) => `&#${each.charCodeAt(0)};`;
    return String(text).replace(/[\u0000-\u001f\u2028\u2029]/g, " ").replace(/[&<>%${}"']/g, spelt);
  }
  nx.label = label;

  /** How language k looks: k counts over the languages of all runs. */
  nx.look = function (k, run = 0) {
    const turn = Math.floor(k / LIGHT.length);
    const several = nx.data.runs.length > 1;
    return {
      colour: (nx.dark() ? DARK : LIGHT)[k % LIGHT.length],
      dash: DASHES[(several ? run : turn) % DASHES.length],
      marker: MARKERS[turn % MARKERS.length],
    };
  };

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), muted: of("--muted"), grid: of("--grid"), card: of("--card"), gap: of("--gap"), accent: of("--accent"), family: of("--sans") };
  }

  function layout(colours, more) {
    const axis = {
      gridcolor: colours.grid, zeroline: false, linecolor: colours.grid, ticks: "outside",
      tickcolor: colours.grid, ticklen: 4, automargin: true, fixedrange: false,
      title: { font: { size: 12, color: colours.muted }, standoff: 8 },
    };
    const { xaxis, yaxis, yaxis2, ...others } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: colours.family, size: 12, color: colours.ink },
      hoverlabel: {
        bgcolor: colours.card, bordercolor: colours.grid, align: "left",
        font: { family: colours.family, size: 12, color: colours.ink }, namelength: -1,
      },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.muted, activecolor: colours.ink },
      // As much as labels take, mostly: plotly draws a chart again whose labels need more.
      margin: { l: 64, r: 12, t: 26, b: 52 }, hovermode: "closest", showlegend: false,
      xaxis: merge(axis, xaxis), yaxis: merge(axis, yaxis),
      ...(yaxis2 ? { yaxis2: merge({ ...axis, showgrid: false }, yaxis2) } : {}),
      ...others,
    };
  }

  function merge(axis, more) {
    const title = { ...axis.title, ...(more.title ?? {}) };
    return { ...axis, ...more, title };
  }

  nx.style = { DASHES, MARKERS, CONFIG, theme, layout };
})(window.neuronxa);
