"use strict";
/*
 * Theme, colours, dashes, and the common layout of the charts. Placed before plotly, so that the
 * page appears in the chosen theme at once.
 */
(function (nx) {
  const root = document.documentElement;
  const preference = window.matchMedia("(prefers-color-scheme: dark)");
  const KEY = "neuronxa-theme";

  nx.dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preference.matches);

  /** Sets a theme and stores it, if the browser lets a file store anything. */
  nx.setTheme = function (theme) {
    root.dataset.theme = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // The theme then lasts until the page is closed.
    }
  };

  function storedTheme() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  if (["light", "dark"].includes(storedTheme())) root.dataset.theme = storedTheme();

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

  /** Text escaped for plotly, which reads tags, entities, %{templates} and TeX in labels. */
  function label(text) {
    const escape = (character) => `&#${character.charCodeAt(0)};`;
    return String(text).replace(/[\u0000-\u001f\u2028\u2029]/g, " ").replace(/[&<>%${}"']/g, escape);
  }
  nx.label = label;

  /** Colour, dash and marker of language k (of all runs) in a run. */
  nx.lineStyle = function (k, run = 0) {
    const colours = nx.data.palette[nx.dark() ? "dark" : "light"];
    const round = Math.floor(k / colours.length);
    const several = nx.data.runs.length > 1;
    return {
      colour: colours[k % colours.length],
      dash: DASHES[(several ? run : round) % DASHES.length],
      marker: MARKERS[round % MARKERS.length],
    };
  };

  /** The colours and the font that the style sheet has for the current theme. */
  function themeColours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { ink: of("--ink"), muted: of("--muted"), grid: of("--grid"), card: of("--card"), gap: of("--gap"), accent: of("--accent"), family: of("--sans") };
  }

  /** A layout for plotly: the common one, with more options. */
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
      // Room for usual labels: plotly draws a chart twice if its labels need more.
      margin: { l: 64, r: 12, t: 26, b: 52 }, hovermode: "closest", showlegend: false,
      xaxis: merge(axis, xaxis), yaxis: merge(axis, yaxis),
      ...(yaxis2 ? { yaxis2: merge({ ...axis, showgrid: false }, yaxis2) } : {}),
      ...others,
    };
  }

  /** The area between low and high: one closed outline per part without a gap. */
  function band(x, low, high, colour, opacity, more) {
    const xs = [], ys = [];
    for (let from = 0; from < x.length; from++) {
      if (low[from] === null) continue;
      let to = from;
      while (to + 1 < x.length && low[to + 1] !== null) to++;
      if (xs.length) { xs.push(null); ys.push(null); }
      for (let k = from; k <= to; k++) { xs.push(x[k]); ys.push(high[k]); }
      for (let k = to; k >= from; k--) { xs.push(x[k]); ys.push(low[k]); }
      from = to;
    }
    return {
      type: "scatter", mode: "lines", x: xs, y: ys, fill: "toself", line: { width: 0, color: colour },
      fillcolor: translucent(colour, opacity), hoverinfo: "skip", showlegend: false, ...more,
    };
  }

  function translucent(colour, opacity) {
    const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
    return `rgba(${r},${g},${b},${opacity})`;
  }

  /** The number of points of a line that have a marker: few for many lines, to draw quickly. */
  const markerCount = ({ shown }) => Math.max(8, Math.round(400 / Math.max(1, shown.size)));

  function merge(axis, more) {
    const title = { ...axis.title, ...(more.title ?? {}) };
    return { ...axis, ...more, title };
  }

  nx.plotting = { DASHES, MARKERS, CONFIG, themeColours, layout, band, translucent, markerCount };
})(window.neuronxa);
