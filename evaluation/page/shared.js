"use strict";
const page = JSON.parse(document.getElementById("data").textContent);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// to four digits, as scores are; of what is larger, as steps, no digit before the point is lost
function show(value) {
  if (value === null || value === undefined) return "–";
  return String(Math.abs(value) < 1000 ? Number(value.toPrecision(4)) : Math.round(value));
}

// a text of the data in a direction of its own, so that its signs and what is beside it stay put
function said(text) { return make("bdi", {}, text || "(empty)"); }

function signed(value) {
  return value === null ? "–" : (value > 0 ? "+" : "") + show(value);
}

function interval(pair, format = show) {
  return pair ? `${format(pair[0])} to ${format(pair[1])}` : "";
}

function table(head, lines) {
  const body = make("tbody");
  for (const cells of lines) body.append(make("tr", {}, ...cells));
  return make("div", { class: "scroll" },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), body));
}

function number(text) { return make("td", { class: "number" }, text); }
