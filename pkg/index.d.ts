// The contract of the package. Codes, names and the JSON forms are stable; messages are for people and may change.

/** What the caller can do about an error. */
export type BuboErrorCode =
  /** An address or file could not be read: check it, or the network, and try again. */
  | "fetch"
  /** Bytes are not what they claim to be: get the file again. */
  | "corrupt"
  /** A model part does not fit its weights: convert the checkpoint again. */
  | "weights"
  /** Tensor shapes that do not go together: a fault of the bundle or of Bubo. */
  | "shape"
  /** What was given cannot be used; the message says what to give instead. */
  | "input"
  /** Known, but not supported; the message says what is. */
  | "unsupported"
  /** There is no usable GPU: load with the device "wasm". */
  | "no-webgpu"
  /** Memory does not suffice: use a smaller bundle or close other programs. */
  | "out-of-memory"
  /** The GPU failed while working: load again. */
  | "gpu"
  /** The caller's AbortSignal stopped the call. */
  | "cancelled"
  /** This Bubo or conversation has ended. */
  | "closed"
  /** A fault of Bubo's own: load again, and please report it. */
  | "internal";

export class BuboError extends Error {
  readonly name: "BuboError";
  readonly code: BuboErrorCode;
}

export interface Progress {
  /** Part that bytes just arrived for. */
  part: string;
  /** Bytes in, of all and of this part. */
  loaded: number;
  total: number;
  partLoaded: number;
  partTotal: number;
  fromCache: boolean;
  bytesPerSecond: number;
  /** Infinity while unknown. */
  secondsLeft: number;
}

export interface LoadOptions {
  /** "auto" (the default): WebGPU on a real GPU, else wasm SIMD. */
  device?: "auto" | "webgpu" | "wasm";
  onProgress?: (progress: Progress) => void;
  /** Called with a part's name when it can be used. */
  onPart?: (part: string) => void;
  signal?: AbortSignal;
}

export interface BundleDescription {
  name: string;
  version: string;
  description: string;
  /** To download when nothing is cached. */
  bytes: number;
  /** Of these, on this device already. */
  cachedBytes: number;
  parts: { name: string; model: string }[];
  licences: { part: string; spdx: string; source: string }[];
}

export interface GenerationOptions {
  maxTokens?: number;
  /** Answers that grow side by side, 1 to 16, of which the likeliest is taken; with more than 1 nothing streams. */
  numBeams?: number;
  /** 0: always the likeliest token. */
  temperature?: number;
  topP?: number;
  topK?: number;
  repetitionPenalty?: number;
  /** The same number gives the same answer. */
  seed?: number;
  /** Whether what boxes, tags and sounds know is computed from them instead of being left to the model; true if left out. */
  evidence?: boolean;
  /**
   * How the answer's phrases are tied to things: by word lists and sentence embeddings (`lexicon`, the default), by asking
   * the language model as BuboGPT does (`model`), or by the lists first and the model where they know nothing (`both`).
   * `original` reads the model's pairs as BuboGPT does: only the first place of a phrase, also within another word.
   */
  matching?: "lexicon" | "model" | "both" | "original";
}

/** Pixels of a picture that belong to a thing. */
export class Mask {
  constructor(json: MaskJson);
  readonly width: number;
  readonly height: number;
  /** Pixels inside. */
  readonly area: number;
  contains(x: number, y: number): boolean;
  /** One byte a pixel, rows from the top. */
  toPixels(value?: number): Uint8Array;
  toImageData(rgb: [number, number, number]): ImageData;
  toJSON(): MaskJson;
}

/** COCO run-length encoding. */
export interface MaskJson {
  size: [height: number, width: number];
  counts: string;
}

export interface Thing {
  /** Lower-case English, or the name that was taught. */
  tag: string;
  aliases: string[];
  /** 0..1 */
  score: number;
  /** Left, top, right, bottom in pixels of the scene's image. */
  box: [number, number, number, number];
  /** null until it is known. */
  mask: Mask | null;
  /** Of outline, label and phrase, `#rrggbb`. */
  color: string;
  /** Within the outline and behind the phrase, `#rrggbb`. */
  lightColor: string;
  /** Whether its name was taught. */
  taught: boolean;
}

