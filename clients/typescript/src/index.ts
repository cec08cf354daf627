/** Client of freqcap, the ad frequency-capping service. */
export { Client } from "./client.js";
export type { CapOptions, Decided, Options, StreamOptions } from "./client.js";
export { FreqcapError, ProblemError, UnavailableError } from "./errors.js";
export type { Reason } from "./errors.js";
export { signPixel } from "./pixel.js";
export type { Pixel } from "./pixel.js";
export type { StreamEvent } from "./stream.js";
export type * from "./types.js";
