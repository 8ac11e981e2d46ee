// What a page does by itself: times in the viewer's zone and language, a sign whether it is live, a few keys.
"use strict";

const language = document.documentElement.lang || "en";
const moment = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium", hourCycle: "h23" });
const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium", hourCycle: "h23" });
const ago = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });

function relative(then) {
  const seconds = Math.round((then - Date.now()) / 1000);
  for (const [limit, divisor, unit] of [[90, 1, "second"], [5400, 60, "minute"], [129600, 3600, "hour"]]) {
    if (Math.abs(seconds) < limit) return ago.format(Math.round(seconds / divisor), unit);
  }
  return ago.format(Math.round(seconds / 86400), "day");
}

function tell(node) {
  const then = new Date(node.dateTime);
  if (node.dataset.how === "ago") {
    node.textContent = relative(then);
  } else {
    const today = then.toDateString() === new Date().toDateString();
    node.textContent = (today ? clock : moment).format(then);
  }
  node.title = then.toString();
}

function tellTimes(within) {
  within.querySelectorAll("time[datetime]").forEach(tell);
}

document.addEventListener("DOMContentLoaded", () => {
  tellTimes(document);
  setInterval(() => document.querySelectorAll('time[data-how="ago"]').forEach(tell), 1000);

  const pulse = document.querySelector("[data-pulse]");
  if (pulse) {
    document.body.addEventListener("htmx:sseOpen", () => pulse.classList.replace("lost", "live") || pulse.classList.add("live"));
    document.body.addEventListener("htmx:sseError", () => pulse.classList.replace("live", "lost") || pulse.classList.add("lost"));
  }
});

// Before the morph, so that what is on the screen and what comes are alike.
document.addEventListener("htmx:afterSettle", (event) => tellTimes(event.target));
// What a page asks for by itself keeps nobody signed in.
document.addEventListener("htmx:configRequest", (event) => {
  const why = event.detail.triggeringEvent;
  if (!why || why.type.startsWith("sse:")) event.detail.headers["Wetread-Live"] = "1";
});
document.addEventListener("htmx:responseError", (event) => say(event.detail.xhr.responseText));
document.addEventListener("steered", (event) => { if (event.detail?.value) say(event.detail.value); });
document.addEventListener("htmx:sendError", () => document.querySelector("[data-pulse]")?.classList.add("lost"));

function say(html) {
  const said = document.getElementById("said");
  said.textContent = new DOMParser().parseFromString(html, "text/html").body.textContent.trim().slice(0, 400);
  setTimeout(() => { said.textContent = ""; }, 8000);
}

// A result without a picture needs no broken one. (Errors of images do not bubble.)
document.addEventListener("error", (event) => {
  if (event.target.matches?.("[data-picture]")) event.target.hidden = true;
}, true);

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key === "/" && !typing) {
    const field = document.querySelector("[data-find]");
    if (field) { event.preventDefault(); field.focus(); }
  }
  if (event.key === "Escape") document.querySelectorAll("details.menu[open]").forEach((menu) => { menu.open = false; });
});
