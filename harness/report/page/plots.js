// The plots: drawn when they come into view, redrawn whole whenever a choice, the theme or the paper changes.
(() => {
  "use strict";
  const DATA = JSON.parse(document.getElementById("plot-data").textContent);
  const SHOWN_AT_FIRST = 16;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [];
  let printing = false;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
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
      const look = Drawing.theme();
      const label = `${this.chart.title}: ${this.panel.yLabel} against ${this.panel.xLabel}. ${this.chart.statistic}`;
      this.place.setAttribute("role", "img");
      this.place.setAttribute("aria-label", label);
      const shape = Drawing.layout(this.panel, this.state, look, printing);
      library().react(this.place, Drawing.traces(this.panel, this.state.hidden, look), shape, { displayModeBar: false, responsive: true });
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
      const button = element("button", { type: "button", "data-line": this.names.indexOf(name) }, Drawing.swatch(line), name);
      button.addEventListener("click", () => {
        const { hidden } = this.state;
        if (!hidden.delete(name)) hidden.add(name);
        this.refresh();
      });
      return button;
    }
  }

  // ---- a plot of a study, as Optuna made it, in the colours of the page

  class StudyPlot {
    constructor(card) {
      this.card = card;
      this.place = card.querySelector(".plot");
      this.drawn = false;
    }

    draw() {
      this.drawn = true;
      const { data, layout } = DATA[this.card.id];
      this.place.setAttribute("role", "img");
      this.place.setAttribute("aria-label", this.card.querySelector("figcaption").textContent.trim());
      library().react(this.place, data, Drawing.dressed(layout, printing), { displayModeBar: false, responsive: true });
    }
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
  document.querySelectorAll(".study").forEach((card) => {
    plots.push(new StudyPlot(card));
    seen.observe(card);
  });

  const benchmark = document.getElementById("benchmark");
  if (benchmark) {
    benchmark.addEventListener("change", () => {
      const of = plots.filter((plot) => plot.card.dataset.benchmark);
      of.forEach((plot) => { plot.card.hidden = plot.card.dataset.benchmark !== benchmark.value; });
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
