// Fills the tab "Stack" of Locust's page, and keeps it and the page /stack up to date.
"use strict";

const EVERY = 2000; // ms
const { now, page } = document.currentScript.dataset;

const isDark = () =>
  localStorage.theme === "dark" ||
  (!localStorage.theme && matchMedia("(prefers-color-scheme: dark)").matches);

// React draws Locust's page and leaves alone what it did not draw; below its tabs there is nothing.
function place() {
  const main = document.querySelector("main");
  if (!main || document.querySelector(".stack-page")) return;
  const tabs = main.querySelector("[role=tablist]");
  const wanted = tabs && new URLSearchParams(location.search).get("tab") === "stack";
  let section = main.querySelector(".stack");
  if (wanted && !section) {
    section = document.createElement("section");
    section.className = "stack";
    main.append(section);
    refresh();
  } else if (!wanted && section) section.remove();
  // Before the first load there are no tabs.
  const link = main.querySelector(".stack-link");
  if (!tabs && !link) {
    const link = Object.assign(document.createElement("a"), { className: "stack-link", href: page });
    link.textContent = "Stack: what the replicas do now";
    main.append(link);
  } else if (tabs && link) link.remove();
}

async function refresh() {
  const section = document.querySelector(".stack");
  if (!section || document.hidden) return;
  for (const element of [section, section.closest(".stack-page")]) {
    element?.classList.toggle("dark", isDark());
    element?.classList.toggle("light", !isDark());
  }
  try {
    const answer = await fetch(now);
    if (answer.redirected) return location.reload(); // the session is over
    section.innerHTML = await answer.text();
  } catch {
    section.querySelector(".old")?.remove();
    section.insertAdjacentHTML("afterbegin", '<p class="old bad">Locust does not answer; this is old.</p>');
  }
}

new MutationObserver(place).observe(document, { childList: true, subtree: true });
document.addEventListener("DOMContentLoaded", () => {
  place();
  refresh();
  setInterval(refresh, EVERY);
});
document.addEventListener("visibilitychange", refresh);
