// Starts each test set: the clip and the frame that are shown are its state, which tables, pictures and curves share.

function fill(select, texts, chosen) {
  select.replaceChildren(...texts.map(text => new Option(text, text, false, text === chosen)));
}

function start(section, data) {
  const state = {clip: null, shot: null, listeners: []};
  const selects = section.querySelectorAll("select.clip");
  const tables = section.querySelector(".tables");
  const shots = section.querySelector(".shots");

  state.choose = (clip, shot) => {
    state.clip = clip;
    state.shot = shot ?? clip.shots[0] ?? null;
    for (const select of selects) select.value = clip.name;
    for (const row of tables.querySelectorAll("tr.current")) row.classList.remove("current");
    for (const button of tables.querySelectorAll(`[data-clip="${CSS.escape(clip.name)}"]`)) {
      button.closest("tr").classList.add("current");
    }
    shots.replaceChildren(...clip.shots.map(own => {
      const button = document.createElement("button");
      const detail = document.createElement("small");
      button.type = "button";
      button.setAttribute("aria-pressed", String(own === state.shot));
      detail.textContent = [own.frame, own.text].filter(Boolean).join(" · ");
      button.append(own.kinds.join(", ") + " ", detail);
      button.addEventListener("click", () => {
        state.choose(clip, own);
        shots.querySelector("[aria-pressed=true]").focus();
      });
      return button;
    }));
    for (const listener of state.listeners) listener();
  };

  for (const select of selects) {
    fill(select, data.clips.map(clip => clip.name));
    select.addEventListener("change", () => state.choose(data.clips[select.selectedIndex]));
  }
  tables.addEventListener("click", event => {
    const chosen = event.target.closest("[data-clip]")?.dataset.clip;
    if (chosen !== undefined) state.choose(data.clips.find(clip => clip.name === chosen));
  });
  viewer(section.querySelector(".pictures"), data, state);
  curves(section.querySelector(".curves"), data, state);
  const first = data.clips.find(clip => clip.shots.length) ?? data.clips[0];
  if (first) state.choose(first);
}

const page = JSON.parse(document.getElementById("data").textContent);
for (const section of document.querySelectorAll("section.set")) start(section, page.sets[section.dataset.set]);
