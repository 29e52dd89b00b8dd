// Chooses the view by the path, and handles links, shortcuts and dialogs for all of them.

import { askKey, call } from "./api.js";
import { forget, notify } from "./notice.js";

const VIEWS = [
  [/^\/$/, "overview", () => import("./overview.js")],
  [/^\/jobs\/([^/]+)$/, "job", () => import("./job.js")],
  [/^\/history$/, "history", () => import("./history.js")],
  [/^\/calibration$/, "calibration", () => import("./calibration.js")],
  [/^\/quote$/, "quote", () => import("./quote.js")],
];
const PATHS = { o: "/", h: "/history", c: "/calibration", q: "/quote" };

const main = document.getElementById("main");
let leaving = new AbortController();

/** Opens the view of the address; resolves with whether it is still the one in view. */
async function enter() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  forget();
  const [view, params] = match(location.pathname);
  if (!view) {
    main.replaceChildren();
    notify(`There is no view at ${location.pathname}. Choose one above.`);
    return true;
  }
  const [, name, load] = view;
  document.body.dataset.view = name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  main.setAttribute("aria-busy", "true");
  try {
    const module = await load();
    if (!signal.aborted) await module.enter(main, { params, signal });
  } catch (error) {
    if (!signal.aborted) notify(error.message);
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
  return !signal.aborted;
}

function match(path) {
  for (const view of VIEWS) {
    const found = view[0].exec(path);
    if (found) return [view, found.slice(1).map(decodeURIComponent)];
  }
  return [null, []];
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (!match(link.pathname)[0]) return;
  event.preventDefault();
  if (link.href !== location.href) history.pushState(null, "", link.href);
  // A view that was left before it stood must not take the focus from the next.
  enter().then((isInView) => isInView && main.focus({ preventScroll: true }));
  scrollTo(0, 0);
});
addEventListener("popstate", () => enter());

// Rows that lead somewhere hold one link; the keys move between those links.
function moveRow(step) {
  const links = [...main.querySelectorAll("tr a.row-link")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + step, 0), links.length - 1);
  links[next].focus();
  links[next].scrollIntoView({ block: "nearest" });
}

let awaitsView = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select")) return;
  if (awaitsView) {
    awaitsView = false;
    if (PATHS[event.key]) document.querySelector(`nav a[href="${PATHS[event.key]}"]`).click();
  } else if (event.key === "g") awaitsView = true;
  else if (event.key === "j") moveRow(1);
  else if (event.key === "k") moveRow(-1);
  else if (event.key === "?") document.getElementById("keys-dialog").showModal();
});

document.getElementById("open-keys").onclick = () => document.getElementById("keys-dialog").showModal();
document.getElementById("open-key").onclick = () => askKey("").then(() => begin());

const RETRY_MS = 5000;
let askedForTenant = 0;

/** Says whose jobs are shown; a simulated history belongs to tenants of that name. */
async function tellTenant() {
  const turn = (askedForTenant += 1);
  const place = document.getElementById("tenant");
  place.textContent = "";
  place.classList.remove("simulated");
  try {
    const { name } = await call("/v1/tenant");
    // Another key was given meanwhile.
    if (turn !== askedForTenant) return;
    place.textContent = name;
    place.classList.toggle("simulated", name.endsWith("(simulated)"));
  } catch (error) {
    // A view says itself what is wrong when the API does not answer.
    if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
    setTimeout(() => turn === askedForTenant && tellTenant(), RETRY_MS);
  }
}

function begin() {
  tellTenant();
  enter();
}

begin();
