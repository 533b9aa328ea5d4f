/** The latest song: what was asked for, its sound, and the file to keep. */
export class Player {
  #root;

  constructor(root) {
    this.#root = root;
  }

  show({ blob, filename }, prompt) {
    const audio = this.#root.querySelector("audio");
    const link = this.#root.querySelector("a");
    URL.revokeObjectURL(audio.src);
    audio.src = URL.createObjectURL(blob);
    Object.assign(link, { href: audio.src, download: filename });
    link.querySelector(".file").textContent = filename;
    this.#root.querySelector("h2").textContent = prompt;
    this.#root.hidden = false;
  }
}
