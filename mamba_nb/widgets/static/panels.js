// Panels side by side, as compare(..., live="widget") shows them.
export default {
  initialize({ model }) { live(model); },
  render({ model, el }) {
    const grid = h("div", { class: "mn-grid" });
    const voice = announcer();
    const stop = button("Stop", () => model.send({ do: "stop" }));
    el.append(h("div", { class: ROOT }, h("div", { class: "mn-actions" }, stop, voice.box), grid));
    const panels = [];
    return watch(model, (state, what) => {
      const list = state.panels || [];
      while (panels.length < list.length) { const panel = answerPanel(); panels.push(panel); grid.append(panel.element); }
      while (panels.length > list.length) panels.pop().element.remove();
      const touched = what && what.panels ? Object.keys(what.panels) : list.keys();
      for (const index of touched) panels[index].update(list[index]);
      stop.disabled = !state.running;  // it keeps its place: nothing jumps when the run ends
      voice.say(list.map((panel) => `${panel.label}: ${panel.state}`).join(", "));
    });
  },
};
