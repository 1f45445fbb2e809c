const SVG = 'http://www.w3.org/2000/svg'

/** What is known of the face in a frame: 'found', 'bridged' (followed through a gap) or 'none'. */
export function faceState(track, frame) {
  if (!track?.corners[frame]) return 'none'
  return track.box[frame] ? 'found' : 'bridged'
}

/** Runs of frames with the same state: [{ state, start, end }], end exclusive. */
export function faceRuns(track, frames) {
  const runs = []
  for (let frame = 0; frame < frames; frame++) {
    const state = faceState(track, frame)
    const last = runs.at(-1)
    if (last?.state === state) last.end = frame + 1
    else runs.push({ state, start: frame, end: frame + 1 })
  }
  return runs
}

/**
 * Draws the crop's outline, the detected box and its points over a picture.
 *
 * Coordinates are pixels of the video, pixel centres at integers, so the picture reaches from -0.5 to width - 0.5.
 */
export class FaceTrackOverlay {
  constructor(svg) {
    this.svg = svg
    this.paths = {}
    // A dark line under each bright one keeps both visible on any picture.
    for (const name of ['crop', 'box', 'points']) {
      this.paths[name] = ['under', 'over'].map((layer) => {
        const path = document.createElementNS(SVG, 'path')
        path.setAttribute('class', `${name} ${layer}`)
        return svg.appendChild(path)
      })
    }
  }

  /** `track` is null (nothing is drawn) or { corners, box, points }: per frame a flat list of numbers or null. */
  load(track, width, height) {
    this.track = track
    this.svg.setAttribute('viewBox', `-0.5 -0.5 ${width} ${height}`)
    this.show(0)
  }

  show(frame) {
    const { corners, box, points } = this.track ?? {}
    this.#draw('crop', closed(corners?.[frame]))
    this.#draw('box', closed(rectangle(box?.[frame])))
    this.#draw('points', dots(points?.[frame]))
    this.svg.dataset.state = faceState(this.track, frame)
  }

  #draw(name, data) {
    for (const path of this.paths[name]) path.setAttribute('d', data)
  }
}

function rectangle(box) {
  if (!box) return null
  const [x1, y1, x2, y2] = box
  return [x1, y1, x2, y1, x2, y2, x1, y2]
}

function pairs(numbers) {
  return Array.from({ length: numbers.length / 2 }, (_, i) => `${numbers[2 * i]} ${numbers[2 * i + 1]}`)
}

function closed(numbers) {
  return numbers ? `M${pairs(numbers).join('L')}Z` : ''
}

/** Lines of no length with round caps: dots that keep their size on screen at any scale. */
function dots(numbers) {
  return numbers ? pairs(numbers).map((point) => `M${point}h0`).join('') : ''
}
