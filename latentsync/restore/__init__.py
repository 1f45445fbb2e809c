"""Face restoration: more detail in the synced crops, by a published net or a filter that needs none."""
