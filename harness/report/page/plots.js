// The plots: figures made in Python, drawn when they come into view and again when a choice, the theme or the paper
// changes. What is chosen stands in the page itself: pressed buttons, a selected option.
(async () => {
  "use strict";
  const DATA = JSON.parse(await unpack("plot-data"));
  const root = document.documentElement;
  const cards = [...document.querySelectorAll(".card, .study")];
  const drawn = new Set();
  let printing = false;
  let added;

  const all = (card, selector) => [...card.querySelectorAll(selector)];
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const chosen = (card) => Number(card.querySelector("select")?.value ?? 0);
  const figure = (card) => DATA[card.id][chosen(card)].at(Math.max(0, all(card, "[data-panel]").findIndex(pressed)));
  const legend = (card) => all(card, ".of:not([hidden]) [data-line]");

  // var(--ink) as the colour that it is now
  function coloured(value) {
    const style = getComputedStyle(root);
    const text = JSON.stringify(value).replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    return JSON.parse(text);
  }

  // The library takes longer to start than the page to show: it waits until somebody needs it, or nobody anything else.
  async function add() {
    const script = document.createElement("script");
    script.textContent = await unpack("plotly");
    document.head.append(script);
  }
  const library = () => (added ??= add());

  function draw(card) {
    if (!window.Plotly) return library().then(() => draw(card));
    drawn.add(card);
    const { data, layout } = coloured(figure(card));
    for (const scale of all(card, "[data-axis]")) {
      const axis = layout[scale.dataset.axis];
      if (pressed(scale) === (axis.type === "log")) continue;
      axis.type = pressed(scale) ? "log" : "linear";
      delete axis.range;
      if (axis.tickmode !== "array") delete axis.tickvals;
      if (pressed(scale)) Object.assign(axis, layout.meta[scale.dataset.axis]);
    }
    const hidden = new Set(legend(card).filter((button) => !pressed(button)).map((button) => button.dataset.line));
    const look = { template: coloured(DATA.template), dragmode: innerWidth < 640 ? false : "zoom", width: printing ? 660 : undefined };
    const lines = data.filter((trace) => !hidden.has(trace.legendgroup));
    return Plotly.react(card.querySelector(".plot"), lines, { ...layout, ...look }, { displayModeBar: false, responsive: true });
  }

  // Each panel begins with the scales that its values ask for.
  function turn(card) {
    all(card, "[data-axis]").forEach((scale) => press(scale, figure(card).layout[scale.dataset.axis].type === "log"));
    draw(card);
  }

  function choose(event) {
    const card = event.target.closest(".card");
    all(card, ".of").forEach((part, index) => { part.hidden = index !== chosen(card); });
    turn(card);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".card button");
    if (!button) return;
    const card = button.closest(".card");
    if (button.dataset.panel) {
      all(card, "[data-panel]").forEach((other) => press(other, other === button));
      turn(card);
      return;
    }
    if (button.dataset.all) legend(card).forEach((line) => press(line, button.dataset.all === "show"));
    else press(button, !pressed(button));
    draw(card);
  });
  document.querySelectorAll(".card select").forEach((select) => select.addEventListener("change", choose));
  document.getElementById("benchmark")?.addEventListener("change", ({ target }) => {
    cards.filter((card) => card.dataset.benchmark).forEach((card) => { card.hidden = card.dataset.benchmark !== target.value; });
  });

  const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    seen.unobserve(entry.target);
    draw(entry.target);
  }), { rootMargin: "300px" });
  cards.forEach((card) => seen.observe(card));
  (window.requestIdleCallback ?? setTimeout)(library);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));

  for (const [event, now] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      printing = now;
      root.classList.toggle("printing", now);
      document.querySelectorAll(".claim details, .table, .notes, .rest").forEach((part) => { part.open = now; });
      cards.filter((card) => !card.hidden).forEach(draw);
    });
  }
})();
