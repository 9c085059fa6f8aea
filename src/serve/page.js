"use strict";

// The server writes the page. This only fetches it again, swaps the parts that changed, and turns switch and reset
// into requests.

const TOKEN = "pulse-telemetry-token";
const REFRESH_MS = 30_000;
const STALE = "This page is not up to date: ";

const main = () => document.querySelector("main");
const isLocked = (element) => element.dataset.locked === "yes";

function say(text) {
  document.getElementById("message").textContent = text;
}

function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const shown = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { ...options, cache: "no-store", headers: { ...options.headers, ...shown } });
}

async function refresh() {
  const response = await ask("./");
  if (!response.ok) throw new Error(await why(response));
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("main");
  if (isLocked(fresh) !== isLocked(main())) {
    main().replaceWith(fresh);
    return;
  }
  for (const part of main().querySelectorAll("[data-live]")) {
    const other = fresh.querySelector(`#${part.id}`);
    if (other && other.innerHTML !== part.innerHTML) part.replaceChildren(...other.childNodes);
  }
}

async function why(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.message ?? `The server answered ${response.status}.`;
}

async function unlock(token) {
  sessionStorage.setItem(TOKEN, token);
  await refresh();
  if (!isLocked(main())) return say("");
  sessionStorage.removeItem(TOKEN);
  say("The server does not accept this token.");
}

async function reset() {
  const response = await ask("api/v1/reset-id", { method: "POST" });
  if (!response.ok) return say(await why(response));
  const answer = await response.json();
  await refresh();
  say(answer.payload ? "The ID is a new one now." : `The ID is a new one now. ${answer.message}`);
}

async function turn(enabled) {
  const response = await ask("api/v1/switch", {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ enabled }),
  });
  if (!response.ok) return say(await why(response));
  const answer = await response.json();
  await refresh();
  const now = answer.enabled ? "Telemetry is on now." : "Telemetry is off now.";
  say(answer.persisted ? now : `${now} This could not be written, and would not outlive a restart; it is tried again.`);
}

function attempt(action) {
  action().catch((error) => say(`This did not work: ${error.message}`));
}

// Says so where the page is old, instead of letting it look like a new one.
async function keepUp() {
  if (document.hidden || (isLocked(main()) && !sessionStorage.getItem(TOKEN))) return;
  try {
    await refresh();
    if (document.getElementById("message").textContent.startsWith(STALE)) say("");
  } catch (error) {
    say(STALE + error.message);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.open) document.getElementById(button.dataset.open).showModal();
  if (button?.dataset.switch) attempt(() => turn(button.dataset.switch === "on"));
});

document.addEventListener("submit", (event) => {
  if (event.target.id === "unlock") {
    event.preventDefault();
    attempt(() => unlock(document.getElementById("token").value.trim()));
  } else if (event.submitter?.value === "reset") {
    attempt(reset);
  }
});

document.documentElement.classList.add("script");
if (isLocked(main())) keepUp();
setInterval(keepUp, REFRESH_MS);
