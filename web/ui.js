/** The page's elements by their ids, and what many parts of the page do. */

export const ui = Object.fromEntries([...document.querySelectorAll("[id]")].map((it) => [it.id, it]));

/** Writes a text where it changes: screen readers would read it out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells, by their names, elements what a click on them does. */
export function onClick(elements, clicks) {
  for (const [name, click] of Object.entries(clicks)) elements[name].addEventListener("click", click);
}

/** Remembers a value in "sessionStorage" or "localStorage", if one is given, and tells the one there. */
export function memory(storage, name, value = null) {
  try {
    if (value) window[storage].setItem(name, value);
    return window[storage].getItem(name);
  } catch { return value; } // Where nothing may be stored it lasts as long as the page.
}

export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
