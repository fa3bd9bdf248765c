"""The embedded captioner: a small image-to-text model that the project trains itself and ships. See `docs/summary.md`."""
