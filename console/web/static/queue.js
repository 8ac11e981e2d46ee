// The order of a lane by dragging; the buttons do the same without it. While something is being dragged the page
// does not renew itself, or it would be pulled out of the hand.
"use strict";

let dragged = null;

const turnOf = (event) => event.target.closest?.(".turn[draggable]");

document.addEventListener("dragstart", (event) => {
  const turn = turnOf(event);
  if (!turn) return;
  dragged = turn;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", turn.dataset.job);
  turn.classList.add("dragged");
});

document.addEventListener("dragover", (event) => {
  const turn = turnOf(event);
  if (!dragged || !turn || turn.parentElement !== dragged.parentElement) return;
  event.preventDefault();
  if (turn === dragged) return;
  const box = turn.getBoundingClientRect();
  const behind = event.clientY > box.top + box.height / 2;
  turn.parentElement.insertBefore(dragged, behind ? turn.nextElementSibling : turn);
});

document.addEventListener("drop", (event) => {
  if (!dragged) return;
  event.preventDefault();
  const before = dragged.previousElementSibling;
  const values = { job: dragged.dataset.job, after: before ? before.dataset.job : 0 };
  htmx.ajax("POST", "/queue/move", { source: document.getElementById("queue"), values, swap: "none" });
});

document.addEventListener("dragend", () => {
  if (!dragged) return;
  dragged.classList.remove("dragged");
  dragged = null;
  // Whatever came of it: the page shows what the ledger has.
  document.body.dispatchEvent(new Event("steered"));
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (dragged && event.detail.requestConfig?.verb === "get") event.preventDefault();
});
