// A modal dialog: the browser keeps the focus in it and closes it with Escape.
import { html, useEffect, useId, useRef } from "../dom.js";
import { Icon } from "./icons.js";

export function Dialog({ title, note, onClose, children, isWide = false }) {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    const dialog = box.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  const onCancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${box} class=${`sheet ${isWide ? "wide" : ""}`} aria-labelledby=${id} onCancel=${onCancel}>
    <header>
      <div><h2 id=${id}>${title}</h2>${note && html`<p class="soft">${note}</p>`}</div>
      <button type="button" class="icon-button" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button>
    </header>
    <div class="body">${children}</div>
  </dialog>`;
}
