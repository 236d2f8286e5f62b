// Blind votes: answers side by side without names, a choice by button or key, then who they were.
const KEYS = { 0: "tie", b: "bad", "-": "bad" };

function kbd(key) {
  return h("kbd", { class: "mn-key", "aria-hidden": "true" }, key);
}

function keyButton(label, key, onclick, options) {
  const made = button([h("span", {}, label), kbd(key)], onclick, options);
  made.setAttribute("aria-keyshortcuts", key);
  return made;
}

// One answer. Its text stands still when the names come: they take the place of the button below it.
function ballotPanel(answer, number, choose) {
  const chosen = h("div", { class: "mn-state" });
  const pick = keyButton(`Answer ${number} is best`, String(number), () => choose(number), {});
  pick.dataset.choice = number;
  const foot = h("div", { class: "mn-vote-foot" }, pick);
  const bar = h("div", { class: "mn-bar", "aria-hidden": "true" });
  const text = h("div", { class: "mn-answer", tabindex: "0", role: "region", "aria-label": `Text of answer ${number}` },
    answer.html ? cleaned(answer.html) : null,
    answer.calls.map((call) => h("div", { class: "mn-callcard" }, "calls ", h("code", {}, call.name),
      h("pre", { class: "mn-text", tabindex: "0" }, call.arguments))),
    answer.note ? h("div", { class: "mn-quiet" }, answer.note) : null);
  const element = h("section", { class: "mn-panel mn-ballot", "aria-label": `Answer ${number}` }, bar,
    h("div", { class: "mn-head" }, h("div", { class: "mn-name" }, h("b", {}, `Answer ${number}`)), chosen), text, foot);
  return {
    element,
    mark(choice) {
      pick.setAttribute("aria-pressed", String(choice === number));
      chosen.replaceChildren(...(choice === number ? [stateMark("done"), " chosen"] : []));
      element.classList.toggle("mn-chosen", choice === number);
    },
    reveal(who) {
      element.classList.add(who.colour);
      bar.style.width = "100%";
      foot.replaceChildren(h("div", { class: "mn-vote-who" },
        h("div", { class: "mn-name" }, h("b", {}, h("bdi", {}, who.label)), h("span", { class: "mn-quiet" }, ` · ${who.server}`)),
        h("div", { class: "mn-figures" },
          who.figures.map((f) => h("span", { title: f.says }, f.name ? `${f.name} ` : "", h("b", {}, f.value))))));
    },
  };
}

const TALLY = [["votes", "votes"], ["wins", "wins"], ["ties", "ties"], ["losses", "losses"],
  ["share", "share, %"], ["rating", "rating"]];
const SAYS = {
  share: "wins and half the ties of all wins, ties and losses; Wilson's 95 % interval",
  rating: "Bradley-Terry: the mean is 1000, 400 points more is chosen ten times as often; bootstrap interval of 95 %",
};

// A figure over its interval, so that the table stays narrow.
function withInterval(text) {
  const [value, ends] = text.replace(" %", "").split(" (");
  return [value, ends ? h("span", { class: "mn-vote-ends" }, `(${ends}`) : null];
}

function standingsTable(standings) {
  if (!standings) return [];
  const head = h("tr", {}, h("th", { scope: "col", class: "mn-label" }, "model"),
    TALLY.map(([name, title]) => h("th", { scope: "col", title: SAYS[name] }, title)));
  const rows = standings.rows.map((row) => h("tr", {},
    h("th", { scope: "row", class: "mn-label" }, h("div", {}, h("span", { class: `mn-dot ${row.colour}` }), h("b", {}, h("bdi", {}, row.label)))),
    TALLY.map(([name]) => h("td", {}, withInterval(row[name])))));
  return [
    h("div", { class: "mn-vote-said" }, standings.said),
    h("div", { class: "mn-scroll", tabindex: "0", role: "region", "aria-label": "Standings" },
      h("table", { class: "mn-table" }, h("thead", {}, head), h("tbody", {}, rows))),
    h("div", { class: "mn-quiet mn-small" },
      [...standings.others, standings.note].filter(Boolean).map((text) => h("div", {}, text)),
      h("div", {}, "Stopping at the first moment that looks decided is wrong more often than one time in twenty.")),
  ];
}

