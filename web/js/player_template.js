/** The markup of the player; nothing of it comes from outside. */

const icon = (path) => `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`
export const PLAY = icon('M8 5.5v13l11-6.5z')
export const PAUSE = icon('M7 5h4v14H7zM13 5h4v14h-4z')
const BACK = icon('M6 5h2.6v14H6zM19 5.5v13L9.5 12z')
const FORWARD = icon('M15.4 5H18v14h-2.6zM5 5.5v13l9.5-6.5z')
const LOOP = icon(
  'M7 7h9V4l5 4.5-5 4.5v-3H9v3H6V8zM17 17H8v3l-5-4.5L8 11v3h7v-3h3v5z'
)
export const SOUND = icon(
  'M4 9v6h4l5 4.5v-15L8 9zM15.5 8.5v7a4 4 0 0 0 0-7zM15.5 4.3v2.2a6 6 0 0 1 0 11v2.2a8 8 0 0 0 0-15.4z'
)
export const MUTED = icon(
  'M4 9v6h4l5 4.5v-15L8 9zM15.4 7 19 10.6 22.6 7 24 8.4 20.4 12 24 15.6 22.6 17 19 13.4 15.4 17 14 15.6 17.6 12 14 8.4z'
)
const FULL = icon(
  'M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z'
)

export const TEMPLATE = `
<section class="player empty" tabindex="0" role="group" aria-label="Lip sync preview">
  <p class="hint">Run the workflow: the result appears here, to compare with the frames it was made from.</p>
  <div class="bar">
    <div class="modes" role="group" aria-label="View">
      <button data-mode="wipe">Wipe</button>
      <button data-mode="side">Side by side</button>
      <button data-mode="after">After only</button>
    </div>
    <button class="toggle track" title="Crop, face box and points of each frame (T)">Face track</button>
    <button class="icon full" aria-label="Full screen" title="Full screen">${FULL}</button>
  </div>
  <div class="stage">
    <div class="picture">
      <div class="pane after"><video playsinline preload="auto"></video><svg></svg><span class="tag">After</span></div>
      <div class="pane before"><video playsinline preload="auto"></video><svg></svg><span class="tag">Before</span></div>
      <div class="wipe" tabindex="0" role="slider" aria-label="Border between before and after"
           aria-valuemin="0" aria-valuemax="100"></div>
    </div>
    <p class="message" role="alert" hidden></p>
  </div>
  <div class="timeline">
    <div class="runs" aria-hidden="true"></div>
    <input class="seek" type="range" min="0" step="1" value="0" aria-label="Frame">
  </div>
  <div class="bar">
    <button class="icon play" title="Play or pause (Space)"></button>
    <button class="icon back" aria-label="Previous frame" title="Previous frame (Left; with Shift 10)">${BACK}</button>
    <button class="icon forward" aria-label="Next frame" title="Next frame (Right; with Shift 10)">${FORWARD}</button>
    <button class="icon loop" aria-label="Loop" title="Loop (L)">${LOOP}</button>
    <button class="icon mute" title="Sound of the result (M)"></button>
    <select class="rate" aria-label="Speed" title="Speed">
      ${[0.25, 0.5, 1, 1.5, 2].map((x) => `<option value="${x}"${x === 1 ? ' selected' : ''}>${x}×</option>`).join('')}
    </select>
    <output class="time" aria-live="off"></output>
  </div>
</section>`
