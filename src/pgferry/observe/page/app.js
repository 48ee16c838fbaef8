// The dashboard: logs in, listens to the stream of samples, and shows them.
import { Chart, spark } from "./charts.js";

const $ = (id) => document.getElementById(id);
const SAMPLES = 720;
const TABS = [["overview", "Overview"], ["pools", "Pools"], ["holding", "Holding"], ["clients", "Clients"], ["servers", "Servers"], ["events", "Events"]];
let me = null, now = null, stream = null, tab = "overview", chosen = "", history = null, events = [];

// --- small things

function h(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map((child) => child instanceof Node ? child : String(child)));
  return made;
}

export function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)} k`;
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toString() : value.toFixed(1);
}

export function time(us) {
  if (!us) return "0";
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return span(us / 1e6);
}

function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

const bytes = (n) => n < 1e6 ? `${Math.round(n / 1e3)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(0)} MB` : `${(n / 1e9).toFixed(1)} GB`;
const poolName = (row) => `${row.database}/${row.user}`;
const quoted = (name) => `"${String(name).replaceAll('"', '""')}"`;

function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => $("toast").classList.remove("on"), 4000);
}

async function ask(path, body) {
  const answer = await fetch(path, body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json", "x-csrf-token": me ? me.csrf : "" }, body: JSON.stringify(body),
  });
  if (answer.status === 401 && path !== "api/login") { showLogin(); throw new Error("logged out"); }
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}

// --- login

function showLogin() {
  me = null;
  if (stream) stream.close();
  $("app").hidden = true;
  $("login").hidden = false;
  $("login-form").user.focus();
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  $("login-error").textContent = "";
  form.querySelector("button").disabled = true;
  try {
    me = await ask("api/login", { user: form.user.value, password: form.password.value });
    form.password.value = "";
    start();
  } catch (error) {
    $("login-error").textContent = error.message;
    form.password.focus();
  } finally {
    form.querySelector("button").disabled = false;
  }
});

$("logout").addEventListener("click", async () => { await ask("api/logout", {}); showLogin(); });

// --- commands

function confirm(title, text, yes, danger) {
  $("dialog-title").textContent = title;
  $("dialog-text").replaceChildren(text instanceof Node ? text : h("p", {}, text));
  $("dialog-yes").textContent = yes;
  $("dialog-yes").hidden = !yes;
  $("dialog-no").textContent = yes ? "Cancel" : "Close";
  $("dialog-yes").className = danger ? "primary danger-fill" : "primary";
  $("dialog").returnValue = "no";
  $("dialog").showModal();
  (yes ? $("dialog-yes") : $("dialog-no")).focus();
  return new Promise((done) => $("dialog").addEventListener("close", () => done($("dialog").returnValue === "yes"), { once: true }));
}

async function run(command, title, text) {
  if (!(await confirm(title, text, title, true))) return;
  try {
    const answer = await ask("api/command", { command });
    toast(answer.ok ? `${command}: ${answer.message}` : `${answer.message}${answer.detail ? `: ${answer.detail}` : ""}`);
  } catch (error) {
    toast(error.message);
  }
}

const admin = () => me && me.rights === "admin";
const button = (label, act, kind) => h("button", { class: `small ${kind || ""}`, onclick: act }, label);

function poolActions(row) {
  const name = quoted(row.database), db = row.database;
  return [
    row.paused
      ? button("Resume", () => run(`RESUME ${name}`, "Resume", `Clients of ${db} go on.`))
      : button("Pause", () => run(`PAUSE ${name}`, "Pause", `No servers are handed out for ${db}; its clients wait until Resume.`)),
    button("Reconnect", () => run(`RECONNECT ${name}`, "Reconnect", `Every server connection of ${db} is replaced as soon as it is free.`)),
    button("Kill", () => run(`KILL ${name}`, "Kill", `All clients and servers of ${db} are dropped at once, and ${db} is paused.`), "danger"),
  ];
}

function killClient(id, who) {
  return button("Kill", () => run(`KILL_CLIENT ${id}`, "Kill", `${who} is disconnected; its transaction is rolled back.`), "danger");
}

// --- tables

