// The live page. It keeps a summary of every cell, and the contents of those near the view only.
// What the server sends as HTML is escaped there (fragments.py); all else is set as text.
"use strict";

const POLL_WAIT = 20; // seconds that the server may hold a poll
const POLL_PAUSE = 300; // ms between polls: at most three updates a second
const NEAR = "1500px 0px"; // cells this close to the view are kept filled
const GONE = 15_000; // ms without an answer after which the server may be gone for good

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const cells = new Map(); // id → Entry
const known = { boot: "", tag: "", version: 0, run: "", name: "", kernel: "", ahead: 0 };
let lost = 0; // since when the server does not answer
let following = true; // what the reader asked for
let atEnd = true; // where the reader is
let ledTo = 0; // where following last brought the reader

// -- cells -------------------------------------------------------------------------------------

class Entry {
  constructor(id) {
    this.id = id;
    this.near = this.whole = false;
    this.loading = null; // AbortController of the request under way
    this.filled = -1; // version of the contents, -1 for none
    this.parts = []; // the pieces of HTML shown: equal pieces stay as they are
    this.node = element("article", "cell");
    this.node.id = `cell-${id}`;
    this.label = element("div", "label");
    this.source = element("div", "source");
    this.outputs = element("div", "outputs");
    this.node.append(this.label, this.source, this.outputs);
    this.node.entry = this;
  }

  summarise(cell) {
    if (!this.cell) this.node.style.minHeight = `${28 + 20 * Math.min(cell.lines, 40)}px`;
    this.cell = cell;
    this.node.dataset.type = cell.type;
    this.node.dataset.state = cell.state;
    this.stamp();
    this.fill();
  }

  stamp() {
    const { type, state, count } = this.cell;
    if (type !== "code") return;
    const mark = state === "running" ? "*" : count ?? " ";
    const time = state === "queued" ? "queued" : duration(this.seconds());
    const bad = { error: "error" }[state] ?? (["", "ok", "running", "queued"].includes(state)
      ? "" : state.replace("_", " "));
    write(this.label, `[${mark}]\n${[bad, time].filter(Boolean).join("\n")}`);
    this.label.title = this.cell.reason;
  }

  seconds() {
    const { started, ended } = this.cell;
    return started ? ((ended ? Date.parse(ended) : now()) - Date.parse(started)) / 1000 : null;
  }

  async fill() {
    if (!this.near || this.loading || this.filled === this.cell.version) return;
    this.loading = new AbortController();
    const asked = this.cell.version; // what is served may be newer still, never older
    try {
      const cell = await get(`v1/cells/${this.id}${this.whole ? "?whole=1" : ""}`, this.loading.signal);
      this.show([cell.source, ...cell.outputs]);
      this.filled = Math.max(asked, cell.version);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      await sleep(1000); // the server is away, or the cell was just deleted: the poll will tell
    } finally {
      this.loading = null;
    }
    if (this.node.isConnected) this.fill();
  }

  show(parts) {
    this.node.style.minHeight = "";
    if (parts[0] !== this.parts[0]) this.source.innerHTML = parts[0];
    const nodes = this.outputs.children;
    parts.slice(1).forEach((html, i) => {
      if (nodes[i] && html === this.parts[i + 1]) return;
      const node = element("div", "output");
      node.innerHTML = html;
      nodes[i] ? nodes[i].replaceWith(node) : this.outputs.append(node);
    });
    while (nodes.length > parts.length - 1) this.outputs.lastChild.remove();
    this.parts = parts;
  }

  empty() {
    this.loading?.abort();
    if (this.filled < 0) return;
    this.node.style.minHeight = `${this.node.offsetHeight}px`; // the page keeps its length
    this.source.replaceChildren();
    this.outputs.replaceChildren();
    this.parts = [];
    this.filled = -1;
  }
}

const nearness = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    const entry = target.entry;
    entry.near = isIntersecting;
    if (isIntersecting) entry.fill();
    else entry.empty();
  }
}, { rootMargin: NEAR });

function arrange(order) {
  const wanted = new Set(order);
  for (const [id, entry] of cells) {
    if (wanted.has(id)) continue;
    nearness.unobserve(entry.node);
    entry.empty();
    entry.node.remove();
    cells.delete(id);
  }
  let place = $("cells").firstChild;
  for (const id of order) {
    const { node } = cells.get(id);
    if (node === place) place = place.nextSibling;
    else $("cells").insertBefore(node, place);
    if (!node.observed) nearness.observe(node);
    node.observed = true;
  }
}

