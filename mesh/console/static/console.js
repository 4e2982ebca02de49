// The console's script: live parts, ages that count up, and keys. Every page works without it.
"use strict";

const live = document.body.dataset.live;
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// Ages and deadlines -------------------------------------------------------------------------------

function duration(ms) {
  if (ms < 1000) return "now";
  const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (s < 60) return `${s} s`;
  if (m < 60) return `${m} min`;
  if (h < 24) return m % 60 ? `${h} h ${m % 60} min` : `${h} h`;
  return h % 24 ? `${d} d ${h % 24} h` : `${d} d`;
}

function tick() {
  const now = Date.now();
  for (const one of $$("time[data-age]")) one.textContent = duration(now - Date.parse(one.dateTime));
  for (const one of $$("time[data-left]")) {
    const left = Date.parse(one.dateTime) - now;
    one.textContent = left > 0 ? `${duration(left)} left` : "over";
  }
}
tick();
setInterval(tick, 1000);

// Live parts ---------------------------------------------------------------------------------------

let fetching = false, again = false, sending = false, skipped = false;

// A form that is under way leads to its own page: nothing may load this one again.
document.addEventListener("submit", (event) => { sending = event.target.method === "post"; });

// Whether somebody has typed something there that is not sent.
const isTyped = (part) => $$("textarea, input:not([type=hidden])", part).some((one) => one.value !== one.defaultValue);

// Fetch this page again, and put in what differs. A part in which somebody is at work stays as it is.
async function refresh() {
  if (sending) return;
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (sending) return;
    if (answer.redirected || !answer.ok) { location.reload(); return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (sending) return;
    document.body.dataset.since = page.body.dataset.since || "";
    document.title = page.title;
    for (const part of $$("[data-part]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh || part.dataset.was === fresh.innerHTML) continue;
      if (part.contains(document.activeElement) || isTyped(part)) { skipped = true; continue; }
      const open = $$("details", part).map((one) => one.open);
      part.replaceChildren(...fresh.cloneNode(true).childNodes);
      $$("details", part).forEach((one, number) => { if (open[number]) one.open = true; });
      part.className = fresh.className;
      part.dataset.was = fresh.innerHTML;
    }
    // the form comes with the question and goes with its answer; what is typed stays
    if (!document.getElementById("answer") !== !page.getElementById("answer") && !isTyped(document.getElementById("main"))) location.reload();
    // what is approved is what is read: a newer text takes no place by itself, and is only pointed to
    const [read, newest] = [document, page].map((one) => one.querySelector("[data-digest]")?.dataset.digest);
    if (read !== newest) document.getElementById("newer")?.removeAttribute("hidden");
    tick();
  } catch { said("Not live, reload", "ask"); } finally {
    fetching = false;
    if (again) { again = false; setTimeout(refresh, 200); }
  }
}

// what was left as it was while somebody worked in it
document.addEventListener("focusout", () => { if (skipped) { skipped = false; setTimeout(refresh, 200); } });

function said(text, hue = "") {
  const place = document.getElementById("live"), mark = document.createElement("i");
  if (!place) return;
  mark.className = hue;
  place.replaceChildren(mark, ` ${text}`);
  delete place.dataset.was;
}

let stream = null, pause = 0, timer = 0;
const PAUSES = [1, 2, 5, 10, 30];

function listen() {
  clearTimeout(timer);
  const asked = new URLSearchParams({ topics: live.split(" ").join(","), since: document.body.dataset.since });
  stream = new EventSource(`/live?${asked}`);
  stream.addEventListener("changed", refresh);
  stream.onopen = () => { if (pause) refresh(); pause = 0; document.documentElement.dataset.stream = "open"; };
  stream.onerror = () => {
    stream.close();
    said("Not live, reload", "ask");
    timer = setTimeout(listen, 1000 * PAUSES[Math.min(pause++, PAUSES.length - 1)]);
  };
}

if (live) {
  listen();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stream.close(); clearTimeout(timer); } else { listen(); refresh(); }
  });
  addEventListener("pagehide", () => stream.close());
}

// Keys ---------------------------------------------------------------------------------------------

let before = "";

function step(by) {
  const rows = $$("[data-row]"), at = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  row?.querySelector("a[href]")?.focus();
}

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.key === "Escape" && at.matches("input, textarea")) { at.blur(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || at.matches("input, textarea, select, dialog *")) return;
  const go = before === "g" && document.querySelector(`.nav [data-key="${CSS.escape(event.key)}"]`);
  before = event.key;
  if (go) { location.href = go.href; return; }
  const act = {
    "/": () => document.querySelector(".find input")?.focus(),
    "?": () => document.getElementById("keys")?.showModal(),
    j: () => step(1),
    k: () => step(-1),
    a: () => document.querySelector('#answer [data-key="a"]')?.focus(),
    r: () => document.querySelector('#answer [data-key="r"]')?.focus(),
    n: () => document.querySelector("[data-next]")?.click(),
  }[event.key];
  if (act) { event.preventDefault(); act(); }
});

// What was deployed meanwhile is seen at the next load; a page from the back button is fetched again.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