// columns: [title, row -> cell, class]
function table(place, columns, rows, empty) {
  columns = columns.filter(([, cell, kind]) => kind !== "text" || rows.some((row) => cell(row).textContent));
  if (!rows.length) { place.replaceChildren(h("p", { class: "empty" }, empty)); return; }
  const focus = document.activeElement && place.contains(document.activeElement) ? [...place.querySelectorAll("button,a")].indexOf(document.activeElement) : -1;
  place.replaceChildren(h("table", {},
    h("thead", {}, h("tr", {}, columns.map(([title, , kind]) => h("th", { class: kind, scope: "col" }, title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(([title, cell, kind]) => h("td", { class: kind, "data-label": title }, cell(row))))))));
  if (focus >= 0) place.querySelectorAll("button,a")[focus]?.focus();
}

function meter(row) {
  const size = row.size || Math.max(1, row.active + row.idle + row.other);
  const bar = h("span", { class: `meter ${row.active >= size ? "full" : ""}` }, h("i"), h("i", { class: "idle" }));
  bar.children[0].style.width = `${Math.min(100, (row.active / size) * 100)}%`;
  bar.children[1].style.width = `${Math.min(100, ((row.idle + row.other) / size) * 100)}%`;
  return h("span", {}, bar, `${row.active} of ${row.size || "∞"}`);
}

const stateTag = (state) => h("span", { class: `tag ${state.startsWith("idle in") ? "sitting" : state}` }, state);

const POOLS = [
  ["Pool", (r) => h("a", { href: "#", class: "row", onclick: (e) => { e.preventDefault(); choose(poolName(r)); show("overview"); } }, r.database, h("span", { class: "muted" }, `/${r.user}`))],
  ["", (r) => r.paused ? h("span", { class: "pill warn" }, "paused") : r.disabled ? h("span", { class: "pill warn" }, "disabled") : ""],
  ["Mode", (r) => r.mode], ["Servers in use", meter],
  ["Clients", (r) => number(r.clients), "n"], ["Waiting", (r) => h("span", { class: r.waiting ? "hot" : "" }, number(r.waiting)), "n"],
  ["Oldest wait", (r) => h("span", { class: r.maxwait > 1e6 ? "hot" : "" }, r.waiting ? time(r.maxwait) : ""), "n"],
  ["Trans/s", (r) => number(r.tps), "n"], ["p50", (r) => time(r.p50), "n"], ["p95", (r) => time(r.p95), "n"], ["p99", (r) => time(r.p99), "n"], ["Wait p95", (r) => time(r.wait95), "n"],
  ["", (r) => admin() ? poolActions(r) : "", "actions"],
];
const HOLDERS = [
  ["Client", (r) => h("span", {}, r.application_name || r.client, h("span", { class: "muted" }, ` ${r.addr}${r.addr === "unix" ? "" : `:${r.port}`}`))],
  ["Pool", poolName], ["Why", (r) => h("span", {}, stateTag(r.state), r.pins ? ` ${r.pins}` : "")],
  ["Transaction", (r) => h("span", { class: r.slow ? "hot" : "" }, r.xact_us ? time(r.xact_us) : ""), "n"], ["Holding", (r) => time(r.held_us), "n"],
  ["Backend", (r) => r.remote_pid, "n"], ["Statement", (r) => h("span", { title: r.statement }, r.statement), "text"],
  ["", (r) => admin() ? killClient(r.id, `${r.application_name || r.client} (${poolName(r)})`) : "", "actions"],
];
const FEW_HOLDERS = [HOLDERS[0], HOLDERS[2], HOLDERS[3]];
const seconds = (r) => r.wait * 1e6 + r.wait_us;
const CLIENTS = [
  ["Id", (r) => r.id, "n"], ["Application", (r) => r.application_name], ["User", (r) => r.user], ["Database", (r) => r.database], ["State", (r) => stateTag(r.state)],
  ["Address", (r) => `${r.addr}:${r.port}`], ["Waits or runs for", (r) => seconds(r) ? time(seconds(r)) : "", "n"], ["Server", (r) => r.link], ["Statements", (r) => r.prepared_statements || "", "n"],
  ["Connected", (r) => r.connect_time], ["", (r) => admin() && r.database !== "pgbouncer" ? killClient(r.id, `client ${r.id} (${poolName(r)})`) : "", "actions"],
];
const SERVERS = [
  ["Server", (r) => r.ptr], ["User", (r) => r.user], ["Database", (r) => r.database], ["State", (r) => stateTag(r.state)], ["Address", (r) => `${r.addr}:${r.port}`],
  ["Backend", (r) => r.remote_pid, "n"], ["Query runs for", (r) => seconds(r) ? time(seconds(r)) : "", "n"], ["Client", (r) => r.link], ["Application", (r) => r.application_name],
  ["Statements", (r) => r.prepared_statements || "", "n"], ["Connected", (r) => r.connect_time],
];
const WORKERS = [
  ["Process", (r) => r.name], ["Processor", (r) => `${(r.cpu * 100).toFixed(0)} %`, "n"], ["Memory", (r) => bytes(r.memory), "n"], ["Files", (r) => r.fds, "n"],
  ["Clients", (r) => r.clients ?? "", "n"], ["Loop late, p99", (r) => r.clients === null ? "" : time(r.lag99), "n"],
];

// --- overview

const charts = {
  servers: new Chart($("chart-servers"), [{ name: "in use", key: "active", color: "active", area: 0.28 }, { name: "idle", key: "idle", color: "idle", area: 0.3, stack: true }, { name: "clients waiting", key: "waiting", color: "waiting" }], number),
  rate: new Chart($("chart-rate"), [{ name: "transactions/s", key: "tps", color: "active", area: 0.15 }, { name: "queries/s", key: "qps", color: "p50" }], number),
  time: new Chart($("chart-time"), [{ name: "p50", key: "p50", color: "p50" }, { name: "p95", key: "p95", color: "p95" }, { name: "p99", key: "p99", color: "p99" }], time),
  wait: new Chart($("chart-wait"), [{ name: "95 % wait at most", key: "wait95", color: "waiting", area: 0.15 }], time),
};

function figures() {
  return chosen ? now.pools.find((row) => poolName(row) === chosen) : now.total;
}

function tile(title, value, sub, key, ink, alarm) {
  return h("div", { class: `card tile ${alarm ? "alarm" : ""}` }, history ? spark(history[key].slice(-240), ink) : null, h("h3", {}, title), h("b", {}, value), h("div", { class: "sub" }, sub));
}

function overview() {
  const f = figures();
  if (!f) { choose(""); return; }
  const rows = chosen ? now.pools.filter((row) => poolName(row) === chosen) : now.pools;
  const oldest = Math.max(0, ...rows.map((row) => row.maxwait));
  $("tiles").replaceChildren(
    tile("Transactions", [number(f.tps), h("small", {}, " /s")], `${number(f.qps)} queries/s`, "tps", "active"),
    tile("Clients", number(f.clients), "logged in", "clients", "p50"),
    tile("Waiting", number(f.waiting), f.waiting ? `oldest ${time(oldest)}` : "nobody waits", "waiting", "waiting", f.waiting > 0),
    tile("Servers in use", [number(f.active), h("small", {}, ` of ${number(f.active + f.idle)}`)], `${number(f.idle)} idle`, "active", "active"),
    tile("Query time", time(f.p50), `p95 ${time(f.p95)} · p99 ${time(f.p99)}`, "p50", "p95"),
    tile("Wait, p95", time(f.wait95), "for a server, last 30 s", "wait95", "waiting", f.wait95 > 1e5));
  table($("top-holders"), FEW_HOLDERS, now.longest.slice(0, 6), "No client is in a transaction or pinned.");
}

async function choose(name) {
  chosen = name;
  history = null;
  const row = now && now.pools.find((pool) => poolName(pool) === name);
  const query = row ? `?${new URLSearchParams({ database: row.database, user: row.user })}` : "";
  try { history = await ask(`api/history${query}`); } catch { history = null; }
  $("pool-choice").value = name;
  if (now) render();
  drawCharts();
}

function drawCharts() {
  if (history) Object.values(charts).forEach((chart) => chart.set(history));
}

function remember() {
  const f = figures();
  if (!history || !f || history.time.at(-1) >= now.time) return;
  for (const key of Object.keys(history)) {
    history[key].push(key === "time" ? now.time : f[key] || 0);
    if (history[key].length > SAMPLES) history[key].shift();
  }
  drawCharts();
}

$("pool-choice").addEventListener("change", (event) => choose(event.target.value));

function choices() {
  const names = ["", ...now.pools.map(poolName)], place = $("pool-choice");
  if (names.join("\n") === [...place.options].map((o) => o.value).join("\n")) return;
  place.replaceChildren(...names.map((name) => h("option", { value: name }, name || "all together")));
  place.value = chosen;
}

// --- clients and servers, asked for only while they are looked at

const searches = { clients: CLIENTS, servers: SERVERS };
let searching = 0;

async function look(name) {
  const mine = ++searching;
  let answer;
  try { answer = await ask(`api/${name}?${new URLSearchParams({ q: $(`${name}-q`).value })}`); } catch { return; }
  if (mine !== searching || tab !== name) return;
  $(`${name}-found`).textContent = answer.found === answer.all ? `${answer.all}` : `${answer.found} of ${answer.all}`;
  if (answer.found > answer.rows.length) $(`${name}-found`).textContent += `, the first ${answer.rows.length} shown`;
  table($(name), searches[name], answer.rows, answer.all ? "Nothing matches." : `There are no ${name}.`);
}

for (const name of Object.keys(searches)) {
  let timer;
  $(`${name}-q`).addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => look(name), 200); });
}