// -- the server --------------------------------------------------------------------------------

async function get(address, signal) {
  const reply = await fetch(address, { signal, credentials: "same-origin", cache: "no-store" });
  if (!reply.ok) throw Object.assign(new Error(reply.statusText), { status: reply.status });
  return reply.json();
}

async function poll() {
  const query = new URLSearchParams({ after: known.version, tag: known.tag, wait: POLL_WAIT });
  const reply = await get(`v1/cells?${query}`, AbortSignal.timeout((POLL_WAIT + 20) * 1000));
  if (known.run && reply.run !== known.run) throw new Error("another run answers here");
  const reborn = reply.boot !== known.boot;
  for (const key of ["boot", "tag", "version", "run", "name", "kernel"]) known[key] = reply[key];
  known.ahead = Date.parse(reply.now) - Date.now();
  for (const cell of reply.cells) {
    if (!cells.has(cell.id)) cells.set(cell.id, new Entry(cell.id));
    const entry = cells.get(cell.id);
    if (reborn && entry.filled >= 0) entry.filled = 0;
    entry.summarise(cell);
  }
  if (reply.order) arrange(reply.order);
}

async function watch() {
  for (let pause = POLL_PAUSE; ; await sleep(pause)) {
    try {
      await poll();
      pause = POLL_PAUSE;
      lost = 0;
    } catch (problem) {
      lost ||= Date.now();
      pause = Math.min(pause * 2, 10_000);
      known.refused = problem.status === 403;
    }
    head();
  }
}

// -- the head of the page ----------------------------------------------------------------------

function head() {
  const running = [...cells.values()].find(({ cell }) => cell.state === "running");
  running?.stamp();
  const place = running ? [...$("cells").children].indexOf(running.node) + 1 : 0;
  write($("name"), known.name);
  write($("kernel"), lost ? "disconnected" : known.kernel && `kernel ${known.kernel}`);
  $("kernel").dataset.state = lost ? "lost" : known.kernel;
  write($("count"), known.run && (cells.size === 1 ? "1 cell" : `${cells.size} cells`));
  write($("running"), running && !lost ? `cell ${place} running ${duration(running.seconds())}` : "");
  document.title = (running && !lost ? "● " : "") + known.name;
  $("notice").hidden = !lost && cells.size > 0;
  const [words, command] = notice();
  write($("words"), words);
  write($("command"), command && `runner ${command} ${known.run}`);
}

function notice() {
  if (!lost) return ["No cells yet."];
  if (known.refused) return ["This page is no longer let in. Open it anew:", "open"];
  const since = Date.now() - lost;
  const words = `Disconnected, trying again (${duration(since / 1000)}).`;
  if (since < GONE) return [words];
  return [`${words} If the server is gone for good, the record has everything:`, "fetch"];
}

function follow() {
  if (following && atEnd) scrollTo(0, ledTo = end());
  $("follow").setAttribute("aria-pressed", following && atEnd);
  write($("follow"), following && atEnd ? "Following" : "Follow ↓");
}

const end = () => document.documentElement.scrollHeight - innerHeight;
const now = () => Date.now() + known.ahead;

function duration(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "";
  if (seconds < 0) return "0 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  const two = (number) => String(number).padStart(2, "0");
  if (hours) return `${hours} h ${two(minutes % 60)} min`;
  return `${minutes} min ${two(Math.floor(seconds % 60))} s`;
}

function element(tag, className) {
  return Object.assign(document.createElement(tag), { className });
}

function write(node, text) {
  if (node.textContent !== (text || "")) node.textContent = text || "";
}

// -- the reader --------------------------------------------------------------------------------

$("cells").addEventListener("click", ({ target }) => {
  if (!target.matches("button.more")) return;
  const { entry } = target.closest("article");
  entry.whole = true;
  entry.filled = 0;
  entry.fill();
});
$("follow").addEventListener("click", () => {
  following = !(following && atEnd);
  atEnd ||= following;
  follow();
});
addEventListener("scroll", () => {
  // What grew since we scrolled does not mean that the reader left the end.
  atEnd = scrollY > (atEnd ? Math.min(ledTo, end()) : end()) - 60;
  follow();
}, { passive: true });
new ResizeObserver(follow).observe($("cells"));
setInterval(head, 1000);
watch();
