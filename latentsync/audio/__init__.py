"""Sound: what the lip-sync net and the SyncNets hear of it."""
