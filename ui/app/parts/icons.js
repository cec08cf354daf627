// Icons, drawn with lines of one width.
import { html } from "../dom.js";

const PATHS = {
  now: "M3 12h4l3-8 4 16 3-8h4",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 4-6 8-6s8 2 8 6",
  rules: "M4 6h10M18 6h2M4 12h4M12 12h8M4 18h12M16 4v4M10 10v4M18 16v4",
  reach: "M4 20V10M10 20V4M16 20v-8M21 20H3",
  over: "M3 15l5-6 4 3 8-8M15 4h5v5M3 20h18",
  access: "M14 10a5 5 0 1 0-3.5 3.5L13 16h3v3h3l2-2v-2l-7-5zM8 7.5v.5",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z",
  off: "M5 5l14 14M12 3a9 9 0 0 1 9 9M12 21a9 9 0 0 1-9-9c0-2.500 1-4.700 2.600-6.400M17.500 19a9 9 0 0 1-2 1.300",
  empty: "M4 7l2-3h12l2 3v12H4zM4 7h5l1 3h4l1-3h5",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.500l5 5L19 7",
  stop: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM6 6l12 12",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.500 1.500M17.500 17.500L19 19M5 19l1.500-1.500M17.500 6.500L19 5",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  plus: "M12 5v14M5 12h14",
};

export const Icon = ({ name, size = 18, className }) => html`<svg
  class=${className} width=${size} height=${size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8"
  stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"
><path d=${PATHS[name]} /></svg>`;