/** A picture with what is seen in it. */
export interface Scene {
  /** The picture as the model sees it: upright, at most 2048 pixels a side. */
  image: ImageBitmap;
  width: number;
  height: number;
  originalWidth: number;
  originalHeight: number;
  things: Thing[];
}

export interface Sound {
  /** AudioSet's name of the class, or the name that was taught. */
  tag: string;
  /** In words: "a dog barking". */
  phrase: string;
  score: number;
  /** Seconds. */
  start: number;
  end: number;
  /** Whether it was taught. */
  taught: boolean;
}

/** A sound with what is heard in it. */
export interface Hearing {
  /** One channel, as the model hears it. */
  samples: Float32Array;
  sampleRate: number;
  /** Seconds. */
  duration: number;
  sounds: Sound[];
}

/** A phrase of an answer and the things that it means. */
export interface Entity {
  phrase: string;
  /** In Unicode characters of the answer; `end` is just behind. */
  start: number;
  end: number;
  /** Indices into the answer's things. */
  things: number[];
}

export interface AnswerJson {
  answer: string;
  entities: Entity[];
  things: { tag: string; score: number; box_px: [number, number, number, number]; mask: MaskJson | null; taught?: true }[];
  sounds: { tag: string; score: number; start_s: number; end_s: number; taught?: true }[];
  stats: Record<string, unknown>;
}

export interface Segment {
  text: string;
  entity: Entity | null;
}

export class Answer {
  readonly text: string;
  readonly entities: Entity[];
  readonly things: Thing[];
  readonly sounds: Sound[];
  readonly stats: Record<string, unknown>;
  /** The text cut at its phrases. */
  segments(): Segment[];
  toJSON(): AnswerJson;
}

export interface Stage {
  stage: "detect" | "segment" | "listen" | "read" | "answer" | "match";
  done: number;
  total: number;
}

export type AskEvent =
  | ({ type: "stage" } & Stage)
  /** What comes next is computed from boxes, tags and sounds instead of being left to the language model. */
  | { type: "evidence"; evidence: "identity" | "color" | "presence" | "place" | "count" | "relation" }
  | { type: "token"; text: string }
  | ({ type: "entity" } & Entity)
  | { type: "done"; answer: Answer; stats: Record<string, unknown> };

/** Something that was taught by a few examples. */
export interface TaughtClass {
  name: string;
  /** The broader kind: "dog" for Rex. */
  kind: string | null;
  sense: "picture" | "sound";
  /** How many. */
  examples: number;
  /** How many things that were taken for it and are not. */
  counterexamples: number;
}

export interface Taught {
  classes: TaughtClass[];
  /** Whether things in pictures can be taught to this bundle. */
  pictures: boolean;
  /** Whether sounds can. */
  sounds: boolean;
  /** Why what is taught is not kept on this device; null where it is. */
  fault: string | null;
}

export interface TeachOptions {
  /** A thing of the scene, by its index. */
  thing?: number;
  /** A part of the picture: left, top, right, bottom in pixels of the scene's image, at least 8 each way. */
  box?: [number, number, number, number];
  /** The whole sound, or a stretch of it: begin and end in seconds. Without `thing`, `box` and `sound`, the whole picture. */
  sound?: true | [number, number];
  /** The broader kind, in English: "dog" for Rex. What was taught before is kept where this is left out. */
  kind?: string;
  /** It was taken for what the name stands for, and is not. */
  not?: boolean;
  signal?: AbortSignal;
}

export type ImageSource = Blob | URL | string | ImageBitmapSource;
export type AudioSource = Blob | URL | string | AudioBuffer | { samples: ArrayLike<number>; sampleRate: number };

