// Teaching: a name for a thing of the picture, a part of it, or a sound; and what was taught so far.

import { make } from "./conversation.js";
import { Mark } from "./mark.js";
import { number, say, text } from "./strings.js";

const element = (id) => document.getElementById(id);
const SURE_MS = 4000;

/** The form, and the list of what was taught. */
export class TeachPanel {
  #model;
  #current;
  #onError;
  #download;
  #mark;
  /** @type {import("./pkg/index.js").Taught} */
  #taught = { classes: [], pictures: false, sounds: false, fault: null };
  #busy = false;

  /**
   * @param {import("./model.js").ModelPanel} model @param {import("./picture.js").PictureView} picture where a part is marked
   * @param {import("./focus.js").Focus} focus
   * @param {{current: () => {scene: object, hearing: object, show: () => void}, onError: (error: Error) => void, download: (blob: Blob, name: string) => void}} page
   *   `current` tells what the model sees and hears now
   */
  constructor(model, picture, focus, { current, onError, download }) {
    [this.#model, this.#current, this.#onError, this.#download] = [model, current, onError, download];
    this.#mark = new Mark(picture, element("mark"));
    element("teach-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#teach(false);
    });
    element("teach-not").addEventListener("click", () => this.#teach(true));
    element("teach-what").addEventListener("change", () => this.#chosen());
    element("taught-save").addEventListener("click", () => this.#do(async () => this.#download(await this.#model.bubo.exportTaught(), "bubo-taught.json")));
    element("taught-open").addEventListener("click", () => element("taught-file").click());
    element("taught-file").addEventListener("change", ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (file) this.#change((bubo) => bubo.importTaught(file), "taughtImported", { name: file.name });
    });
    element("taught-forget").addEventListener("click", ({ target }) => this.#forgetAll(target));
    focus.listen(() => this.#follow(focus.pinned));
  }

  /** Reads what was taught before; called for each new model. */
  async look(bubo) {
    try {
      this.#taught = await bubo.taught();
    } catch (error) {
      if (error.code !== "closed") this.#onError(error);
    }
    this.show();
  }

  /** Shows what can be taught from now, and what was taught; again after any change. */
  show() {
    const { classes, pictures, sounds } = this.#taught;
    const { scene, hearing } = this.#current();
    const ready = (pictures && scene) || (sounds && hearing);
    element("teach").hidden = !this.#model.started || (!scene && !hearing && classes.length === 0);
    element("teach-form").hidden = !ready;
    element("teach-cannot").hidden = pictures || sounds;
    element("taught-save").hidden = element("taught-forget").hidden = classes.length === 0;
    this.#fillChoices(pictures ? scene : null, sounds ? hearing : null);
    this.#fillList();
    const note = this.#taught.fault ? ["taughtFault", { reason: this.#taught.fault }] : ["taughtKept", {}];
    say(element("taught-note"), ...note);
    element("taught-note").hidden = classes.length === 0 && !this.#taught.fault;
    this.#mark.describe();
  }

  /** Another picture has another middle. */
  forgetMark() {
    this.#mark.end();
  }

  #fillChoices(scene, hearing) {
    const select = element("teach-what");
    const before = select.value;
    const option = (value, words) => Object.assign(make("option", "", words), { value });
    const groups = [];
    if (scene) {
      const things = scene.things.map(({ tag, score }, index) => option(`thing ${index}`, text("teachThing", { n: index + 1, tag, percent: Math.round(100 * score) })));
      groups.push(["picture", [...things, option("part", text("teachPart")), option("picture", text("teachPicture"))]]);
    }
    if (hearing) {
      const stretches = hearing.sounds.map(({ phrase, start, end }) => option(`span ${start} ${end}`, text("teachSpan", { phrase, start: number(start, 1), end: number(end, 1) })));
      groups.push(["sound", [...stretches, option("sound", text("teachSound"))]]);
    }
    select.replaceChildren(...groups.map(([key, options]) => {
      const group = make("optgroup");
      group.label = text(key);
      group.append(...options);
      return group;
    }));
    if ([...select.options].some(({ value }) => value === before)) select.value = before;
    this.#chosen();
  }

  /** What the choice means for the other fields. */
  #chosen() {
    const { value } = element("teach-what");
    const { scene, show } = this.#current();
    if (value === "part" && scene) {
      show();
      this.#mark.start();
    } else {
      this.#mark.end();
    }
    const [kind, index] = value.split(" ");
    const thing = kind === "thing" ? scene?.things[Number(index)] : null;
    element("teach-not").hidden = !thing?.taught;
    if (thing?.taught) say(element("teach-not"), "teachNot", { name: thing.tag });
    element("teach-kind").placeholder = thing && !thing.taught ? thing.tag : "";
  }

  /** A thing that is pinned on the page is what is meant. */
  #follow(pinned) {
    const value = `thing ${pinned[0]}`;
    const select = element("teach-what");
    if (pinned.length === 0 || select.value === value || ![...select.options].some((option) => option.value === value)) return;
    select.value = value;
    this.#chosen();
  }

  async #teach(not) {
    const [kind, ...rest] = element("teach-what").value.split(" ");
    const thing = kind === "thing" ? this.#current().scene?.things[Number(rest[0])] : null;
    const name = not ? thing.tag : element("teach-name").value.trim();
    if (name === "") {
      say(element("teach-status"), "teachNameless");
      element("teach-name").focus();
      return;
    }
    const subject = { thing: { thing: Number(rest[0]) }, part: { box: this.#mark.box }, picture: {}, sound: { sound: true }, span: { sound: rest.map(Number) } }[kind];
    const given = element("teach-kind").value.trim() || (thing && !thing.taught && thing.tag.toLowerCase() !== name.toLowerCase() ? thing.tag : "");
    const options = { ...subject, ...(not ? { not } : given ? { kind: given } : {}) };
    const known = ({ classes }) => classes.find((one) => one.name.toLowerCase() === name.toLowerCase() && one.sense === (subject.sound ? "sound" : "picture"));
    await this.#change(async () => (await this.#model.chat()).teach(name, options), not ? "teachNotDone" : "teachDone", (taught) => ({ name, count: known(taught)?.examples ?? 0 }));
  }

  /** Does something that changes what is taught, and says how it went. */
  async #change(act, key, values) {
    await this.#do(async () => {
      this.#taught = await act(this.#model.bubo);
      if (key.startsWith("teach")) element("teach-name").value = element("teach-kind").value = "";
      this.show();
      say(element("teach-status"), key, typeof values === "function" ? values(this.#taught) : values);
    });
  }

  async #do(act) {
    if (this.#busy) return;
    this.#busy = true;
    element("teach-send").disabled = true;
    say(element("teach-status"), "teachBusy");
    try {
      await act();
      if (element("teach-status").dataset.said?.includes("teachBusy")) say(element("teach-status"), "");
    } catch (error) {
      say(element("teach-status"), "");
      this.#onError(error);
    }
    this.#busy = false;
    element("teach-send").disabled = false;
  }

  #forgetAll(button) {
    if (button.dataset.sure) {
      delete button.dataset.sure;
      say(button, "taughtForget");
      this.#change((bubo) => bubo.forgetTaught(), "taughtForgotten", {});
      return;
    }
    button.dataset.sure = "yes";
    say(button, "taughtSure");
    setTimeout(() => {
      delete button.dataset.sure;
      say(button, "taughtForget");
    }, SURE_MS);
  }

  #fillList() {
    element("taught").replaceChildren(...this.#taught.classes.map(({ name, kind, sense, examples }) => {
      const item = make("li");
      const words = make("span");
      words.append(make("strong", "", name), kind ? ` · ${kind}` : "", make("small", "", text(`taughtFrom_${sense}`, { count: examples })));
      const forget = make("button", "", text("forget"));
      forget.type = "button";
      forget.setAttribute("aria-label", text("forgetName", { name }));
      forget.addEventListener("click", () => this.#change((bubo) => bubo.forgetTaught(name), "taughtGone", { name }));
      item.append(words, forget);
      return item;
    }));
  }
}
