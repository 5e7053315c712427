// Draws the charts, filters them, sorts tables, and opens what is to be printed.
(() => {
  "use strict";
  const views = new Map();

  async function draw(box) {
    const spec = JSON.parse(document.getElementById(box.dataset.spec).textContent);
    // ast: expressions are interpreted, so that the page's policy need not allow eval.
    const options = { actions: false, renderer: "svg", ast: true };
    try {
      views.set(box, (await vegaEmbed(box, spec, options)).view);
      box.querySelector("svg").setAttribute("aria-hidden", "true"); // the box has the description
      box.style.minHeight = "0"; // the room that was kept for it
    } catch (error) {
      box.textContent = "This chart could not be drawn; the tables have its numbers.";
      console.error(error);
    }
  }

  async function drawAll() {
    for (const box of document.querySelectorAll(".chart")) await draw(box);
    // Milliseconds from the start of loading: tests read it.
    document.documentElement.dataset.drawn = String(Math.round(performance.now()));
  }

  function filter(form) {
    const section = form.nextElementSibling;
    for (const box of section.querySelectorAll(".chart")) {
      const view = views.get(box);
      if (!view) continue;
      for (const field of form.elements) {
        view.signal(field.name, field.type === "checkbox" ? field.checked : field.value);
      }
      view.runAsync();
    }
  }

  function value(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  }

  function compare(first, second) {
    if (typeof first === "number" && typeof second === "number") return first - second;
    // What has no number comes last.
    if (typeof first !== typeof second) return typeof first === "number" ? -1 : 1;
    return first.localeCompare(second, undefined, { numeric: true });
  }

  function makeSortable(table) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const descending = header.getAttribute("aria-sort") === "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].sort(
          (a, b) => compare(value(a, column), value(b, column)) * (descending ? -1 : 1),
        );
        body.append(...rows);
      });
    });
  }

  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const details = target && target.closest("details");
    if (details && !details.open) {
      details.open = true;
      target.scrollIntoView();
    }
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll("[data-filters]").forEach((form) => {
    form.hidden = false;
    form.addEventListener("input", () => filter(form));
    form.addEventListener("submit", (event) => event.preventDefault());
  });
  addEventListener("hashchange", openTarget);
  const opened = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.printed:not([open])").forEach((details) => {
      details.open = true;
      opened.push(details);
    });
  });
  addEventListener("afterprint", () => opened.splice(0).forEach((each) => (each.open = false)));
  openTarget();
  drawAll();
})();