function counted(state) {
  const parts = [];
  if (state.phase === "open") parts.push(`${state.voted + 1} of ${state.total}`);
  else parts.push(`${state.voted} of ${state.total} voted`);
  const more = [];
  if (state.ready !== null && state.ready !== undefined) more.push(`${state.ready} ready`);
  if (state.skipped) more.push(`${state.skipped} skipped`);
  if (state.out) more.push(`${state.out} left out: fewer than two answers`);
  return [h("b", {}, parts), more.length ? h("span", { class: "mn-quiet" }, ` · ${more.join(" · ")}`) : null];
}

function waitingText(state) {
  if (state.phase === "empty") {
    return [h("b", {}, "There is nothing to vote on."),
      h("div", {}, "A vote needs a prompt that two models have answered. Run the comparison again, or look at why its answers failed.")];
  }
  return [stateWord("waiting"), h("div", { class: "mn-quiet" }, "An item can be voted on as soon as all its answers are there.")];
}

function said(state) {
  if (state.phase === "revealed") {
    return `Locked. ${state.reveal.map((who, index) => `Answer ${index + 1}: ${who.label}`).join(". ")}`;
  }
  if (state.phase === "results") return state.standings ? state.standings.said : "";
  if (state.phase !== "open") return "Waiting for answers";
  const total = `${state.voted + 1} of ${state.total}`;
  if (state.choice === "tie") return `${total}: tie chosen`;
  if (state.choice === "bad") return `${total}: all bad chosen`;
  return state.choice ? `${total}: answer ${state.choice} chosen` : `${total}: nothing chosen`;
}

