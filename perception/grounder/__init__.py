"""The embedded grounder: a small segmenter that the project trains itself and ships. See `docs/grounder.md`."""
