// The plots: drawn when they come into view, redrawn whole whenever a choice, the theme or the paper changes.
(() => {
  "use strict";
  const DATA = JSON.parse(document.getElementById("plot-data").textContent);
  const SHOWN_AT_FIRST = 16;
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
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [];
  let printing = false;

  const escaped = (text) => text.replace(/[&<>]/g, (letter) => ENTITIES[letter]);
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function theme() {
    const colours = [];
    for (let index = 0; variable(`--series-${index}`); index += 1) colours.push(variable(`--series-${index}`));
    return { colours, ink: variable("--ink"), soft: variable("--soft"), grid: variable("--grid"), card: variable("--card") };
  }

  function translucent(hex, share) {
    const value = parseInt(hex.slice(1), 16);
    return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${share})`;
  }

  // The library takes longer to start than the whole page to show: it lies there as text until a plot is near or
  // the browser has nothing else to do.
  function library() {
    const source = document.getElementById("plotly");
    if (source) {
      source.remove();
      document.head.append(element("script", {}, source.textContent));
    }
    return Plotly;
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

  function layout(panel, state, look) {
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

  // ---- one card

  class Plot {
    constructor(card) {
      this.card = card;
      this.charts = DATA[card.id];
      this.place = card.querySelector(".plot");
      this.state = { chart: 0, panel: 0, xLog: false, yLog: false, hidden: new Set() };
      this.drawn = false;
      this.choose(0);
    }

    get chart() { return this.charts[this.state.chart]; }
    get panel() { return this.chart.panels[this.state.panel]; }
    get names() { return [...new Set(this.chart.panels.flatMap((panel) => panel.lines.map((line) => line.name)))]; }

    choose(chart) {
      this.state.chart = chart;
      this.state.hidden = new Set(this.names.slice(SHOWN_AT_FIRST));
      this.turn(Math.min(this.state.panel, this.chart.panels.length - 1));
    }

    turn(panel) {
      this.state.panel = panel;
      Object.assign(this.state, { xLog: this.panel.xLog, yLog: this.panel.yLog });
      this.refresh();
    }

    refresh() {
      this.controls();
      this.legend();
      this.card.querySelector(".statistic").textContent = this.chart.statistic;
      if (this.drawn) this.draw();
    }

    draw() {
      this.drawn = true;
      const look = theme();
      const label = `${this.chart.title}: ${this.panel.yLabel} against ${this.panel.xLabel}. ${this.chart.statistic}`;
      this.place.setAttribute("role", "img");
      this.place.setAttribute("aria-label", label);
      const shape = layout(this.panel, this.state, look);
      library().react(this.place, traces(this.panel, this.state.hidden, look), shape, { displayModeBar: false, responsive: true });
    }

    // Controls are made once and then brought up to date, so that the keyboard's focus stays where it is.
    controls() {
      const { state } = this;
      const shown = `${state.chart}`;
      const bar = this.card.querySelector(".controls");
      if (bar.dataset.shown !== shown) {
        const focus = bar.contains(document.activeElement) ? document.activeElement.id : "";
        bar.replaceChildren(...[this.variants(), this.quantities(), this.scales()].filter(Boolean));
        bar.dataset.shown = shown;
        if (focus) document.getElementById(focus).focus();
      }
      const press = (button, on) => button.setAttribute("aria-pressed", String(on));
      bar.querySelectorAll("[data-panel]").forEach((button) => press(button, Number(button.dataset.panel) === state.panel));
      bar.querySelectorAll("[data-scale]").forEach((button) => press(button, state[button.dataset.scale]));
    }

    variants() {
      if (this.charts.length < 2) return null;
      const id = `${this.card.id}-variant`;
      const select = element("select", { id });
      this.charts.forEach((chart, index) => select.append(element("option", { value: index }, chart.variant || chart.title)));
      select.value = this.state.chart;
      select.addEventListener("change", () => this.choose(Number(select.value)));
      return element("span", {}, element("label", { for: id }, "Show "), select);
    }

    quantities() {
      if (this.chart.panels.length < 2) return null;
      const group = element("div", { class: "choice", role: "group", "aria-label": "Quantity" });
      this.chart.panels.forEach((panel, index) => {
        const button = element("button", { type: "button", "data-panel": index }, panel.quantity);
        button.addEventListener("click", () => this.turn(index));
        group.append(button);
      });
      return group;
    }

    scales() {
      const group = element("div", { class: "choice", role: "group", "aria-label": "Axes" });
      for (const [key, text] of [["xLog", "log x"], ["yLog", "log y"]]) {
        const button = element("button", { type: "button", class: "scale", "data-scale": key }, text);
        button.addEventListener("click", () => {
          this.state[key] = !this.state[key];
          this.refresh();
        });
        group.append(button);
      }
      return group;
    }

    legend() {
      const { names, state } = this;
      const box = this.card.querySelector(".legend");
      const key = JSON.stringify(names);
      if (box.dataset.names !== key) {
        box.dataset.names = key;
        box.replaceChildren(...names.map((name) => this.entry(name)));
        if (names.length > 3) {
          box.append(element("span", { class: "all" }, this.everything("Show all", []), this.everything("Hide all", names)));
        }
      }
      box.querySelectorAll("[data-line]").forEach((button) => {
        button.setAttribute("aria-pressed", String(!state.hidden.has(names[button.dataset.line])));
      });
    }

    everything(text, hidden) {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        this.state.hidden = new Set(hidden);
        this.refresh();
      });
      return button;
    }

    entry(name) {
      const line = this.chart.panels.flatMap((panel) => panel.lines).find((other) => other.name === name);
      const button = element("button", { type: "button", "data-line": this.names.indexOf(name) }, swatch(line), name);
      button.addEventListener("click", () => {
        const { hidden } = this.state;
        if (!hidden.delete(name)) hidden.add(name);
        this.refresh();
      });
      return button;
    }
  }

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

  // ---- the page

  const redraw = () => plots.forEach((plot) => plot.drawn && plot.draw());
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      plots.find((plot) => plot.card === entry.target).draw();
    }
  }, { rootMargin: "300px" });
  document.querySelectorAll(".card").forEach((card) => {
    plots.push(new Plot(card));
    seen.observe(card);
  });

  const benchmark = document.getElementById("benchmark");
  if (benchmark) {
    benchmark.addEventListener("change", () => {
      plots.forEach((plot) => { plot.card.hidden = plot.card.dataset.benchmark !== benchmark.value; });
    });
  }

  dark.addEventListener("change", redraw);
  addEventListener("load", () => (window.requestIdleCallback ?? setTimeout)(library));

  function onPaper(now) {
    printing = now;
    document.documentElement.classList.toggle("printing", now);
    plots.filter((plot) => !plot.card.hidden).forEach((plot) => plot.draw());
  }
  addEventListener("beforeprint", () => onPaper(true));
  addEventListener("afterprint", () => onPaper(false));
})();
