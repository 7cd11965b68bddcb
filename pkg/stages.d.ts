// Diagnostics: each network of a bundle alone, for checks of speed, memory and engines. The names may change.

import type { AudioSource, Bubo, ImageSource } from "./index.js";

/** In the order in which they run. A Q-Former reads what its encoder made, the language model what the Q-Formers made. */
export type StageName =
  | "tagger" | "detector" | "segmenter"
  | "image_encoder" | "image_qformer" | "audio_encoder" | "audio_qformer"
  | "language";

export interface StageOptions {
  /** All that are loaded and whose input is given, unless named. */
  stages?: StageName[];
  image?: ImageSource;
  audio?: AudioSource;
  /** What the detector looks for: "cat" and "dog". */
  phrases?: string[];
  /** What the segmenter outlines, x0, y0, x1, y1 in pixels: the middle of the picture. */
  box?: [number, number, number, number];
  /** What the language model is asked: "What is it?". */
  question?: string;
  /** What it is told before: its own system text. */
  system?: string;
  /** Tokens of its answer: 4. */
  tokens?: number;
  onReport?: (report: StageReport) => void;
  signal?: AbortSignal;
}

export interface StageReport {
  stage: StageName;
  /** From its input in main memory to its outputs in main memory. */
  seconds: number;
  outputs: {
    name: string;
    dims: number[];
    /** Whether every number is finite. */
    finite: boolean;
    /** The root of the mean square. */
    rms: number;
    /** Up to 64 of its numbers, evenly spread from the first to the last. */
    sample: number[];
  }[];
  /** Of the language model only. */
  spoken: { promptTokens: number; readSeconds: number; tokenIds: number[]; decodeSeconds: number } | null;
  gpu: GpuCounters | null;
}

export interface GpuCounters {
  dispatches: number;
  readBacks: number;
  /** Bytes of GPU memory held by weights and living tensors, now. */
  bytesInUse: number;
  /** Bytes of GPU memory held for reuse, now. */
  bytesFree: number;
}

/** Runs stages one after the other, once the bundle is loaded. Works only on models of the paper's system. */
export function runStages(bubo: Bubo, options?: StageOptions): Promise<StageReport[]>;

/** What the GPU did so far and holds now; null on the processor. */
export function gpuCounters(bubo: Bubo): Promise<GpuCounters | null>;

/** Holds every kernel on small inputs against the processor; what failed, null on the processor. */
export function gpuSelfTest(bubo: Bubo): Promise<{ case: string; reason: string }[] | null>;
