// Typing in the filter fills the dropdown from /locations. Without JavaScript the filter is a
// form that the server answers with a filtered page.
"use strict";

const WAIT_MS = 150; // after the last key, so that a typed word is one request
const LIMIT = 100; // as many names as the server puts into the dropdown

const filter = document.getElementById("q");
const select = document.getElementById("location");
const show = document.getElementById("show");
const matches = document.getElementById("matches");

let timer;
let request = new AbortController();

function describe(count, total, filtered) {
  if (total === 0) return filtered ? "No location matches." : "No locations are loaded yet.";
  const number = total.toLocaleString("en");
  if (count < total) return `${number} ${filtered ? "match" : "locations"}, the first ${count}:`;
  return total === 1 ? "1 location matches." : `${number} locations match.`;
}

async function update() {
  request.abort(); // an older answer must not replace a newer one
  request = new AbortController();
  const { signal } = request;
  const text = filter.value;
  try {
    const response = await fetch(`/locations?limit=${LIMIT}&q=${encodeURIComponent(text)}`, { signal });
    if (!response.ok) throw new Error((await response.json()).error);
    const names = await response.json();
    select.replaceChildren(...names.map((name) => new Option(name)));
    select.disabled = show.disabled = names.length === 0;
    matches.textContent =
      describe(names.length, Number(response.headers.get("X-Total-Count")), text !== "");
  } catch (error) {
    if (!signal.aborted) matches.textContent = `The filter failed: ${error.message}`;
  }
}

filter.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(update, WAIT_MS);
});

filter.form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  update();
});

// The browser restores the text of the filter when the user comes back, but not the dropdown.
window.addEventListener("pageshow", () => {
  if (filter.value !== filter.defaultValue) update();
});
