"use strict";
// A tooltip of our own: the browser's comes late, and on a phone not at all. Without JavaScript
// the browser shows each <title>.
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll("svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
function showTip(event) {
  const mark = event.target.closest?.("[data-tip]");
  if (!mark) return tip.hidePopover();
  tip.textContent = mark.dataset.tip;
  tip.showPopover();
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY > height + 16 ? event.clientY - height - 12 : event.clientY + 16}px`;
}
document.addEventListener("pointerover", showTip);
document.addEventListener("pointermove", showTip);

// A chart in the whole window: the wheel, two fingers or + and - zoom, dragging moves it.
const zoom = document.getElementById("zoom");
const fingers = new Map();
let picture, view;
function enlarge(svg) {
  picture = svg.cloneNode(true);
  view = picture.getAttribute("viewBox").split(" ").map(Number);
  zoom.querySelector("svg")?.remove();
  zoom.append(picture);
  zoom.showModal();
}
function show() {
  picture.setAttribute("viewBox", view.join(" "));
}
function scale(factor, clientX, clientY) {
  const at = new DOMPoint(clientX, clientY).matrixTransform(picture.getScreenCTM().inverse());
  view = [at.x - (at.x - view[0]) * factor, at.y - (at.y - view[1]) * factor,
    view[2] * factor, view[3] * factor];
  show();
}
function apart() {
  const [a, b] = [...fingers.values()];
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}
function step(factor) {
  scale(factor, innerWidth / 2, innerHeight / 2);
}
document.addEventListener("click", (event) => {
  const figure = event.target.closest("figure");
  const chart = event.target.closest("figure svg");
  // On a phone a tap on a mark asks for its numbers.
  if (chart && event.pointerType === "touch" && event.target.closest("[data-tip]")) return;
  if (chart || (figure && event.target.closest("button"))) enlarge(figure.querySelector("svg"));
});
zoom.querySelector("#closer").addEventListener("click", () => step(1 / 1.5));
zoom.querySelector("#farther").addEventListener("click", () => step(1.5));
zoom.querySelector("#close").addEventListener("click", () => zoom.close());
zoom.addEventListener("wheel", (event) => {
  event.preventDefault();
  scale(event.deltaY > 0 ? 1.2 : 1 / 1.2, event.clientX, event.clientY);
}, { passive: false });
zoom.addEventListener("pointerdown", (event) => {
  if (event.target.closest("svg")) fingers.set(event.pointerId, event);
});
zoom.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  if (fingers.size === 1) {
    const unit = picture.getScreenCTM().a;
    view[0] -= (event.clientX - before.clientX) / unit;
    view[1] -= (event.clientY - before.clientY) / unit;
    fingers.set(event.pointerId, event);
    return show();
  }
  const old = apart();
  fingers.set(event.pointerId, event);
  scale(old / apart(), event.clientX, event.clientY);
});
for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
  zoom.addEventListener(end, (event) => fingers.delete(event.pointerId));
}
