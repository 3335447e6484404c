"use strict";
// Draws the charts, and keeps a live page up to date as long as somebody looks at it.
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
  const shown = (unit, value) => (value == null ? "–" : unit === "$" ? "$" + short.format(value) : unit === "ms" ? (value < 1000 ? short.format(value) + " ms" : short.format(value / 1000) + " s") : short.format(value));
  let drawn = [];

  function draw() {
    drawn.forEach((chart) => chart.destroy());
    drawn = [...document.querySelectorAll("[data-chart]")].map((place) => {
      const said = JSON.parse(place.dataset.chart);
      const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 } };
      const span = said.times.at(-1) - said.times[0];
      const when = (seconds) => { const iso = new Date(seconds * 1000).toISOString(); return span > 172800 ? iso.slice(5, 10) : iso.slice(11, 16); };
      const options = {
        width: place.clientWidth,
        height: 190,
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        axes: [{ ...axis, values: (_chart, values) => values.map(when) }, { ...axis, size: 64, values: (_chart, values) => values.map((value) => shown(said.unit, value)) }],
        scales: { y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        series: [
          { value: (_chart, seconds) => (seconds == null ? "–" : new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")) },
          ...said.lines.map((line) => {
            const colour = css(line.colour);
            return { label: line.name, stroke: colour, width: 2, fill: colour + "22", points: { show: false }, value: (_chart, value) => shown(said.unit, value) };
          }),
        ],
      };
      return new uPlot(options, [said.times, ...said.lines.map((line) => line.values)], place);
    });
  }

  let resizing = 0;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(draw, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  const main = () => document.getElementById("content");
  const isBusy = () => main().contains(document.activeElement) && document.activeElement !== main() || String(getSelection()) !== "";
  let timer = 0;

  function plan() {
    clearTimeout(timer);
    const seconds = Number(main().dataset.live);
    const state = document.querySelector("[data-live-state]");
    if (!seconds || !state) return;
    state.textContent = document.hidden ? "paused" : "live";
    if (!document.hidden) timer = setTimeout(refresh, seconds * 1000);
  }

  async function refresh() {
    // Whoever is reading, choosing or typing in it is not disturbed.
    if (!isBusy()) {
      try {
        const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
        const fresh = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
        if (fresh && !isBusy() && !document.hidden) {
          main().replaceChildren(...fresh.childNodes);
          draw();
        }
      } catch {
        document.querySelector("[data-live-state]").textContent = "the application does not answer";
        timer = setTimeout(refresh, 15000);
        return;
      }
    }
    plan();
  }

  document.addEventListener("visibilitychange", plan);
  draw();
  plan();
})();
