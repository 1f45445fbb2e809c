import { app } from '../../../scripts/app.js'
import { fileUrl, showOutput } from './output_widget.js'
import { translate } from './words.js'

const STYLES = {
  box: 'display: grid; place-items: center; width: 100%; height: 100%; container-type: size',
  frame: `position: relative; width: min(100cqw, 100cqh * var(--ratio)); aspect-ratio: var(--ratio);
    cursor: crosshair`,
  picture: 'display: block; width: 100%; height: 100%',
  mark: `position: absolute; width: 14px; height: 14px; margin: -9px; border: 2px solid #fff; border-radius: 50%;
    box-shadow: 0 0 0 2px #000; pointer-events: none`
}

/** The picture of Track Face, frames above their crops, in which a click says which face to follow. */
class FaceChoice {
  #frame = part('div', 'frame')
  #picture = part('img', 'picture')
  #mark = part('i', 'mark')
  #payload = null

  constructor(node) {
    this.node = node
    this.element = part('div', 'box')
    this.#frame.append(this.#picture, this.#mark)
    this.#frame.title = translate('Click on a face to follow it from the start of each shot')
    this.#picture.dataset.latentsync = 'faces'
    this.#picture.draggable = false
    this.#picture.addEventListener('click', (event) => this.#choose(event))
  }

  get filled() {
    return this.#payload !== null
  }

  heightFor(width) {
    return Math.round((width * this.#payload.height) / this.#payload.width)
  }

  /**
   * @param {object} payload
   * @param {object} payload.picture the file; `payload.width` by `payload.height` pixels
   * @param {number} payload.columns columns of the picture with a frame at the top, `payload.gap` pixels apart
   * @param {[number, number]} payload.frame width and height of the clip in pixels
   */
  load(payload) {
    this.#payload = payload
    this.#picture.src = fileUrl(payload.picture)
    this.#frame.style.setProperty('--ratio', payload.width / payload.height)
    this.#mark.hidden = true
    this.element.replaceChildren(this.#frame)
  }

  destroy() {}

  #choose(event) {
    const { width, columns, gap, frame } = this.#payload
    const shown = this.#picture.getBoundingClientRect()
    const across = (event.clientX - shown.left) / shown.width
    const down = (event.clientY - shown.top) / shown.height
    const column = (width + gap) / columns
    const scale = frame[0] / (column - gap) // pixels of the clip for one of the picture
    const x = ((across * width) % column) * scale
    const y = down * this.#payload.height * scale
    if (x >= frame[0] || y >= frame[1]) return // between two columns, or below on a crop
    for (const [name, value] of Object.entries({ face: 'nearest', x: Math.round(x), y: Math.round(y) })) {
      const widget = this.node.widgets.find((candidate) => candidate.name === name)
      widget.value = value
      widget.callback?.(value, app.canvas, this.node)
    }
    this.#mark.style.left = `${across * 100}%`
    this.#mark.style.top = `${down * 100}%`
    this.#mark.hidden = false
    this.node.setDirtyCanvas(true, true)
  }
}

function part(tag, style) {
  const element = document.createElement(tag)
  element.style.cssText = STYLES[style]
  return element
}

showOutput({
  extension: 'LatentSync.FaceChoice',
  node: 'LatentSyncTrackFace',
  output: 'latentsync_faces',
  create: (node) => new FaceChoice(node),
  heights: [0, 60]
})