// --- everything

function eventLine(event) {
  const when = new Date(event.when * 1000);
  return h("li", { class: event.level }, h("time", { datetime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleTimeString()), h("span", {}, event.text, event.times > 1 ? h("b", { class: "times" }, `${number(event.times)}×`) : null));
}

function render() {
  $("version").textContent = now.version;
  $("state").textContent = now.state;
  $("state").className = `pill ${now.state === "active" ? "" : "warn"}`;
  $("uptime").textContent = `up ${span(now.time - now.started)}`;
  document.title = now.total.waiting ? `(${number(now.total.waiting)} waiting) pgferry` : "pgferry";
  const badge = document.querySelector('[data-go="pools"] .count');
  badge.textContent = now.total.waiting ? number(now.total.waiting) : "";
  badge.hidden = !now.total.waiting;
  choices();
  $("global-actions").replaceChildren(...(admin() ? [
    button("Reload", () => run("RELOAD", "Reload", "The configuration file is read again: all of it takes effect, or nothing.")),
    now.state === "paused" ? button("Resume all", () => run("RESUME", "Resume all", "All clients go on.")) : button("Pause all", () => run("PAUSE", "Pause all", "No servers are handed out any more; every client waits until Resume.")),
  ] : []));
  if (tab === "overview") overview();
  if (tab === "pools") table($("pools"), POOLS, now.pools, "No pool yet: nobody has connected.");
  if (tab === "holding") table($("holding"), HOLDERS, now.longest, "No client is in a transaction or pinned.");
  if (tab === "events") table($("workers"), WORKERS, now.workers, "");
  if (searches[tab]) look(tab);
  const newest = [...events].reverse();
  if (tab === "events") $("events").replaceChildren(...(newest.length ? newest.map(eventLine) : [h("li", {}, "Nothing has happened yet.")]));
  if (tab === "overview") $("top-events").replaceChildren(...(newest.length ? newest.slice(0, 7).map(eventLine) : [h("li", {}, "Nothing has happened yet.")]));
}

function show(name) {
  tab = name;
  for (const section of document.querySelectorAll("main > section")) section.classList.toggle("shown", section.dataset.tab === name);
  for (const each of document.querySelectorAll("nav button")) each.setAttribute("aria-selected", String(each.dataset.go === name));
  if (location.hash.slice(1) !== name) window.scrollTo(0, 0);
  window.history.replaceState(null, "", `#${name}`);  // setting the hash would scroll to what has this id
  if (now) render();
  drawCharts();
}

function start() {
  $("login").hidden = true;
  $("app").hidden = false;
  $("who").textContent = `${me.user} (${me.rights})`;
  events = [];
  if (stream) stream.close();
  stream = new EventSource("api/stream");
  stream.onopen = () => { $("link").textContent = ""; $("link").className = "pill quiet"; events = []; };
  stream.onmessage = async (message) => {
    const first = now === null;
    now = JSON.parse(message.data);
    if (!now.total) { now = null; return; }
    const gone = new Set(now.events.map((event) => event.replaces));
    events = [...events.filter((event) => !gone.has(event.number)), ...now.events].slice(-200);
    if (first) await choose(""); else remember();
    render();
  };
  stream.onerror = () => {
    $("link").textContent = "connection lost, trying again";
    $("link").className = "pill bad";
    ask("api/session").catch(() => {});
  };
  show(TABS.some(([name]) => name === location.hash.slice(1)) ? location.hash.slice(1) : "overview");
}

$("tabs").append(...TABS.map(([name, title]) => h("button", { role: "tab", "data-go": name, onclick: () => show(name) }, title, name === "pools" ? h("span", { class: "count", hidden: true }) : null)));

// --- keyboard and looks

function theme(next) {
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("pgferry-theme", next); } catch { /* a private window has nowhere to keep it */ }
  drawCharts();
  if (now && !$("app").hidden) render();
}

function changeTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme(dark ? "light" : "dark");
}

function help() {
  const keys = [["1 … 6", "sections"], ["/", "search (clients, servers)"], ["← →", "section to the left or right, on the tabs"], ["t", "light or dark"], ["?", "this help"], ["Esc", "close, leave the search"]];
  confirm("Keyboard", h("dl", {}, keys.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]).flat()), "", false);
}

$("theme").addEventListener("click", changeTheme);
$("help").addEventListener("click", help);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("app").hidden || $("dialog").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && typing) { event.target.blur(); return; }
  if (typing) return;
  const index = TABS.findIndex(([name]) => name === tab);
  if (event.key >= "1" && event.key <= String(TABS.length)) show(TABS[event.key - 1][0]);
  else if (event.key === "/") { if (!searches[tab]) show("clients"); $(`${tab}-q`).focus(); event.preventDefault(); }
  else if (event.key === "t") changeTheme();
  else if (event.key === "?") help();
  else if (event.target.closest("nav") && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const next = TABS[(index + (event.key === "ArrowRight" ? 1 : TABS.length - 1)) % TABS.length][0];
    show(next);
    document.querySelector(`[data-go="${next}"]`).focus();
  }
});
try { if (localStorage.getItem("pgferry-theme")) document.documentElement.dataset.theme = localStorage.getItem("pgferry-theme"); } catch { /* as above */ }

ask("api/session").then((session) => { me = session; start(); }).catch(() => showLogin());
