// The pictures of a test set: two of them under a divider, and a magnifier over all.

function viewer(root, data, state) {
  const find = name => root.querySelector("." + name);
  const [stage, handle, spot, lens] = ["stage", "handle", "spot", "lens"].map(find);
  const [under, over, left, right, factor] = ["under", "over", "left", "right", "factor"].map(find);
  let shot = null;
  let divider = 50;
  const point = {x: 0.3, y: 0.4}; // not under the handle
  let canvases = [];

  function show(next) {
    shot = next;
    root.hidden = !shot;
    if (!shot) return;
    const titles = Object.keys(shot.images);
    const networks = data.results.filter(title => titles.includes(title));
    const before = networks.length > 1 ? networks : ["bicubic", "copy-last", "input"];
    fill(left, titles, titles.includes(left.value) ? left.value : prefer(titles, before, 0));
    fill(right, titles, titles.includes(right.value) ? right.value : prefer(titles, networks.reverse(), titles.length - 1));
    const [h, w] = shot.size;
    stage.style.aspectRatio = `${w} / ${h}`;
    stage.style.maxWidth = `min(100%, ${Math.max(w, 760)}px, calc(78vh * ${w} / ${h}))`;
    find("legend").hidden = !("difference" in shot.images) && !titles.some(title => title.startsWith("difference"));
    buildLens(titles);
    buildWeights();
    compare();
  }

  function prefer(titles, wanted, other) {
    return wanted.find(title => titles.includes(title)) ?? titles[other];
  }

  function compare() {
    under.src = shot.images[left.value];
    over.src = shot.images[right.value];
    const where = `clip ${shot.clip}, frame ${shot.frame}`;
    under.alt = `${left.value}, ${where}`;
    over.alt = `${right.value}, ${where}`;
    find("tag-left").textContent = left.value;
    find("tag-right").textContent = right.value;
    place();
  }

  function place() {
    over.style.clipPath = `inset(0 0 0 ${divider}%)`;
    handle.style.left = `${divider}%`;
    handle.setAttribute("aria-valuenow", Math.round(divider));
    handle.setAttribute("aria-valuetext", `${Math.round(divider)} % ${left.value}, then ${right.value}`);
  }

  function buildLens(titles) {
    lens.replaceChildren();
    const columns = [3, 2, 4].find(columns => titles.length % columns !== 1) ?? 3; // on a phone; none stands alone
    lens.style.setProperty("--columns", columns);
    canvases = titles.map(title => {
      const figure = document.createElement("figure");
      const canvas = document.createElement("canvas");
      const caption = document.createElement("figcaption");
      const image = new Image();
      caption.textContent = title;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${title}, magnified`);
      image.onload = magnify;
      image.src = shot.images[title];
      figure.append(canvas, caption);
      lens.append(figure);
      return {canvas, image};
    });
  }

  function magnify() {
    if (!shot || !canvases.length) return;
    const [h, w] = shot.size;
    const side = canvases[0].canvas.clientWidth;
    const pixels = Math.min(side / factor.value, w, h); // of the frame, in a canvas
    const x = Math.min(Math.max(point.x * w - pixels / 2, 0), w - pixels);
    const y = Math.min(Math.max(point.y * h - pixels / 2, 0), h - pixels);
    Object.assign(spot.style, {
      left: `${100 * x / w}%`, top: `${100 * y / h}%`, width: `${100 * pixels / w}%`, height: `${100 * pixels / h}%`,
    });
    const density = Math.round(side * devicePixelRatio);
    for (const {canvas, image} of canvases) {
      if (!image.naturalWidth) continue;
      const scale = image.naturalWidth / w;
      canvas.width = canvas.height = density;
      const brush = canvas.getContext("2d");
      brush.imageSmoothingEnabled = false;
      brush.drawImage(image, x * scale, y * scale, pixels * scale, pixels * scale, 0, 0, density, density);
    }
    find("times").textContent = `${factor.value}×`;
    stage.classList.toggle("enlarged", stage.clientWidth > w);
  }

  function buildWeights() {
    find("weights").replaceChildren(...Object.entries(shot.weights).map(([title, uri]) => {
      const figure = document.createElement("figure");
      const image = new Image();
      const caption = document.createElement("figcaption");
      image.src = uri;
      image.alt = `Weights of the memory (${title}) for frame ${shot.frame} of clip ${shot.clip}`;
      caption.textContent = `The memory's weights, ${title}: how much of each frame was read.`;
      figure.append(caption, image);
      return figure;
    }));
  }

  function moveTo(event) {
    const box = stage.getBoundingClientRect();
    point.x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    point.y = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 1);
    magnify();
  }

  function setDivider(value) {
    divider = Math.min(Math.max(value, 0), 100);
    place();
  }

  function swap() {
    [left.value, right.value] = [right.value, left.value];
    compare();
  }

  stage.addEventListener("pointermove", moveTo);
  stage.addEventListener("pointerdown", moveTo);
  handle.addEventListener("pointerdown", event => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", event => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    setDivider(100 * (event.clientX - box.left) / box.width);
  });
  handle.addEventListener("keydown", event => {
    const step = {ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100};
    if (!(event.key in step)) return;
    setDivider(divider + step[event.key]);
    event.preventDefault();
    event.stopPropagation();
  });
  stage.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 0.1 : 0.02;
    const move = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}[event.key];
    const titles = Object.keys(shot.images);
    if (move) {
      point.x = Math.min(Math.max(point.x + move[0], 0), 1);
      point.y = Math.min(Math.max(point.y + move[1], 0), 1);
      magnify();
    } else if (["+", "="].includes(event.key)) { factor.stepUp(); magnify(); }
    else if (event.key === "-") { factor.stepDown(); magnify(); }
    else if (event.key === "x") swap();
    else if (titles[event.key - 1]) { right.value = titles[event.key - 1]; compare(); }
    else return;
    event.preventDefault();
  });
  left.addEventListener("change", compare);
  right.addEventListener("change", compare);
  factor.addEventListener("input", magnify);
  find("swap").addEventListener("click", swap);
  new ResizeObserver(magnify).observe(stage);
  state.listeners.push(() => show(state.shot));
}
