// What was found and said, as the caller gets it, and its stable JSON form.

import { Mask } from "./mask.js";

/** Things as the session reports them, as the caller gets them; colours and masks that are known already are kept. */
export function thingsFrom(json, before = []) {
  return json.map((thing, index) => ({
    tag: thing.tag,
    aliases: thing.aliases ?? [],
    score: thing.score,
    box: thing.box_px,
    mask: thing.mask ? sameMask(before[index]?.mask, thing.mask) : null,
    color: thing.color ?? before[index]?.color ?? "#bdbdbd",
    lightColor: thing.light_color ?? before[index]?.lightColor ?? "#eeeeee",
    taught: thing.taught ?? false,
  }));
}

function sameMask(known, json) {
  return known && known.counts === json.counts ? known : new Mask(json);
}

export function soundsFrom(json) {
  return json.map(({ tag, phrase = tag, score, start_s: start, end_s: end, taught = false }) => (
    { tag, phrase, score, start, end, taught }));
}

/** A finished answer. */
export class Answer {
  #json;

  /** @param {object} json the session's own form @param {object[]} things those of the scene, where they are the same */
  constructor(json, things) {
    this.#json = json;
    this.text = json.answer;
    this.entities = json.entities;
    this.things = things;
    this.sounds = soundsFrom(json.sounds ?? []);
    this.stats = json.stats ?? {};
  }

  /** The text cut at its phrases, in order; `entity` is null between them. */
  segments() {
    return segments(this.text, this.entities);
  }

  /** The documented form: offsets in Unicode characters, boxes in pixels, masks as COCO run lengths. */
  toJSON() {
    return structuredClone(this.#json);
  }
}

/** Cuts a text at its phrases. Offsets count Unicode characters, which in JavaScript may take two places each. */
export function segments(text, entities) {
  const characters = Array.from(text);
  const parts = [];
  let at = 0;
  const push = (end, entity) => {
    if (end > at) parts.push({ text: characters.slice(at, end).join(""), entity });
    at = Math.max(at, end);
  };
  for (const entity of [...entities].sort((a, b) => a.start - b.start)) {
    if (entity.start < at) continue;
    push(entity.start, null);
    push(entity.end, entity);
  }
  push(characters.length, null);
  return parts;
}
