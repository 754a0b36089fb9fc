"use strict";
(() => {
  const stored = (id) => JSON.parse(document.getElementById(id).textContent);
  const each = (selector, work) => document.querySelectorAll(selector).forEach(work);

  // Pictures: each is stored once, however often it is shown.
  const pictures = stored("pictures");
  each("img[data-picture]", (image) => {
    image.src = "data:image/jpeg;base64," + pictures[image.dataset.picture];
  });
  const dialog = document.querySelector("dialog");
  each(".three img", (image) => image.addEventListener("click", () => {
    const large = dialog.querySelector("img");
    large.src = image.src;
    large.alt = image.alt;
    dialog.showModal();
  }));
  dialog.addEventListener("click", () => dialog.close());

  // Tables: a click on a heading sorts, the better end first.
  const value = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
  };
  const sort = (heading) => {
    const table = heading.closest("table"), body = table.tBodies[0], kind = heading.dataset.sort;
    const best = heading.dataset.better === "higher" ? "descending" : "ascending";
    const other = best === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === best ? other : best;
    table.querySelectorAll("th[aria-sort]").forEach((one) => one.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1, column = heading.cellIndex;
    const compare = (one, two) => {
      const a = value(one, column, kind), b = value(two, column, kind);
      if (kind === "text") return sign * a.localeCompare(b);
      return isNaN(a) - isNaN(b) || sign * (a - b);
    };
    body.append(...[...body.rows].sort(compare));
  };
  each("th[data-sort]", (heading) => {
    heading.addEventListener("click", () => sort(heading));
    heading.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(heading);
    });
  });

  // Copies of a table for spreadsheets, Markdown and papers.
  const cellsOf = (table) => {
    const headings = [...table.tHead.rows].at(-1).cells;
    const sets = new Set([...headings].map((one) => one.dataset.set).filter(Boolean));
    const name = (one) => (sets.size > 1 && one.dataset.set ? one.dataset.set + " " : "") + one.textContent.trim();
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map(
      (cell) => ({ text: cell.textContent.trim(), best: cell.classList.contains("best"), number: "value" in cell.dataset })));
    return { head: [...headings].map((one) => ({ text: name(one), number: one.dataset.sort === "number" })), rows };
  };
  const texSigns = { "\\": "\\textbackslash{}", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "–": "--", "×": "$\\times$",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  const tex = (text) => text.replace(/[\\↑↓–×~^&%$#_{}]/g, (one) => texSigns[one] ?? "\\" + one);
  const quoted = (text) => (/[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  const formats = {
    csv: ({ head, rows }) => [head, ...rows].map((row) => row.map(
      ({ text }) => quoted(text.replace(/ [↑↓]$|\u2009/g, ""))).join(",")).join("\n"),
    markdown: ({ head, rows }) => {
      const line = (texts) => "| " + texts.map((one) => one.replaceAll("|", "\\|")).join(" | ") + " |";
      return [line(head.map((one) => one.text)), line(head.map((one) => one.number ? "---:" : "---")),
        ...rows.map((row) => line(row.map((one) => one.best ? `**${one.text}**` : one.text)))].join("\n");
    },
    latex: ({ head, rows }) => {
      const line = (texts) => "  " + texts.join(" & ") + " \\\\";
      const body = rows.map((row) => line(row.map((one) => one.best ? `\\textbf{${tex(one.text)}}` : tex(one.text))));
      return [`\\begin{tabular}{${head.map((one) => one.number ? "r" : "l").join("")}}`, "  \\toprule",
        line(head.map((one) => tex(one.text))), "  \\midrule", ...body, "  \\bottomrule", "\\end{tabular}"].join("\n");
    },
  };
  const copy = async (button, text) => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = "not allowed";
    }
    setTimeout(() => { button.textContent = before; }, 1200);
  };
  each("[data-copy]", (button) => button.addEventListener("click", () => {
    const table = button.closest(".bar").nextElementSibling.querySelector("table");
    copy(button, formats[button.dataset.copy](cellsOf(table)) + "\n");
  }));
  each("[data-copy-command]", (button) => button.addEventListener("click",
    () => copy(button, button.previousElementSibling.textContent)));

  // Curves: drawn once they come near the window.
  const sets = stored("plots");
  const share = (curves) => curves.map((one) => one.precision.at(-1)).find((one) => one > 0);
  const axis = (title, more) => ({ title: { text: title, standoff: 8 }, range: [0, 1.005], tickformat: ".0%", zeroline: false,
    automargin: true, ticks: "outside", ticklen: 5, tickcolor: "rgba(0,0,0,0)", ...more });
  const layout = (x, y, shapes) => ({ xaxis: x, yaxis: y, shapes, showlegend: false, hovermode: "closest",
    margin: { l: 54, r: 26, t: 12, b: 46 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { size: 12 },
    hoverlabel: { align: "left", namelength: -1 } });
  const line = (ends, label, more) => ({ type: "line", layer: "below", ...ends, line: { dash: "dot", width: 1.2 },
    label: { text: label, font: { size: 11 }, padding: 3, ...more } });
  const decade = (curves) => {
    const least = Math.min(...curves.map((one) => one.fpr95).filter((one) => one > 0));
    return Math.max(-5, Math.min(-3, Math.floor(Math.log10(least)) - 1));
  };
  const name = (one) => escapeText(`${one.detector} · ${one.model}`);
  // Plotly reads a little HTML in its texts: names are to be shown as they are.
  const escapeText = (text) => text.replace(/[&<>]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[one]);

  const drawings = {
    pr: (curves) => {
      const chance = share(curves);
      const traces = curves.map((one) => ({ x: one.recall, y: one.precision, name: name(one), mode: "lines",
        line: { color: one.colour, dash: one.dash, width: 2 },
        hovertemplate: "recall %{x:.1%}<br>precision %{y:.2%}<extra>%{fullData.name}</extra>" }));
      const shapes = chance ? [line({ x0: 0, x1: 1, y0: chance, y1: chance }, `guessing ${(100 * chance).toPrecision(3)} %`,
        { textposition: "start", yanchor: chance > 0.9 ? "top" : "bottom" })] : [];
      return [traces, layout(axis("recall: share of anomaly pixels found"), axis("precision: share of alarms that are right"), shapes)];
    },
    roc: (curves) => {
      const from = decade(curves);
      const steps = Array.from({ length: 61 }, (_, one) => 10 ** (from * (1 - one / 60)));
      const traces = curves.map((one) => ({ x: one.fpr, y: one.recall, name: name(one), mode: "lines", meta: "curve",
        line: { color: one.colour, dash: one.dash, width: 2 },
        hovertemplate: "%{x:.3%} of normal pixels raise an alarm<br>%{y:.1%} of anomaly pixels found<extra>%{fullData.name}</extra>" }));
      const points = curves.map((one) => ({ x: [one.fpr95], y: [0.95], name: name(one), mode: "markers", cliponaxis: false,
        marker: { color: one.colour, size: 9, line: { color: "#fff", width: 1.5 } },
        hovertemplate: "FPR95 %{x:.2%}<extra>%{fullData.name}</extra>" }));
      const chance = { x: steps, y: steps, mode: "lines", line: { color: "#888", width: 1.2, dash: "dot" }, hoverinfo: "skip" };
      const shapes = [line({ xref: "paper", x0: 0, x1: 1, y0: 0.95, y1: 0.95 }, "95 % found", { textposition: "start", yanchor: "top" })];
      const x = axis("false-positive rate: share of normal pixels with an alarm",
        { type: "log", range: [from, 0.01], dtick: 1, tickformat: "~%" });
      return [[...traces, ...points, chance], layout(x, axis("recall: share of anomaly pixels found"), shapes)];
    },
  };
  const ready = (canvas) => {
    const [traces, page] = drawings[canvas.dataset.plot](sets[canvas.dataset.set]);
    // Where there is little room the axes keep their names and lose the explanations.
    const short = (one) => { one.title.text = one.title.text.split(":")[0]; };
    if (canvas.clientWidth < 480) [page.xaxis, page.yaxis].forEach(short);
    return Plotly.newPlot(canvas, traces, page, { responsive: true, displaylogo: false,
      modeBarButtons: [["toImage", "resetScale2d"]], toImageButtonOptions: { format: "svg", filename: canvas.dataset.plot } });
  };
  const pending = new Map();
  const draw = (canvas) => {
    if (!pending.has(canvas)) pending.set(canvas, ready(canvas));
    return pending.get(canvas);
  };
  const near = new IntersectionObserver((entries) => entries.filter((one) => one.isIntersecting).forEach((one) => {
    near.unobserve(one.target);
    draw(one.target);
  }), { rootMargin: "600px" });
  each("[data-plot]", (canvas) => near.observe(canvas));
  window.addEventListener("beforeprint", () => {
    each("[data-plot]", draw);
    each("details.protocol", (one) => { one.open = true; });
  });

  each("[data-chips]", (chips) => chips.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const shown = button.getAttribute("aria-pressed") !== "true", number = Number(button.dataset.curve);
    button.setAttribute("aria-pressed", shown);
    const count = sets[chips.dataset.chips].length;
    for (const canvas of chips.parentElement.querySelectorAll("[data-plot]")) {
      await draw(canvas);
      const which = canvas.dataset.plot === "roc" ? [number, number + count] : [number];
      Plotly.restyle(canvas, { visible: shown }, which);
    }
  }));
  each("[data-axis]", (button) => button.addEventListener("click", async () => {
    const canvas = button.closest(".plot").querySelector(".canvas"), linear = button.textContent.startsWith("linear");
    await draw(canvas);
    const from = decade(sets[canvas.dataset.set]);
    Plotly.relayout(canvas, linear
      ? { "xaxis.type": "linear", "xaxis.range": [0, 1.005], "xaxis.dtick": 0.2, "xaxis.tickformat": ".0%" }
      : { "xaxis.type": "log", "xaxis.range": [from, 0.01], "xaxis.dtick": 1, "xaxis.tickformat": "~%" });
    button.textContent = linear ? "logarithmic axis" : "linear axis";
  }));

  // Contents: the part that is being read.
  const links = new Map([...document.querySelectorAll("nav a")].map((one) => [one.hash.slice(1), one]));
  const seen = new IntersectionObserver((entries) => entries.forEach((one) =>
    links.get(one.target.id)?.classList.toggle("here", one.isIntersecting)), { rootMargin: "-15% 0px -75% 0px" });
  each("section[id]", (section) => seen.observe(section));
})();
