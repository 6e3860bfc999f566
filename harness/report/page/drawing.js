// How a panel is drawn: its lines as Plotly's traces, its axes as Plotly's layout, in the colours of the page.
const Drawing = (() => {
  "use strict";
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  const SHAPES = {
    circle: "M23.5 7a4.5 4.5 0 1 1-9 0a4.5 4.5 0 1 1 9 0z",
    square: "M15 3h8v8h-8z",
    diamond: "M19 1.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
    pentagon: "M19 2l5 3.7l-1.9 5.8h-6.2l-1.9-5.8z",
    cross: "M17.2 2h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
    star: "M19 1l1.6 4.2l4.5.3l-3.5 2.9l1.1 4.4l-3.7-2.4l-3.7 2.4l1.1-4.4l-3.5-2.9l4.5-.3z",
    hexagon: "M19 2l4.4 2.5v5l-4.4 2.5l-4.4-2.5v-5z",
    stopped: "M15.5 3.5l7 7m0-7l-7 7",
  };
  const DASHES = { solid: "", dash: "7 4", dashdot: "8 3 2 3", dot: "2 3" };

  const escaped = (text) => text.replace(/[&<>]/g, (letter) => ENTITIES[letter]);
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function theme() {
    const colours = [];
    for (let index = 0; variable(`--series-${index}`); index += 1) colours.push(variable(`--series-${index}`));
    return { colours, ink: variable("--ink"), soft: variable("--soft"), grid: variable("--grid"), card: variable("--card") };
  }

  function translucent(hex, share) {
    const value = parseInt(hex.slice(1), 16);
    return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${share})`;
  }

  // ---- traces

  function band(line, colour) {
    const kept = line.x.map((_, index) => index).filter((index) => line.low[index] !== null && line.high[index] !== null);
    const back = [...kept].reverse();
    return {
      x: [...kept.map((index) => line.x[index]), ...back.map((index) => line.x[index])],
      y: [...kept.map((index) => line.high[index]), ...back.map((index) => line.low[index])],
      mode: "lines", fill: "toself", fillcolor: translucent(colour, 0.16), line: { width: 0 }, hoverinfo: "skip",
    };
  }

  function bars(line, colour) {
    const up = line.y.map((y, index) => (y === null || line.high[index] === null ? 0 : line.high[index] - y));
    const down = line.y.map((y, index) => (y === null || line.low[index] === null ? 0 : y - line.low[index]));
    return { type: "data", symmetric: false, array: up, arrayminus: down, width: 0, thickness: 1.2, color: colour };
  }

  function edge(line, places, symbol, height, said, colour) {
    return {
      x: places, y: places.map(() => height), yaxis: "y2", mode: "markers", cliponaxis: false,
      marker: { symbol, size: 12, color: colour }, name: escaped(line.name),
      hovertemplate: `N = %{x}: ${said}<extra>%{fullData.name}</extra>`,
    };
  }

  function main(line, panel, colour) {
    const value = panel.percent ? "%{y:.1%}" : "%{y:.4g}";
    const trace = {
      x: line.x, y: line.y, name: escaped(line.name), mode: "lines",
      line: { color: colour, dash: line.dash, width: 2 },
      hovertemplate: `${escaped(panel.xLabel)} %{x:.4~g}<br>${escaped(panel.yLabel)} ${value}<extra>%{fullData.name}</extra>`,
    };
    if (line.kind === "points" || line.kind === "markers") {
      trace.mode = line.kind === "points" ? "lines+markers" : "markers";
      trace.marker = { symbol: line.marker, size: line.kind === "points" ? 8 : 10, color: colour };
      if (line.low) trace.error_y = bars(line, colour);
    }
    if (line.labels) {
      Object.assign(trace, { mode: "markers+text", text: line.labels.map(escaped), textposition: "top right" });
      trace.hovertemplate = trace.hovertemplate.replace("<extra>", "<br>N = %{text}<extra>");
    }
    if (line.kind === "fit") trace.line = { color: colour, dash: "dot", width: 1.5 };
    if (line.kind === "front") trace.line = { color: colour, width: 1.2, shape: "hv" };
    if (line.kind === "stopped") {
      trace.line.width = 1;
      trace.mode = "lines+markers";
      const last = line.x.length - 1;
      trace.marker = { symbol: "x", color: colour, size: line.x.map((_, index) => (index === last ? 11 : 0)) };
    }
    return trace;
  }

  function traces(panel, hidden, look) {
    const missing = panel.lines.filter((line) => line.unreached).map((line) => line.name);
    return panel.lines.filter((line) => !hidden.has(line.name)).flatMap((line) => {
      const colour = look.colours[line.colour];
      const made = [];
      if (line.kind === "curve" && line.low) made.push(band(line, colour));
      made.push(main(line, panel, colour));
      if (line.unreached) {
        const height = 1 - 0.05 * missing.indexOf(line.name); // one below the other, so that none hides another
        made.push(edge(line, line.unreached, "triangle-up", height, "never reached", colour));
      }
      if (line.zeros) made.push(edge(line, line.zeros, "triangle-down", 0, "zero", colour));
      return made;
    });
  }

  // ---- axes

  // Ticks of a logarithmic axis: powers of ten, with their 2 and 5 on less than two decades.
  function powers(values, percent = false) {
    const positive = values.filter((value) => value > 0);
    if (!positive.length) return {};
    const exponents = positive.map(Math.log10);
    const low = exponents.reduce((a, b) => Math.min(a, b));
    const high = exponents.reduce((a, b) => Math.max(a, b));
    const digits = high - low < 2 ? [1, 2, 5] : [1];
    const step = Math.max(1, Math.ceil((high - low) / 8));
    const tickvals = [];
    const ticktext = [];
    for (let exponent = Math.floor(low); exponent <= Math.ceil(high); exponent += step) {
      for (const digit of digits) {
        tickvals.push(Number(`${digit}e${exponent}`));
        ticktext.push(percent ? `${Number(`${digit}e${exponent + 2}`)}%` : power(digit, exponent));
      }
    }
    return { tickvals, ticktext };
  }

  function power(digit, exponent) {
    if (exponent >= -3 && exponent <= 4) return String(Number(`${digit}e${exponent}`));
    return `${digit === 1 ? "" : `${digit}·`}10<sup>${exponent}</sup>`;
  }

  function layout(panel, state, look, printing) {
    const axis = {
      gridcolor: look.grid, linecolor: look.soft, zeroline: false, ticks: "outside", tickcolor: look.grid,
      automargin: true, exponentformat: "power", showline: true,
    };
    const x = { ...axis, title: { text: escaped(panel.xLabel), standoff: 8 }, type: state.xLog ? "log" : "linear" };
    if (panel.ticks.length) Object.assign(x, { tickvals: panel.ticks, ticktext: panel.ticks.map(String) });
    else if (state.xLog) Object.assign(x, powers(panel.lines.flatMap((line) => line.x)));
    const y = { ...axis, title: { text: escaped(panel.yLabel), standoff: 8 }, type: state.yLog ? "log" : "linear" };
    if (panel.percent) y.tickformat = ".0%";
    if (state.yLog) Object.assign(y, powers(panel.limits, panel.percent));
    const [low, high] = panel.limits;
    if (state.yLog === panel.yLog) y.range = state.yLog ? [Math.log10(low), Math.log10(high)] : [low, high];
    else if (!state.yLog) y.range = [0, high];
    return {
      xaxis: x, yaxis: y, showlegend: false, hovermode: "closest", dragmode: innerWidth < 640 ? false : "zoom",
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
      paper_bgcolor: look.card, plot_bgcolor: look.card, margin: { l: 56, r: 16, t: 14, b: 44 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: look.ink },
      hoverlabel: { bgcolor: look.card, bordercolor: look.soft, font: { color: look.ink } },
      width: printing ? 660 : undefined,
    };
  }

  // Somebody else's layout with the page's colours and letters, and as wide as there is room.
  function dressed(layout, printing) {
    const look = theme();
    const made = {
      ...layout, paper_bgcolor: look.card, plot_bgcolor: look.card, autosize: !printing, width: printing ? 660 : undefined,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: look.ink },
      margin: { t: 20, b: 60 },
    };
    for (const name of Object.keys(made).filter((key) => /^[xy]axis\d*$/.test(key))) {
      const ticks = made[name].type === "log" ? { dtick: 1 } : {};
      made[name] = { ...made[name], ...ticks, gridcolor: look.grid, linecolor: look.soft, zeroline: false, automargin: true };
    }
    return made;
  }

  // ---- legend

  function swatch(line) {
    const colour = `var(--series-${line.colour})`;
    const thin = line.kind === "fit" || line.kind === "front" || line.kind === "stopped";
    const dashes = { fit: DASHES.dot, front: "" }[line.kind] ?? DASHES[line.dash];
    const picture = svg("svg", { viewBox: "0 0 38 14", "aria-hidden": "true" });
    if (line.kind !== "markers") {
      picture.append(svg("path", { d: "M1 7H37" }, { stroke: colour, strokeWidth: thin ? 1.3 : 2.2, strokeDasharray: dashes }));
    }
    if (line.kind === "points" || line.kind === "markers") picture.append(svg("path", { d: SHAPES[line.marker] }, { fill: colour }));
    if (line.kind === "stopped") picture.append(svg("path", { d: SHAPES.stopped }, { stroke: colour, strokeWidth: 2 }));
    return picture;
  }

  function svg(tag, attributes, style = {}) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    Object.assign(made.style, style);
    return made;
  }

  return { dressed, layout, swatch, theme, traces };
})();
