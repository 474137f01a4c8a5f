// Keeps the status page as it is now. The server says what is in each place; nothing is worked out here.
"use strict";

(() => {
  const SILENCE = 45000; // ms without a word after which the connection is taken for dead
  const AGAIN = 5000;
  const WIDTH = 300;
  const HEIGHT = 72;
  const SVG = "http://www.w3.org/2000/svg";
  const place = (id) => document.getElementById(id);
  const link = place("link");
  const pause = place("pause");
  let source = null;
  let timer = null;

  // Text and classes are only touched where they differ, so that what somebody reads or has marked stays as it is.
  function say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function dress(element, name) {
    if (element.className !== name) element.className = name;
  }

  function make(parent, name, position) {
    const found = parent.children[position];
    if (found && found.localName === name) return found;
    const made = document.createElement(name);
    if (found) parent.replaceChild(made, found);
    else parent.append(made);
    return made;
  }

  function trim(parent, count) {
    while (parent.children.length > count) parent.lastElementChild.remove();
  }

  function showState(state) {
    const box = place("state").firstElementChild;
    dress(box, "state " + state.kind);
    say(box.querySelector("strong"), state.text);
    const list = box.querySelector("ul");
    state.faults.forEach((fault, n) => say(make(list, "li", n), fault));
    trim(list, state.faults.length);
    document.title = state.text + " – push gateway";
  }

  function showFigures(figures) {
    const rows = place("figures").children;
    figures.forEach((figure, n) => {
      const value = rows[n].querySelector("dd");
      say(value, figure.text);
      dress(value, figure.kind);
    });
  }

  function showCell(cell, value, label) {
    cell.dataset.label = label.textContent;
    dress(cell, label.className);
    if (value.kind) {
      const tag = make(cell, "span", 0);
      say(tag, value.text);
      dress(tag, "tag " + value.kind);
      trim(cell, 1);
      if (cell.firstChild !== tag) cell.replaceChildren(tag);
    } else say(cell, value.text);
  }

  function showTable(body, rows) {
    const labels = body.parentElement.querySelectorAll("thead th");
    rows.forEach((values, n) => {
      const row = make(body, "tr", n);
      row.setAttribute("role", "row");
      values.forEach((value, m) => {
        const cell = make(row, m ? "td" : "th", m);
        cell.setAttribute("role", m ? "cell" : "rowheader");
        if (!m) cell.scope = "row";
        cell.removeAttribute("colspan");
        showCell(cell, value, labels[m]);
      });
      trim(row, values.length);
    });
    trim(body, rows.length);
    if (!rows.length) {
      const row = make(body, "tr", 0);
      row.setAttribute("role", "row");
      const cell = make(row, "td", 0);
      cell.setAttribute("role", "cell");
      cell.colSpan = labels.length;
      dress(cell, "empty");
      say(cell, body.dataset.empty);
    }
  }

  function drawing(chart) {
    let svg = chart.querySelector("svg");
    if (svg) return svg;
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true"); // its summary says the same
    for (const name of ["area", "curve"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      svg.append(path);
    }
    chart.querySelector(".ends").before(svg);
    chart.querySelector(".ends").hidden = false;
    return svg;
  }

  function showChart(chart, rate) {
    say(chart.querySelector(".value"), rate.now);
    say(chart.querySelector(".summary"), rate.summary);
    const [area, curve] = drawing(chart).children;
    const top = Math.max(...rate.points, 1e-9);
    const step = WIDTH / Math.max(rate.span - 1, 1);
    const left = WIDTH - (rate.points.length - 1) * step;
    const points = rate.points.map((value, n) => {
      const y = HEIGHT - 1 - (value / top) * (HEIGHT - 6);
      return `${(left + n * step).toFixed(1)},${y.toFixed(1)}`;
    });
    const line = points.length ? "M" + points.join("L") : "";
    curve.setAttribute("d", line);
    area.setAttribute("d", line && `${line}V${HEIGHT}H${left.toFixed(1)}Z`);
  }

  function show(view) {
    showState(view.state);
    showFigures(view.figures);
    view.rates.forEach((rate, n) => showChart(place("charts").children[n], rate));
    for (const [name, rows] of Object.entries(view.tables)) showTable(place(name), rows);
    say(place("time"), view.time);
    say(place("up"), view.up);
  }

  function wait(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(connect, milliseconds);
  }

  function disconnect() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  function connect() {
    disconnect();
    source = new EventSource("events");
    wait(SILENCE);
    source.onmessage = (event) => {
      wait(SILENCE);
      dress(link, "ok");
      say(link, "live");
      show(JSON.parse(event.data));
    };
    source.onerror = () => {
      dress(link, "warn");
      say(link, "not connected; trying again");
      source.close();
      wait(AGAIN);
    };
  }

  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) {
      disconnect();
      dress(link, "muted");
      say(link, "paused");
    } else {
      say(link, "connecting");
      connect();
    }
  });

  pause.hidden = false;
  say(link, "connecting");
  connect();
})();
