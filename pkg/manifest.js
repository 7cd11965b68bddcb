// A bundle's manifest, and what of the bundle is on this device.

import { BuboError, cancelled } from "./error.js";

/** Bundle formats that this version reads. */
const FORMATS = [1];

/** What Bubo.describe answers. */
export async function describe(url, signal) {
  const manifest = await fetchManifest(url, signal);
  const files = [...manifest.shards, ...Object.values(manifest.files ?? {})];
  return {
    name: manifest.name,
    version: manifest.version,
    description: manifest.description ?? "",
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    cachedBytes: await cachedBytes(files),
    parts: Object.entries(manifest.parts).map(([name, { model }]) => ({ name, model })),
    licences: manifest.licences ?? [],
  };
}

async function fetchManifest(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal, cache: "no-cache" }).catch(async (cause) => {
      if (!signal?.aborted) return new Response(await cachedManifest(url));
      throw cause;
    });
  } catch (cause) {
    if (signal?.aborted) throw cancelled();
    throw new BuboError("fetch", `the model bundle could not be fetched; check the address and the network: ${url}`, { cause });
  }
  if (!response.ok) {
    throw new BuboError("fetch", `the model bundle's address answered ${response.status}; check that a bundle.json is there: ${url}`);
  }
  let manifest;
  try {
    manifest = await response.json();
  } catch (cause) {
    if (signal?.aborted) throw cancelled();
    throw new BuboError("corrupt", `what lies at the model bundle's address is not a bundle.json; check the address: ${url}`, { cause });
  }
  if (!FORMATS.includes(manifest?.format)) {
    throw new BuboError("unsupported", `the bundle's format is ${JSON.stringify(manifest?.format)}; this version of Bubo knows ${FORMATS.join(", ")}. Use another bundle, or a newer Bubo`);
  }
  if (!Array.isArray(manifest.shards) || typeof manifest.parts !== "object") {
    throw new BuboError("corrupt", `the bundle.json lacks "shards" or "parts"; get it again: ${url}`);
  }
  return manifest;
}

/** The manifest that the worker kept of this address, for days without a network. */
async function cachedManifest(url) {
  const address = new TextEncoder().encode(new URL(url, globalThis.location?.href).href);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", address));
  const key = Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return (await (await cacheFolder()).getFileHandle(`manifest-${key}`)).getFile();
}

/** Where the worker keeps files, under the names of their hashes. */
async function cacheFolder() {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle("bubo");
}

/** Bytes of these files that the worker's cache holds; `.part` marks an unfinished one. */
async function cachedBytes(files) {
  try {
    const folder = await cacheFolder();
    const size = async (name) => (await (await folder.getFileHandle(name)).getFile()).size;
    const sizes = files.map(({ sha256 }) => size(sha256).catch(() => size(`${sha256}.part`)).catch(() => 0));
    return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
  } catch {
    // No storage, or none used yet.
    return 0;
  }
}
