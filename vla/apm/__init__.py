"""APM: a text-to-action language model that acts in the household from summaries of what is seen (arXiv 2306.05696). See `docs/summary.md`."""
