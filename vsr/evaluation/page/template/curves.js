// The scores of every frame of a clip, a line for each method.

function curves(root, data, state) {
  const chart = root.querySelector(".chart");
  const reading = root.querySelector(".reading");
  const metric = root.querySelector(".metric");
  const lines = root.querySelector(".lines");
  const hidden = new Set();
  const margin = {left: 54, right: 14, top: 14, bottom: 28};
  let cursor = null; // index of a frame
  let scales = null;

  fill(metric, data.metrics, data.metrics[0]);
  data.methods.forEach((method, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = method;
    button.style.setProperty("--ink", colour(data, method));
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      hidden.has(method) ? hidden.delete(method) : hidden.add(method);
      button.setAttribute("aria-pressed", String(!hidden.has(method)));
      draw();
    });
    lines.append(button);
  });

  function series() {
    const values = state.clip.values[metric.value] ?? {};
    return data.methods.filter(method => values[method] && !hidden.has(method)).map(method => [method, values[method]]);
  }

  function draw() {
    root.hidden = !state.clip || !data.metrics.length;
    if (root.hidden) return;
    const width = Math.max(chart.clientWidth, 260);
    const height = Math.round(Math.min(Math.max(width * 0.32, 190), 340));
    const shown = series();
    const finite = shown.flatMap(([, values]) => values.filter(Number.isFinite));
    const ticks = niceTicks(finite.length ? finite.reduce((a, b) => Math.min(a, b)) : 0,
                            finite.length ? finite.reduce((a, b) => Math.max(a, b)) : 1);
    const [low, high] = [ticks[0], ticks[ticks.length - 1]];
    const count = state.clip.frames.length;
    const x = index => margin.left + (width - margin.left - margin.right) * (count > 1 ? index / (count - 1) : 0.5);
    const y = value => height - margin.bottom - (height - margin.top - margin.bottom) * (value - low) / (high - low || 1);
    scales = {x, y, width, height, count};

    chart.innerHTML = `<svg viewBox="0 0 ${width} ${height}" aria-hidden="true"></svg>`;
    const svg = chart.firstChild;
    const add = (name, attributes, text) => {
      const node = document.createElementNS(svg.namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      svg.append(node);
      return node;
    };
    for (const tick of ticks) {
      add("line", {class: "grid", x1: margin.left, x2: width - margin.right, y1: y(tick), y2: y(tick)});
      add("text", {x: margin.left - 8, y: y(tick) + 4, "text-anchor": "end"}, number(tick, ticks[1] - ticks[0]));
    }
    const last = count - 1;
    const step = Math.max(Math.ceil(last / (width > 500 ? 4 : 2)), 1);
    for (let index = 0; index <= last; index += step) {
      const anchor = index === 0 && count > 1 ? "start" : index === last && count > 1 ? "end" : "middle";
      add("text", {x: x(index), y: height - 8, "text-anchor": anchor}, state.clip.frames[index]);
    }
    for (const [method, values] of shown) {
      const path = add("path", {stroke: colour(data, method), d: outline(values, x, y)});
      if (!data.results.includes(method)) path.setAttribute("stroke-dasharray", "5 4");
      if (count === 1 && Number.isFinite(values[0])) add("circle", {cx: x(0), cy: y(values[0]), r: 4, fill: colour(data, method)});
    }
    const own = shown.findLast(([method]) => data.results.includes(method));
    for (const shot of state.clip.shots) {
      const index = state.clip.frames.indexOf(shot.frame);
      const value = own?.[1][index];
      if (!Number.isFinite(value)) continue;
      const mark = add("circle", {class: "shown", cx: x(index), cy: y(value), r: shot === state.shot ? 7 : 4.5, stroke: colour(data, own[0])});
      mark.addEventListener("click", () => state.choose(state.clip, shot));
    }
    add("line", {class: "cursor", y1: margin.top, y2: height - margin.bottom, visibility: "hidden"});
    chart.setAttribute("aria-label",
      `${metric.value} of the ${count} frames of clip ${state.clip.name}; the left and right arrow keys read the values`);
    read(cursor);
  }

  function read(index) {
    cursor = index === null ? null : Math.min(Math.max(index, 0), scales.count - 1);
    const line = chart.querySelector(".cursor");
    if (cursor === null) {
      line.setAttribute("visibility", "hidden");
      reading.textContent = "Point at the curves to read their values.";
      return;
    }
    line.setAttribute("visibility", "visible");
    line.setAttribute("x1", scales.x(cursor));
    line.setAttribute("x2", scales.x(cursor));
    const values = series().map(([method, own]) => `${method} ${Number.isFinite(own[cursor]) ? own[cursor] : own[cursor] ?? "–"}`);
    reading.textContent = `Frame ${state.clip.frames[cursor]}: ${values.join(" · ")}`;
  }

  chart.addEventListener("pointermove", event => {
    const box = chart.getBoundingClientRect();
    const inner = scales.width - margin.left - margin.right;
    const at = ((event.clientX - box.left) * scales.width / box.width - margin.left) / inner;
    read(Math.round(at * (scales.count - 1)));
  });
  chart.addEventListener("pointerleave", () => read(null));
  chart.addEventListener("keydown", event => {
    const to = {ArrowLeft: (cursor ?? 1) - 1, ArrowRight: (cursor ?? -1) + 1, Home: 0, End: scales.count - 1}[event.key];
    if (to === undefined) return;
    read(to);
    event.preventDefault();
  });
  metric.addEventListener("change", draw);
  new ResizeObserver(() => state.clip && draw()).observe(chart);
  state.listeners.push(() => { cursor = null; draw(); });
}

function colour(data, method) {
  const place = data.results.indexOf(method);
  if (place >= 0) return `var(--m${2 + (data.results.length - 1 - place) % 6})`;
  return `var(--m${data.methods.filter(name => !data.results.includes(name)).indexOf(method) % 2})`;
}

function outline(values, x, y) {
  let pen = "M";
  return values.map((value, index) => {
    if (!Number.isFinite(value)) { pen = "M"; return ""; }
    const piece = `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return piece;
  }).join("");
}

function niceTicks(low, high) {
  if (low === high) { low -= Math.abs(low) * 0.01 || 0.5; high += Math.abs(high) * 0.01 || 0.5; }
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(factor => factor * power >= rough) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({length: last - first + 1}, (_, index) => (first + index) * step);
}

function number(value, step) {
  return value.toFixed(Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9))));
}