export class Chat {
  private constructor();
  addImage(source: ImageSource, options?: {
    signal?: AbortSignal;
    /** Called when the picture is decoded, and each time that more is known or something is called otherwise. */
    onScene?: (scene: Scene) => void;
    onStage?: (stage: Stage) => void;
  }): Promise<Scene>;
  addAudio(source: AudioSource, options?: {
    signal?: AbortSignal;
    /** Called when the sound is decoded, and when it has been listened to. */
    onHearing?: (hearing: Hearing) => void;
    onStage?: (stage: Stage) => void;
  }): Promise<Hearing>;
  /**
   * Teaches a name by one example; what is shown and heard is then called by it, and told to `onScene` and `onHearing`.
   * A name with a capital letter, or that begins with a word such as "our", stands for one single thing. Names have at most
   * 40 characters and 4 words; there are at most 64 of a sense, with 24 examples each.
   */
  teach(name: string, options?: TeachOptions): Promise<Taught>;
  /** Leaving the loop stops the work. */
  ask(question: string, options?: GenerationOptions & { signal?: AbortSignal }): AsyncGenerator<AskEvent, void, void>;
  /** Ends the answer under way early: its loop ends with `done` and what there is; `stats.cancelled` is true. */
  stop(): void;
  removeImage(options?: { signal?: AbortSignal }): Promise<void>;
  removeAudio(options?: { signal?: AbortSignal }): Promise<void>;
  clear(options?: { signal?: AbortSignal }): Promise<void>;
}

export class Bubo {
  private constructor();
  /** Reads only the manifest. */
  static describe(url: string | URL, options?: { signal?: AbortSignal }): Promise<BundleDescription>;
  /** Answers at once; commands wait for the parts that they need. */
  static open(url: string | URL, options?: LoadOptions): Promise<Bubo>;
  /** Answers when all is loaded. */
  static load(url: string | URL, options?: LoadOptions): Promise<Bubo>;
  /** Settles when all parts are in. */
  readonly ready: Promise<void>;
  readonly device: "webgpu" | "wasm";
  /** "faulty-gpu": every kernel is tried when a bundle is opened, and this card computed one of them wrongly or failed. */
  readonly deviceReason: "chosen" | "no-webgpu" | "no-adapter" | "software-gpu" | "faulty-gpu" | "real-gpu";
  /** Why nothing can be kept on this device, as in some private windows; null where the bundle is kept. */
  readonly cacheFault: string | null;
  /** Begins a conversation; there is one at a time. */
  chat(options?: GenerationOptions): Chat;
  /** What was taught. It stays on this device, in the page's own storage, and belongs to the bundle's encoders. */
  taught(options?: { signal?: AbortSignal }): Promise<Taught>;
  /** What was taught as a JSON file: names and the encoders' features, no pictures and no sounds. */
  exportTaught(options?: { signal?: AbortSignal }): Promise<Blob>;
  /** Adds what such a file holds; one of another encoder is refused ("unsupported"). */
  importTaught(source: Blob | string, options?: { signal?: AbortSignal }): Promise<Taught>;
  /** Forgets what was taught by one name, or everything. */
  forgetTaught(name?: string, options?: { signal?: AbortSignal }): Promise<Taught>;
  /** Bytes of main memory that the worker has taken so far. */
  memoryBytes(options?: { signal?: AbortSignal }): Promise<number>;
  close(): void;
}

export interface DrawOptions {
  /** Indices of things that light up while the rest dims. */
  highlight?: number | number[];
  labels?: boolean;
  /** In the canvas's pixels. */
  lineWidth?: number;
  fontPx?: number;
}

/** Decodes a picture as `chat.addImage` does, whose source the image can then be; needs no model. */
export function readImage(source: ImageSource, options?: { signal?: AbortSignal }): Promise<Omit<Scene, "things">>;
/** Decodes a sound as `chat.addAudio` does, whose source the result can then be; needs no model. */
export function readAudio(source: AudioSource, options?: { signal?: AbortSignal }): Promise<Omit<Hearing, "sounds">>;

/** Paints the picture, masks, outlines and labels, filling the canvas at its present size. */
export function draw(
  canvas: HTMLCanvasElement | OffscreenCanvas,
  image: CanvasImageSource & { width: number; height: number },
  found: Pick<Scene, "things"> | Answer,
  options?: DrawOptions,
): void;
/** Indices of the things under a point of the picture, the one on top first. */
export function hitTest(things: Thing[], x: number, y: number): number[];
/** Cuts a text at its phrases. */
export function segments(text: string, entities: Entity[]): Segment[];

/** Black or white, whichever is legible on a colour `#rrggbb`. */
export function textOn(color: string): "black" | "white";
