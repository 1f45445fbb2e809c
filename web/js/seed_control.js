import { app } from '../../../scripts/app.js'

/** A new node starts with its seed on "fixed": older ComfyUI cannot be told so by the node. */
app.registerExtension({
  name: 'LatentSync.SeedControl',
  nodeCreated(node) {
    if (!node.constructor.comfyClass?.startsWith('LatentSync')) return
    const control = node.widgets?.find(({ name }) => name === 'control_after_generate')
    if (control) control.value = 'fixed'
  }
})
