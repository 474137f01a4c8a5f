// Keeps the status page up to date. The server decides what each place says; the script only puts it there.
"use strict";

(() => {
  const SILENCE = 45000; // ms without an event after which the connection is presumed dead
  const RETRY = 5000; // ms before the next attempt to connect
  const WIDTH = 300;
  const HEIGHT = 72;
  const SVG = "http://www.w3.org/2000/svg";
  const place = (id) => document.getElementById(id);
  const link = place("link");
  const button = place("updating");
  let stopped = false;
  let source = null;
  let timer = null;

  // Touch text and classes only where they differ, so that a selection survives an update.
  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function setClass(element, name) {
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
    setClass(box, "state " + state.kind);
    setText(box.querySelector("strong"), state.text);
    const list = box.querySelector("ul");
    state.faults.forEach((fault, n) => setText(make(list, "li", n), fault));
    trim(list, state.faults.length);
  }

  function showFigures(figures) {
    const rows = place("figures").children;
    figures.forEach((figure, n) => {
      const value = rows[n].querySelector("dd");
      setText(value, figure.text);
      setClass(value, figure.kind);
    });
  }

  function showCell(cell, value, label) {
    cell.dataset.label = label.textContent;
    setClass(cell, label.className);
    const box = make(cell, "div", 0);
    const text = make(box, value.link ? "a" : "span", 0);
    if (value.link) text.setAttribute("href", value.link);
    setText(text, value.text);
    setClass(text, value.kind ? "tag " + value.kind : "value");
    if (value.note) setText(make(box, "small", 1), value.note);
    trim(box, value.note ? 2 : 1);
    if (cell.firstChild !== box) cell.replaceChildren(box);
  }

  function showListing(listing) {
    setText(place("shown"), listing.text);
    for (const name of ["previous", "next"]) {
      const link = place(name);
      link.hidden = !listing[name];
      link.setAttribute("href", listing[name]);
    }
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
      setClass(cell, "empty");
      setText(cell, body.dataset.empty);
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
    setText(chart.querySelector(".value"), rate.now);
    setText(chart.querySelector(".summary"), rate.summary);
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
    document.title = view.state.text + " – " + view.name;
    showFigures(view.figures);
    view.rates.forEach((rate, n) => showChart(place("charts").children[n], rate));
    for (const [name, rows] of Object.entries(view.tables)) showTable(place(name), rows);
    showListing(view.listing);
    setText(place("time"), view.time);
    setText(place("up"), view.up);
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
    source = new EventSource("events" + location.search);
    wait(SILENCE);
    source.onmessage = (event) => {
      wait(SILENCE);
      setClass(link, "ok");
      setText(link, "live");
      show(JSON.parse(event.data));
    };
    source.onerror = () => {
      setClass(link, "warn");
      setText(link, "disconnected; reconnecting");
      source.close();
      wait(RETRY);
    };
  }

  button.addEventListener("click", () => {
    stopped = !stopped;
    setText(button, stopped ? "Update live" : "Stop updating");
    if (stopped) {
      disconnect();
      setClass(link, "muted");
      setText(link, "not updated");
    } else {
      setText(link, "connecting");
      connect();
    }
  });

  button.hidden = false;
  setText(link, "connecting");
  connect();
})();
