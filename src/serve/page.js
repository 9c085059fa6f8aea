"use strict";

// The server writes the page, of what it knows. This has Pulse read, fetches the page again, swaps the parts
// that changed, turns switch and reset into requests, and puts times into words.

const TOKEN = "pulse-telemetry-token";
const REFRESH_MS = 30_000;
const READ_AGAIN_MS = 1000;
// How long an answer is waited for: one that the server has at once, one that takes a reading of Pulse or of the whole
// history, and what an off waits for a deletion, whose ID it takes away.
const PATIENCE_MS = 10_000;
const READING_MS = 40_000;
const OFF_MS = 2000;

// What the server last said of each part, before anything here touched it.
const said = new Map();

const main = () => document.querySelector("main");
const isLocked = (element) => element.dataset.locked === "yes";
const liveParts = (element) => element.querySelectorAll("[data-live]");

// What came of the last action, and that the page is old. Neither takes the place of the other.
let told = "";
let stale = "";

function show() {
  document.getElementById("message").textContent = [told, stale].filter(Boolean).join(" ");
}

function say(text) {
  told = text;
  show();
}

// Asks, and waits for the whole answer, but not for ever: a proxy may be silent.
async function ask(path, { patience = PATIENCE_MS, ...options } = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const shown = token ? { Authorization: `Bearer ${token}` } : {};
  const headers = { ...options.headers, ...shown };
  try {
    const signal = AbortSignal.timeout(patience);
    const response = await fetch(path, { ...options, cache: "no-store", headers, signal });
    return { ok: response.ok, status: response.status, text: await response.text() };
  } catch (error) {
    throw error.name === "TimeoutError" ? new Error(`no answer within ${patience / 1000} seconds`) : error;
  }
}

function why({ status, text }) {
  try {
    return JSON.parse(text).message ?? `The server answered ${status}.`;
  } catch {
    return `The server answered ${status}.`;
  }
}

// Does something, and gives a sentence on what came of it, whatever that is.
async function outcome(what, path, options, done) {
  try {
    const answer = await ask(path, options);
    return answer.ok ? done(JSON.parse(answer.text)) : `${what} did not work: ${why(answer)}`;
  } catch (error) {
    return `${what} did not work: ${error.message}`;
  }
}

// Fetches the page again, and takes over the parts that are no longer the same. With `read` the server has Pulse read
// first, and waits for a moment.
async function refresh(read) {
  const query = new URLSearchParams(location.search);
  query.delete("read");
  if (read) query.set("read", "");
  const response = await ask(`./?${query}`);
  if (!response.ok) throw new Error(why(response));
  const fresh = new DOMParser().parseFromString(response.text, "text/html").querySelector("main");
  if (isLocked(fresh) !== isLocked(main())) {
    main().replaceWith(fresh);
    takeOver();
    return;
  }
  for (const part of liveParts(main())) {
    const other = fresh.querySelector(`#${part.id}`);
    if (other && other.innerHTML !== said.get(part.id)) swap(part, other);
  }
  tellTimes();
}

// What is known, at once; then what Pulse tells, when it does.
async function refreshAndRead() {
  await refresh();
  if (isLocked(main())) return;
  await refresh(true);
  while (document.getElementById("being-read") && !document.hidden) {
    await new Promise((done) => setTimeout(done, READ_AGAIN_MS));
    await refresh(true);
  }
}

