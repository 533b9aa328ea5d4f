/** The page's elements by their ids, and helpers that several modules share. */

export const ui = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);

export function create(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Gives an element so many children. Those that stay keep the focus. */
export function resize(element, count, newChild) {
  while (element.children.length > count) element.lastChild.remove();
  while (element.children.length < count) element.append(newChild(element.children.length));
}

/** Sets an element's text if it differs: screen readers announce every write to a live region. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets those properties of an element that differ: each write costs a layout. */
export function update(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (String(element[name]) !== String(value)) element[name] = value;
  }
}

export function onClick(handlers) {
  for (const [id, handler] of Object.entries(handlers)) ui[id].addEventListener("click", handler);
}

export function load(name, storage = "localStorage") {
  try {
    return JSON.parse(window[storage].getItem(name));
  } catch {
    return null; // The browser forbids storage, or another page of this address uses the name.
  }
}

export function save(name, value, storage = "localStorage") {
  try {
    window[storage].setItem(name, JSON.stringify(value));
  } catch {
    // The browser forbids storage: the value lasts as long as the page.
  }
}

export function clamp(value, min, max) {
  return Math.min(Math.max(value, min), max);
}

/** 32 hexadecimal digits. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Short enough to read out. */
export function newSeed() {
  return Math.floor(Math.random() * 1e6);
}

export function pause(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
