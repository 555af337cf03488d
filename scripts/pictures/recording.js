import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";

const LAST_SECONDS = 4;
const FRAMES_PER_SECOND = 12;

/** What a page shows from now on: a picture whenever it has changed, and when that was. */
export class Recording {
  /** @type {{seconds: number, png: Buffer}[]} */
  #frames = [];
  /** @type {{from: number, to: number, left: number}[]} */
  #waits = [];
  #stopped = false;
  #started = performance.now();

  /** @param {import("playwright-core").Page} page */
  constructor(page) {
    this.page = page;
    this.done = this.#watch();
    this.done.catch(() => {}); // told by stop()
  }

  async #watch() {
    while (!this.#stopped) {
      const seconds = this.#now();
      const png = await this.page.screenshot({ caret: "initial" });
      if (!this.#frames.at(-1)?.png.equals(png)) this.#frames.push({ seconds, png });
      await sleep(60);
    }
  }

  #now() {
    return (performance.now() - this.#started) / 1000;
  }

  /**
   * What takes longer than this many seconds is played as fast as to take no more.
   * @param {Promise<unknown>} work
   */
  async shorten(work, left = 1) {
    const from = this.#now();
    await work;
    if (this.#now() - from > left) this.#waits.push({ from, to: this.#now(), left });
  }

  async stop() {
    this.#stopped = true;
    await this.done;
  }

  /** @param {number} seconds */
  #played(seconds) {
    return this.#waits.reduce((played, { from, to, left }) => {
      const waited = Math.min(Math.max(seconds - from, 0), to - from);
      return played - waited * (1 - left / (to - from));
    }, seconds);
  }

  /**
   * @param {string} folder for pictures on the way
   * @param {string} file
   * @returns {Promise<number>} how many seconds it plays
   */
  async save(folder, file) {
    const starts = this.#frames.map(({ seconds }) => this.#played(seconds));
    const ends = [...starts.slice(1), (starts.at(-1) ?? 0) + LAST_SECONDS];
    const lines = ["ffconcat version 1.0"];
    for (const [index, { png }] of this.#frames.entries()) {
      await writeFile(join(folder, `${index}.png`), png);
      lines.push(`file ${index}.png`, `duration ${((ends[index] ?? 0) - (starts[index] ?? 0)).toFixed(3)}`);
    }
    lines.push(`file ${this.#frames.length - 1}.png`); // the last duration counts only if something follows
    await writeFile(join(folder, "frames.txt"), lines.join("\n"));
    const palette = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=none:diff_mode=rectangle";
    const input = ["-i", join(folder, "frames.txt")];
    await execa("ffmpeg", ["-v", "error", ...input, "-vf", `fps=${FRAMES_PER_SECOND},${palette}`, "-y", file]);
    return ends.at(-1) ?? 0;
  }
}
