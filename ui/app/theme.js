// Light, dark, or as the system has it.
import { signal } from "@preact/signals";

const KEY = "freqcap.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** `system`, `light` or `dark`. */
export const choice = signal(localStorage.getItem(KEY) ?? "system");
/** What is shown: `light` or `dark`. */
export const theme = signal("light");

function apply() {
  const root = document.documentElement;
  if (choice.value === "system") delete root.dataset.theme;
  else root.dataset.theme = choice.value;
  theme.value = choice.value === "system" ? (system.matches ? "dark" : "light") : choice.value;
}

export function choose(value) {
  choice.value = value;
  if (value === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, value);
  apply();
}

system.addEventListener("change", apply);
apply();
