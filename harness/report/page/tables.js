// Tables: a click on a head sorts, what is typed into the search shows the rows with all of its words, boxes choose columns.
(() => {
  "use strict";
  const search = document.getElementById("table-search");
  if (!search) return;
  const tables = [...document.querySelectorAll("#tables table")];

  // numbers by their exact value, ∞ last of them; then texts, and what is empty after all
  function value(cell) {
    const text = cell.textContent.trim();
    if (text === "") return [2, 0, ""];
    return "value" in cell.dataset ? [0, Number(cell.dataset.value.replace("inf", "Infinity")), ""] : [1, 0, text];
  }

  function order(first, other) {
    if (first[0] !== other[0]) return first[0] - other[0];
    return first[1] === other[1] ? first[2].localeCompare(other[2]) : first[1] < other[1] ? -1 : 1;
  }

  function sort(table, index, up) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row.cells[index]), row]);
    rows.sort(([first], [other]) => (first[0] === 2 || other[0] === 2 ? first[0] - other[0] : (up ? 1 : -1) * order(first, other)));
    body.append(...rows.map(([, row]) => row));
  }

  for (const table of tables) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, index, up);
      });
    });
  }

  document.querySelectorAll("#tables .columns input").forEach((box) => box.addEventListener("change", () => {
    for (const row of box.closest(".table").querySelectorAll("tr")) row.cells[box.value].classList.toggle("extra", !box.checked);
  }));

  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const table of tables) {
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      if (words.length) table.closest(".table").open = [...table.tBodies[0].rows].some((row) => !row.hidden);
    }
  });
})();
