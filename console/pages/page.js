"use strict";
(() => {
  const main = () => document.querySelector("main");
  const rounded = (ms) => {
    const s = Math.max(1, Math.round(ms / 1000));
    if (s < 90) return s === 1 ? "1 second" : s + " seconds";
    const m = Math.round(s / 60);
    return m < 90 ? m + " minutes" : Math.round(m / 60) + " hours";
  };

  // Times are shown as the reader's clock has them; what is left counts down from when the page came, whatever that shows.
  let began = performance.now();
  const tick = () => {
    for (const t of document.querySelectorAll("time[data-until]")) {
      t.textContent = new Date(t.dateTime).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    }
    for (const t of document.querySelectorAll("time[data-left]")) {
      const left = Math.max(0, Math.ceil(t.dataset.left - (performance.now() - began) / 1000));
      t.textContent = Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
    }
    for (const t of document.querySelectorAll("time[data-seconds]")) {
      const left = t.dataset.seconds * 1000 - (performance.now() - began);
      t.textContent = left > 0 ? "in " + rounded(left) : "now";
    }
  };
  tick();
  setInterval(tick, 1000);

  // An order's page follows its events. Where they break off it comes back, more and more patiently, and never together
  // with everybody else.
  const least = 1500, most = 60000;
  let wait = least, source, timer;
  const over = () => main().dataset.final === "true";
  const later = () => {
    source.close();
    clearTimeout(timer);
    timer = setTimeout(open, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, most);
  };
  const redraw = async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.querySelector("main[data-events]");
    if (Number(next.dataset.version) < Number(main().dataset.version)) return; // an older answer came later
    document.title = page.title;
    main().replaceChildren(...next.childNodes);
    Object.assign(main().dataset, next.dataset);
    began = performance.now();
    tick();
  };
  const heard = async (order) => {
    if (order.version > Number(main().dataset.version)) await redraw();
    const position = document.getElementById("position"), eta = document.getElementById("eta");
    if (position && order.position) position.textContent = order.position;
    if (eta && order.position) eta.textContent = rounded(order.eta_ms);
    if (over()) source.close();
    wait = least;
  };
  const open = () => {
    if (over()) return;
    source = new EventSource(main().dataset.events);
    source.addEventListener("status", (e) => heard(JSON.parse(e.data)).catch(later));
    source.onerror = later;
  };
  if (main().dataset.events) open();
})();