// What somebody opened stays open, and what has the focus keeps it.
function swap(part, other) {
  const open = [...part.querySelectorAll("details[open]")].map((details) => details.id);
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const place = focused?.id || focused?.closest("[id]")?.id;
  said.set(part.id, other.innerHTML);
  part.replaceChildren(...other.childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  const again = place && document.getElementById(place);
  if (again && part.contains(again)) (again.querySelector("summary") ?? again).focus({ preventScroll: true });
  putInWords(part);
}

// The page is here for the first time, or another one has taken its place.
function takeOver() {
  for (const part of liveParts(main())) {
    said.set(part.id, part.innerHTML);
    putInWords(part);
  }
}

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const distance = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function putInWords(part) {
  for (const aged of part.querySelectorAll("[data-age]")) {
    const at = new Date(Date.now() - Number(aged.dataset.age) * 1000);
    aged.textContent = `at ${at.toLocaleTimeString()}`;
  }
  tellTimes(part);
}

// How far away each time is, and when that is here. The title has it as the server wrote it.
function tellTimes(within = document) {
  for (const time of within.querySelectorAll("time")) {
    time.title ||= time.textContent;
    const at = new Date(time.dateTime);
    const told = moment.format(at);
    time.textContent = time.closest(".history") ? told : `${howFar(at)} (${told})`;
  }
}

function howFar(at) {
  const seconds = (at - Date.now()) / 1000;
  for (const [unit, length] of [["day", 86_400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= (unit === "day" ? 2 : 1) * length) {
      return distance.format(Math.round(seconds / length), unit);
    }
  }
  return seconds < 0 ? "just now" : "in less than a minute";
}

async function unlock(token) {
  sessionStorage.setItem(TOKEN, token);
  await refresh();
  if (!isLocked(main())) {
    say("");
    return keepUp();
  }
  sessionStorage.removeItem(TOKEN);
  say("The server does not accept this token.");
}

// Tells what came of an action, also where the page cannot be fetched again after it.
async function tell(text) {
  await tryTo(refresh);
  say(text);
}

async function reset() {
  say("The ID is being replaced.");
  const done = (answer) => `The ID is a new one now.${answer.payload ? "" : ` ${answer.message}`}`;
  const options = { method: "POST", patience: READING_MS };
  await tell(await outcome("Replacing the ID", "api/v1/reset-id", options, done));
}

async function forget(thenOff) {
  say("The deletion is being asked for.");
  const options = { method: "POST", patience: READING_MS };
  const asked = outcome("Asking for the deletion", "api/v1/forget", options, (answer) => {
    const nothing = "Nothing that was sent is left to delete, as far as the history tells.";
    const goesOn = answer.enabled && !thenOff ? " Pings go on under a new ID." : "";
    return `${answer.pending > 0 ? "The deletion is asked for." : nothing}${goesOn}`;
  });
  if (!thenOff) return tell(await asked);
  // Whatever comes of the deletion, or does not.
  await Promise.race([asked, new Promise((done) => setTimeout(done, OFF_MS))]);
  const off = await switched(false);
  await tell(off);
  await tell(`${off} ${await asked}`);
}

async function cancelForget() {
  const done = () => "No deletion is asked for any more.";
  await tell(await outcome("Ending the deletions", "api/v1/forget", { method: "DELETE" }, done));
}

function switched(enabled) {
  const options = {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ enabled }),
  };
  return outcome(`Turning telemetry ${enabled ? "on" : "off"}`, "api/v1/switch", options, (answer) => {
    if (answer.enabled) return "Telemetry is on now, with a new ID.";
    const unwritten = "This could not be written, and would not outlive a restart; it is tried again.";
    return `Telemetry is off now. ${answer.persisted ? "No ping waits, and the ID file is gone." : unwritten}`;
  });
}

async function turn(enabled) {
  await tell(await switched(enabled));
}

// Over plain http from another machine browsers let no page write to the clipboard; then the text is selected.
async function copy(id) {
  const text = document.getElementById(id);
  try {
    await navigator.clipboard.writeText(text.textContent);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren(text);
    say("Selected: copy it with Ctrl-C.");
  }
}

function attempt(action) {
  action().catch((error) => say(`This did not work: ${error.message}`));
}

// Says so where the page is old, instead of letting it look like a new one.
async function tryTo(fetchAgain) {
  try {
    await fetchAgain();
    stale = "";
  } catch (error) {
    stale = `This page is not up to date: ${error.message}`;
  }
  show();
}

async function keepUp() {
  if (document.hidden || (isLocked(main()) && !sessionStorage.getItem(TOKEN))) return;
  await tryTo(refreshAndRead);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.open) document.getElementById(button.dataset.open).showModal();
  if (button?.dataset.switch) attempt(() => turn(button.dataset.switch === "on"));
  if (button?.dataset.cancel) attempt(cancelForget);
  if (button?.dataset.copy) attempt(() => copy(button.dataset.copy));
});

document.addEventListener("submit", (event) => {
  if (event.target.id === "unlock") {
    event.preventDefault();
    attempt(() => unlock(document.getElementById("token").value.trim()));
  } else if (event.submitter?.value === "reset") {
    attempt(reset);
  } else if (event.submitter?.value.startsWith("forget")) {
    attempt(() => forget(event.submitter.value === "forget-off"));
  }
});

// While the tab is hidden nothing is asked; what was missed is made up for when it is seen again.
document.addEventListener("visibilitychange", keepUp);
setInterval(keepUp, REFRESH_MS);

document.documentElement.classList.add("script");
takeOver();
keepUp();
