"""Other projects' protocols, one file each, in front of the same policies and the same inference thread."""
