// The list of runs: filtered as one types, a few at a time; what a run consists of is written when it is opened.
(async () => {
  "use strict";
  const { runs, common, environments } = JSON.parse(await unpack("run-data"));
  const PAGE = 15;
  const FILES = ["", "config.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl", "summary.json"];
  const list = document.getElementById("run-list");
  const filter = document.getElementById("run-filter");
  const count = document.getElementById("run-count");
  const more = document.getElementById("run-more");
  let found = runs;

  const text = (run) => `${run.name} ${run.label} ${run.status}`.toLowerCase();
  const texts = new Map(runs.map((run) => [run, text(run)]));

  function element(tag, name, content) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (content !== undefined) made.textContent = content;
    return made;
  }

  // {"counts": {"gradient_entries": 1}} as [["counts.gradient_entries", "1"]]
  function flat(value, name = "") {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      return Object.entries(value).flatMap(([key, part]) => flat(part, name ? `${name}.${key}` : key));
    }
    return [[name, typeof value === "string" ? value : JSON.stringify(value)]];
  }

  // of what was measured four digits; settings as they are
  const short = (key, value) => (typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value);

  function files(run) {
    const box = element("p", "files", `${run.path}: `);
    for (const name of FILES) {
      const link = element("a", "", name || "directory");
      link.href = `${run.link.split("/").map(encodeURIComponent).join("/")}/${name}`;
      box.append(link, " ");
    }
    return box;
  }

  function facet(title, values) {
    const box = element("div");
    const terms = element("dl");
    for (const [name, value] of flat(values)) terms.append(element("dt", "", name), element("dd", "", value));
    box.append(element("h4", "", title), terms);
    return box;
  }

  function details(run) {
    const box = element("div", "facets");
    box.append(
      facet("Result", JSON.parse(JSON.stringify(run.result, short))),
      facet("Configuration", { ...common, ...run.config }),
      facet("Environment", environments[run.environment]),
    );
    return box;
  }

  function row(run) {
    const made = element("details");
    const summary = element("summary");
    const status = element("span", run.status === "completed" ? "status" : "status stopped", run.status.replaceAll("_", " "));
    summary.append(element("span", "label", `${run.label}, seed ${run.config.seed ?? common.seed}`), element("span", "name", run.name), status);
    made.append(summary);
    made.addEventListener("toggle", () => {
      if (made.open && made.children.length === 1) made.append(files(run), details(run));
    });
    return made;
  }

  function extend() {
    const shown = list.childElementCount;
    list.append(...found.slice(shown, shown + PAGE).map(row));
    const left = found.length - list.childElementCount;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(PAGE, left)} more`;
    count.textContent = `${list.childElementCount} of ${found.length} shown` + (found.length < runs.length ? ` (${runs.length} in all)` : "");
  }

  function search() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = runs.filter((run) => words.every((word) => texts.get(run).includes(word)));
    list.replaceChildren();
    extend();
  }

  filter.addEventListener("input", search);
  more.addEventListener("click", extend);
  extend();
})();