function booth(model, kernel) {
  let state = {}, panels = [], shown = {}, seen = -1;
  const send = (what, more) => tell(model, { do: what, at: state.turn, ...more });
  const choose = (choice) => send("choose", { choice });
  const voice = announcer();
  const bar = h("div", { class: "mn-vote-bar", "aria-hidden": "true" }, h("div", {}));
  const progress = h("div", { class: "mn-vote-count" });
  const each = h("input", { type: "checkbox", onchange: () => send("each", { on: each.checked }) });
  const prompt = h("div", { class: "mn-vote-prompt", tabindex: "0", role: "region", "aria-label": "Prompt" });
  const place = h("div", { class: "mn-vote-place" });
  const grid = h("div", { class: "mn-grid" });
  const same = h("div", { class: "mn-quiet mn-small mn-vote-same" });
  const tie = keyButton("Tie", "0", () => choose("tie"));
  const bad = keyButton("Both bad", "b", () => choose("bad"));
  const undo = keyButton("Undo", "u", () => send("undo"));
  const skip = keyButton("Skip", "s", () => send("skip"));
  const main = keyButton("Lock", "Enter", () => go(), { main: true });
  const results = button("Show the result", () => send("results"), { title: "Ends blindness: the models' names are in it" });
  const resume = button("Go on voting", () => send("resume"), { main: true });
  const actions = h("div", { class: "mn-actions mn-vote-actions" }, tie, bad, skip, undo, main, h("span", { class: "mn-vote-gap" }), results, resume);
  const error = h("div", {}), standings = h("div", { class: "mn-vote-standings" }), saved = h("div", { class: "mn-quiet mn-small mn-vote-saved" });
  const root = h("div", { class: `${ROOT} mn-vote`, tabindex: "-1", role: "group", "aria-label": "Blind vote", onkeydown: pressed },
    bar, kernel, h("div", { class: "mn-vote-top" }, progress, h("label", { class: "mn-vote-each" }, each, "Show the models after each vote")),
    error, prompt, place, grid, same, actions, standings, saved, voice.box);

  const changed = (key, value) => {
    const text = JSON.stringify(value === undefined ? null : value);
    if (shown[key] === text) return false;
    shown[key] = text;
    return true;
  };

  function go() {
    if (state.phase === "open") send("lock");
    if (state.phase === "revealed") send("next");
    if (state.phase === "results" && state.left) send("resume");
  }

  // Keys of the notebook itself are kept away while the vote has the focus: b would add a cell.
  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const on = event.target.closest("button, a, summary, input");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "Enter") {
      // A button in focus is pressed, unless it is the choice that is already made.
      const chosen = on && on.dataset.choice && on.getAttribute("aria-pressed") === "true";
      if (on && !chosen) return event.stopPropagation();
      go();
    } else if (/^[1-4]$/.test(key)) choose(Number(key));
    else if (key in KEYS) choose(KEYS[key]);
    else if (key === "u") send("undo");
    else if (key === "s") send("skip");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function drawItem(hadFocus) {
    panels = state.item.answers.map((answer, index) => ballotPanel(answer, index + 1, choose));
    grid.replaceChildren(...panels.map((panel) => panel.element));
    grid.hidden = !panels.length;
    grid.classList.toggle("mn-two", panels.length === 4);
    prompt.hidden = !panels.length;
    prompt.replaceChildren(h("div", { dir: "auto" }, state.item.prompt || ""));
    prompt.scrollTop = 0;
    same.textContent = state.item.same || "";
    same.hidden = !state.item.same;
    bad.firstChild.textContent = panels.length > 2 ? "All bad" : "Both bad";
    if (hadFocus && root.getBoundingClientRect().top < 0) root.scrollIntoView({ block: "start" });
  }

  function drawButtons() {
    const open = state.phase === "open", revealed = state.phase === "revealed";
    for (const one of [tie, bad, skip]) one.disabled = !open;
    undo.disabled = !open || (state.choice === null && !state.skipped);
    for (const [one, choice] of [[tie, "tie"], [bad, "bad"]]) one.setAttribute("aria-pressed", String(state.choice === choice));
    main.disabled = !(revealed || (open && state.choice !== null));
    const last = revealed && !state.left && state.ready === null;
    main.firstChild.textContent = last ? "Result" : revealed ? "Next" : "Lock";
    for (const one of [tie, bad, skip, undo, main]) one.hidden = !(open || revealed);
    results.hidden = !(open || revealed) || !state.voted || last;
    resume.hidden = !(state.phase === "results" && state.left);
    resume.textContent = state.skipped && state.skipped === state.left ? `Vote on the ${state.skipped} skipped` : "Go on voting";
    actions.hidden = state.phase === "empty" || state.phase === "waiting";
    for (const panel of panels) panel.mark(state.choice);
  }

  function draw(now) {
    state = now;
    if (!state.item) return;
    const hadFocus = root.contains(document.activeElement);
    if (changed("item", [state.run, state.item.id])) drawItem(hadFocus);
    if (changed("count", counted(state).map((node) => node && node.textContent))) progress.replaceChildren(...counted(state).filter(Boolean));
    bar.firstChild.style.width = state.total ? `${(100 * state.voted) / state.total}%` : "0";
    each.checked = state.each;
    const blank = state.phase === "waiting" || state.phase === "empty";
    if (changed("place", state.phase)) place.replaceChildren(...(blank ? waitingText(state) : []));
    if (changed("reveal", state.reveal) && state.reveal) state.reveal.forEach((who, index) => panels[index].reveal(who));
    if (changed("error", state.error)) error.replaceChildren(...[errorBox(state.error)].filter(Boolean));
    if (changed("standings", state.standings)) standings.replaceChildren(...standingsTable(state.standings));
    saved.textContent = state.saved || "";
    drawButtons();
    const focused = document.activeElement;
    if (hadFocus && (!root.contains(focused) || focused.disabled || focused.closest("[hidden]"))) root.focus({ preventScroll: true });
    voice.say(said(state));
    if (state.phase === "open" && seen !== state.turn) { seen = state.turn; send("seen"); }
  }

  return { root, draw };
}

export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const view = booth(model, kernelNote(model, el));
    el.append(view.root);
    return watch(model, view.draw);
  },
};
