// The head of a view.
import { html } from "../dom.js";

export const Head = ({ title, headingRef, children, actions }) => html`<div class="main-head">
  <div><h1 ref=${headingRef} tabindex="-1">${title}</h1>${children && html`<p>${children}</p>`}</div>
  ${actions && html`<div class="row">${actions}</div>`}
</div>`;
